"""Secure aggregation of a study: its terms from the approved settings, and its questions from the study's messages."""

from __future__ import annotations

from typing import Any

from shared_models.agreed import settings_hash
from shared_models.folds import whole_study
from shared_models.messages import EvaluateValidationRequest, Request
from shared_models.messages.parts import Parts
from shared_models.secure_aggregation.choice import named_training_sites
from shared_models.secure_aggregation.parameters import Terms, default_colluders
from shared_models.secure_aggregation.question import Question, hash_arrays
from shared_models.study_settings import StudySettings


def terms_of(config: StudySettings) -> Terms:
    """What a hospital that approves these settings approves of secure aggregation."""
    return Terms(
        approval=settings_hash(config),
        colluders=config.colluders or default_colluders(named_training_sites(config)),
        rounds=config.rounds,
        attempts=config.round_attempts,
        survivor_sets=config.survivor_sets or None,
        update_bound=config.update_bound,
        patients_bound=config.patients_bound,
        study=study_hash(config),
    )


def study_hash(config: StudySettings) -> str:
    """Hash of what the folds of a study share: over how many sets of sites sums are opened counts in all of them.

    Where each site is left out in turn a fold counts by itself, since each has other sites.
    """
    return settings_hash(whole_study(config))


def question_of(request: Request[Any], attempt: int) -> Question:
    """The question that a message asks: every field of it, by hashes.

    What is scored after round r counts to round r + 1, whose training scores the same weights.
    """
    parts = Parts()
    request.write_to(parts)
    model, statistics = (parts.arrays.pop(name, {}) for name in ("model", "statistics"))
    values = {name: value for name, value in parts.values.items() if name != "round"}
    values |= {name: hash_arrays(arrays) for name, arrays in parts.arrays.items() if arrays}
    server_round = request.round + isinstance(request, EvaluateValidationRequest)
    return Question.of(request.KIND, server_round, attempt, model, statistics, values)
