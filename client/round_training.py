"""A round's training at a site around the loop: optimizer, privacy charge, the rule's half, diverged weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from client.errors import ExitCode, SiteError
from client.governance.ledger import charge, spent_on
from client.governance.policy_checks import ledger_of
from client.secure_aggregation import last_summed
from client.session import StudySession
from client.training.dataset import PatientDataset, make_loader
from client.training.dp.mechanism import mechanism
from client.training.dp.optimizer import PrivateOptimizer
from client.training.dp.sampling import PoissonLoader
from client.training.loop import Optimizer, make_optimizer, wide_weights
from client.training.optimizer_state import Moments
from client.training.rule import Half, OwnState, site_rule
from shared_models.agreed import DIVERGED
from shared_models.messages import TrainRequest
from shared_models.messages.fields import MAX_WEIGHT
from shared_models.schedules import at_round
from shared_models.secure_aggregation.choice import uses_secure_aggregation
from shared_models.study_settings import StudySettings
from shared_models.trained_parts import normalisation_names


def require_bounded(model: nn.Module, config: StudySettings, server_round: int) -> None:
    """Keeps weights that no message may hold at the site: they have diverged.

    Raises:
        SiteError: If there are any.
    """
    if all(bool((weight.abs() <= MAX_WEIGHT).all()) for weight in model.parameters()):
        return
    diverged = f"{DIVERGED} in round {server_round} at learning-rate {config.learning_rate:g}"
    raise SiteError(
        what=DIVERGED,
        where=f"study {config.study}, round {server_round}",
        found=f"weights that are not finite or beyond {MAX_WEIGHT:g}, at a learning rate of {config.learning_rate:g}",
        fix="ask the center for a study with a lower learning-rate, or with clip-gradients",
        public=f"{diverged}: a study with a lower one, or with clip-gradients, may not",
        exit_code=ExitCode.STUDY,
    )


def charged_optimizer(
    study: StudySession, model: nn.Module, patients: PatientDataset, server_round: int, half: Half | None
) -> tuple[Optimizer, Iterable[tuple[Any, ...]], Moments]:
    """The optimizer of a round, the batches of its patients, and what has the moments; a private round is charged."""
    config, correct = at_round(study.config, server_round), half.correct if half else None
    if config.privacy == "patient":
        asked = mechanism(config, len(patients), study.site.policy)
        charge(ledger_of(study.site), asked.charge(config, server_round), study.site.policy.limit)
        private = PrivateOptimizer(model, config, asked, correct)
        return private, PoissonLoader(patients, asked), private.moments
    plain = make_optimizer(model.parameters(), config, correct, wide_weights(model))
    return plain, make_loader(patients, config, study.seed(server_round)), plain


def epsilon_spent(study: StudySession) -> dict[str, float]:
    """What the study has spent of the cohort's privacy, this round with it; nothing without private training."""
    if study.config.privacy == "none":
        return {}
    limit = study.site.policy.limit
    return {"epsilon": spent_on(ledger_of(study.site), study.config.study, limit), "delta": limit.delta}


def begin_rule(study: StudySession, model: nn.Module, request: TrainRequest) -> Half | None:
    """A round of the aggregation rule's half at this site; None where the study's rule has none."""
    rule = site_rule(study.config)
    if rule is None:
        return None
    local = normalisation_names(model) if study.config.normalisation == "local" else ()
    summed = last_summed(study, request.round) if uses_secure_aggregation(study.config) else None
    return rule.begin(request.rule_state, model, OwnState(study.site.site, study.rule_folder, local, summed))
