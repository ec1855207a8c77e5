"""Splits that are nearly an earlier one: the difference of two studies' sums would be of the few patients who moved."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from client.cohort.split_file import PARTS, columns_of, read_split
from client.errors import ExitCode, SiteError

FRACTIONS = re.compile(r"\.test-[^-]+\.validation-[^-]+\.csv$")


def require_apart(path: Path, assigned: Mapping[str, str], seed: int, least: int) -> None:
    """Refuses a new split of which a part differs by few patients from one that was drawn of the same name and seed.

    Patients are in the same order in both, so that a slightly larger fraction adds the next ones. A center could move
    one patient of one hospital, whose row and outcome would be the difference of sums, also of sums over hospitals.

    Args:
        path: Where it will be stored.
        assigned: The part of each patient.
        seed: The study's `split-seed`.
        least: Fewest patients by whom a part may differ; the site's `policy.minimum_count`.

    Raises:
        SiteError: If one differs by fewer.
    """
    stem = FRACTIONS.sub("", path.name)
    for other in sorted(path.parent.glob(f"{stem}.test-*.csv")):
        before = {patient: parts[0] for patient, parts in read_split(other, columns_of(0), seed).items()}
        for part in PARTS if other != path else ():
            moved = len(_members(before, part) ^ _members(assigned, part))
            if 0 < moved < least:
                raise _too_near(path, other, part, moved, least)


def _members(assigned: Mapping[str, str], part: str) -> set[str]:
    return {patient for patient, own in assigned.items() if own == part}


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
