"""Splits that are nearly an earlier one: the difference of two studies' sums would be of the few patients who moved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from client.cohort.split_file import PARTS, Parts, SplitFile, read_split
from client.errors import ExitCode, SiteError


def require_apart(file: SplitFile, assigned: Mapping[str, Parts], seed: int, least: int) -> None:
    """Refuses a new split of which a part differs by few patients from one that other fractions gave.

    Patients are in the same order in both, so that a slightly larger fraction adds the next ones. A center could move
    one patient of one hospital, whose row and outcome would be the difference of sums, also of sums over hospitals.
    Patients who are in one of them only came or went at the hospital, and no fraction moved them.

    Args:
        file: Where it will be stored.
        assigned: The parts of each patient.
        seed: The study's `split-seed`.
        least: Fewest patients by whom a part may differ; the site's `policy.minimum_count`.

    Raises:
        SiteError: If one differs by fewer.
    """
    for other in sorted(file.path.parent.glob(file.of_any_fractions)):
        before = read_split(other, file.columns, seed)
        pairs = [(before[patient], assigned[patient]) for patient in before.keys() & assigned.keys()]
        for column, name in enumerate(file.columns):
            for part in PARTS:
                moved = sum((old[column] == part) != (new[column] == part) for old, new in pairs)
                if 0 < moved < least:
                    where = f"{part} of {name}" if len(file.columns) > 1 else part
                    raise _too_near(file.path, other, where, moved, least)


def _too_near(path: Path, other: Path, part: str, moved: int, least: int) -> SiteError:
    return SiteError(
        what="the study's split is nearly that of an earlier study, so that sums of both would tell of few patients",
        where=f"{path}; the earlier one is {other.name}",
        found=f"{moved} patients by whom the part {part} differs",
        expected=f"the same parts, or {least} patients or more (minimum_count)",
        fix="ask the center for the earlier fractions, or for a split of another name (`split`)",
        public="the study's split is nearly an earlier one: use its test-fraction and validation-fraction, or another "
        "name (`split`)",
        exit_code=ExitCode.STUDY,
    )
