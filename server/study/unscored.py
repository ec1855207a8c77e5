"""Studies of whose rounds nobody can judge one: no validation value is known, and the last round is taken as it is.

Without secure aggregation a site tells scores only of `minimum_count` patients of each outcome or more, and a few
validation patients of several sites may be enough together and too few at each.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from server.study.enrolment import Enrolment
from server.study.weights.checkpoint import Checkpoint
from shared_models.secure_aggregation.choice import MIN_SITES, named_training_sites, uses_secure_aggregation
from shared_models.study_settings import StudySettings

MAX_NAMES = 6


def why_unscored(enrolled: Mapping[str, Enrolment], config: StudySettings) -> str:
    """Why a round's weights have no validation value, in a clause.

    Args:
        enrolled: The study's sites.
        config: Its settings.
    """
    patients = {site: one.patients.get("validation", 0) for site, one in sorted(enrolled.items()) if one.trains}
    total = sum(patients.values())
    if total == 0:
        return "no validation patients"
    if uses_secure_aggregation(config):
        return f"{total} validation patients at all sites, whose sum has no score to tell"
    shown = [f"{site} has {count}" for site, count in list(patients.items())[:MAX_NAMES]]
    more = [f"{len(patients) - MAX_NAMES} more sites have their own"] if len(patients) > MAX_NAMES else []
    return (
        "each site has too few validation patients of an outcome to tell their scores (its minimum_count, "
        f"10 unless it says otherwise, of each): {', '.join([*shown, *more])}"
    )


def cure(config: StudySettings) -> str:
    """What to change so that rounds are scored."""
    higher = f"a higher validation-fraction (now {config.validation_fraction:g})"
    if uses_secure_aggregation(config):
        return f"Try {higher}"
    if named_training_sites(config) < MIN_SITES:
        return f"Name {MIN_SITES} or more sites that train in `sites`, so that their scores are summed, or try {higher}"
    return f"Use secure aggregation, so that scores leave in sums over all sites, or try {higher}"


def unscored_so_far(state: Checkpoint, config: StudySettings) -> str:
    """A warning in round 1 where the first weights have no validation value; empty where they have."""
    if not np.isnan(state.values[-1][1]):
        return ""
    return (
        f"no validation value of round {state.round} is known: {why_unscored(state.enrolled, config)}. If that stays "
        f"so, the study takes its last round without judging any. {cure(config)}"
    )


def unscored(last: Checkpoint, config: StudySettings) -> str:
    """That the last round was taken unjudged, why, and what to do; empty where a round was chosen.

    Args:
        last: The study after its last round.
        config: Its settings.
    """
    if last.best_value is not None or last.round == 0:
        return ""
    if any(number > 0 and not np.isnan(value) for number, value in last.values):
        why = f"no round was scored by min-sites = {config.min_sites} sites"
        return f"No round was judged: {why}. The last one is taken, which may have learned its patients by heart."
    return (
        f"No round was judged: {why_unscored(last.enrolled, config)}. The last one is taken, which may have learned "
        f"its patients by heart. {cure(config)}."
    )
