"""Privacy in the approval summary: against whom sums are protected, and what a study spends of the privacy budget."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from client.governance.budget import sums_of
from client.governance.ledger import charges, epsilon, spent
from client.governance.partners import key_fingerprint, partner_points
from client.governance.policy_checks import ledger_of
from client.governance.secure_aggregation.record import Record
from shared_models.folds import trainings
from shared_models.secure_aggregation.study import terms_of

if TYPE_CHECKING:
    from client.config.site import SiteConfig
    from shared_models.study_settings import StudySettings


def protection_of_sums(site: SiteConfig, config: StudySettings) -> Iterator[str]:
    """Against whom secure aggregation holds, and whose keys it takes."""
    terms = terms_of(config)
    yield f"secure aggregation holds against the center and {terms.colluders} of the hospitals together"
    if config.leave_out == "each":
        yield "each hospital is left out in turn: the sums of the folds with this one and without it show its own part"
    most = terms.survivor_sets or "as many as there are hospitals"
    yield f"hospitals may drop out, so that different sets are added up, at most {most}: their difference shows who did"
    keys = partner_points(site)
    yield from (f"verified key of {name}: {key_fingerprint(key)}" for name, key in sorted(keys.items()))
    for name, key in sorted(Record(sums_of(site), terms.approval).pins().items()) if sums_of(site).exists() else ():
        if name not in keys and name != site.site:
            yield f"UNVERIFIED key of {name}, as the center first showed it: {key_fingerprint(key)}"
    if not keys:
        yield "the other hospitals' keys are UNVERIFIED: safe only if the center is honest when it first shows them"


def privacy_spent(site: SiteConfig, config: StudySettings, patients: int) -> Iterator[str]:
    """What the study would spend of the privacy budget, beside what is spent already."""
    from client.training.dp.mechanism import mechanism

    ledger, limit = ledger_of(site), site.policy.limit
    before = spent(ledger, limit)
    if not trains_here(site, config):
        yield "no training here, and none of the privacy budget"
        return
    if config.privacy == "none":
        yield "no differential privacy: what the weights remember of patients is not bounded"
        return
    tested = 1 / config.folds if config.folds else config.test_fraction
    training = max(1, round(patients * (1 - config.validation_fraction - tested)))
    asked = mechanism(config, training, site.policy)
    each = asked.charge(config, 1)
    history = [(line["noise_multiplier"], line["sample_rate"], line["steps"]) for line in charges(ledger)]
    times = trainings(config)
    rounds = 1 if config.canary else config.rounds
    study = (each.noise_multiplier, each.sample_rate, each.steps * rounds * times)
    after = max(before, epsilon([*history, study], limit))
    yield f"differential privacy for each patient: clipping to {asked.clip_norm:g}, noise {asked.noise_multiplier:.3g}"
    yield f"epsilon {before:.2f} spent, about {after:.2f} with it, of {limit.epsilon:g}, at delta {limit.delta:g}"
    folds = f" over {times} folds with training here" if times > 1 else ""
    yield f"(this study alone about {epsilon([study], limit):.2f}{folds}; with some {training} training patients)"
    if config.round_attempts > 1:
        again = (*study[:2], study[2] * config.round_attempts)
        most = min(epsilon([*history, again], limit), limit.epsilon)
        yield f"(at most {most:.2f}, if the center asks for every round {config.round_attempts} times)"
    if after > limit.epsilon:
        yield f"above the ceiling: training here stops when {limit.epsilon:g} is spent, and the study continues without"


def trains_here(site: SiteConfig, config: StudySettings) -> bool:
    """Whether this site would train in the study: its own role and the center's settings both allow it."""
    return not config.trains_nothing and site.role == "train" and site.site not in config.never_train
