"""Settings of a comparison of two finished studies at the center."""

from __future__ import annotations

from typing import TYPE_CHECKING

from server.errors import CenterError, ExitCode
from server.operations.center import Center
from server.operations.validation import network_of
from server.study.weights.checkpoint import load_checkpoint
from shared_models.comparison import comparison_settings

if TYPE_CHECKING:
    from shared_models.study_settings import StudySettings


def comparison_of(center: Center, studies: tuple[str, str], checkpoint: str, sites: str) -> StudySettings:
    """The settings of a comparison, as hospitals approve them.

    Args:
        center: The center.
        studies: Names of the two studies.
        checkpoint: `best` or `last`, of both.
        sites: Names of hospitals, separated by commas; empty for those that took part in both studies.

    Raises:
        CenterError: If a hospital is named that did not take part in both.
        ModelFileError: If a checkpoint cannot be used.
        SettingsError: If the studies cannot be compared.
    """
    first, second = (network_of(center, study, checkpoint) for study in studies)
    enrolled = [load_checkpoint(center.results / study / f"{checkpoint}.safetensors").enrolled for study in studies]
    both = sorted(enrolled[0].keys() & enrolled[1].keys())
    names = list(dict.fromkeys(name.strip() for name in sites.split(",") if name.strip())) or both
    if not names or (others := sorted({*names} - {*both})):
        raise CenterError(
            what="only hospitals that took part in both studies have the test patients of both",
            where="--sites" if names else " and ".join(studies),
            found=f"{', '.join(others)} did not" if names else "no hospital did",
            expected=f"some of {', '.join(both)}" if both else "two studies with hospitals in common",
            exit_code=ExitCode.USAGE,
        )
    return comparison_settings(first, second, names)
