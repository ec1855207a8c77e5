"""Choice of secure aggregation in a study: its setting, or the result of `auto`."""

from __future__ import annotations

from shared_models.folds import FoldSettings
from shared_models.study_settings import StudySettings

MIN_SITES = 3
NEEDS_SINGLE_UPDATES = frozenset({"fedmedian", "trimmed-mean", "krum"})
"""Strategies that need each site's update."""


def choose_secure_aggregation(settings: StudySettings, training_sites: int) -> tuple[bool, str]:
    """Decides, and says why in the hospital's words.

    Args:
        settings: The study's.
        training_sites: How many sites give updates; of the approval, never of who is there.

    Returns:
        Whether they are sums, and a sentence for the approval page.
    """
    if settings.secure_aggregation == "on":
        return True, "secure aggregation: the study asks for it"
    if settings.secure_aggregation == "off":
        return False, "no secure aggregation: the study turns it off; the center sees all of this site by site"
    if settings.harmonisation == "combat":
        return (
            False,
            "no secure aggregation: ComBat needs each site's sums; the center sees all of this site by site",
        )
    if settings.strategy in NEEDS_SINGLE_UPDATES:
        why = f"{settings.strategy} compares single updates"
        return False, f"no secure aggregation: {why}; the center sees all of this site by site"
    if training_sites < MIN_SITES:
        why = f"{training_sites} sites train, and of two sites each knows the other's part from the sum"
        return False, f"no secure aggregation: {why}; the center sees all of this site by site"
    return (
        True,
        f"secure aggregation: {training_sites} sites train, and nothing in the study needs one site's own numbers",
    )


def named_training_sites(settings: StudySettings) -> int:
    """How many sites are sure to train, as the settings alone say: those they name, or else the fewest of a round.

    Of a study that leaves out each site in turn one fewer, as in each of its folds.
    """
    named = set(settings.expected_sites) - set(settings.never_train)
    left_out = settings.leave_out == "each" and not isinstance(settings, FoldSettings)
    return len(named) - left_out if settings.expected_sites else settings.min_sites


def uses_secure_aggregation(settings: StudySettings) -> bool:
    """The choice that follows from the settings alone, so that center and sites make the same one."""
    return choose_secure_aggregation(settings, named_training_sites(settings))[0]


def sends_changes(settings: StudySettings) -> bool:
    """Whether a site sends what training changed of each weight, rounded, in place of the weights themselves.

    With secure aggregation the change is a whole number already, which is masked as it is.
    """
    return settings.wire == "bfloat16" and not uses_secure_aggregation(settings)
