"""Headers of an exam's phases beside each other: what the images of one exam have in common."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np

from client.imaging.dicom.phase_times import Phase

SAME = 0.1  # of a value: a scanner may adapt its times a little from phase to phase
UNEQUAL = 0.1  # of the distance between slices
_NAMES = ("scanning sequence", "echo time", "repetition time", "flip angle")  # as `Slice.sequence` has them


def header_remarks(phases: Sequence[Phase]) -> tuple[str, ...]:
    """What the headers of an exam's phases say that cannot be, each with what to do."""
    return (*_sequences(phases), *_dates(phases), *_distances(phases[0]))


def _sequences(phases: Sequence[Phase]) -> list[str]:
    """Phases are images of one sequence: their signal cannot be compared otherwise."""
    unlike = [
        name
        for name, values in zip(_NAMES, zip(*(phase[0].sequence for phase in phases), strict=True), strict=True)
        if not _alike([value for value in values if value])
    ]
    return [f"phases differ in {', '.join(unlike)}; check that they are of one sequence"] * bool(unlike)


def _alike(values: Sequence[str]) -> bool:
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        return len(set(values)) < 2
    return not numbers or max(numbers) - min(numbers) <= SAME * max(map(abs, numbers))


def _dates(phases: Sequence[Phase]) -> list[str]:
    """All phases are of one day, or of the night between two."""
    days = sorted({day for phase in phases if (day := _day(phase[0].acquired_on))})
    if len(days) < 2 or days[-1] - days[0] <= 1:
        return []
    return ["phases were acquired on different days; check that they are of one exam"]


def _day(text: str) -> int | None:
    try:
        return datetime.strptime(text, "%Y%m%d").date().toordinal()
    except ValueError:
        return None


def _distances(phase: Phase) -> list[str]:
    """Slices lie as far apart as their headers say: positions that were rewritten may not."""
    stated = phase[0].between_slices_mm
    if not stated or len(phase) < 2:
        return []
    step = float(np.linalg.norm(np.subtract(phase[1].position_mm, phase[0].position_mm)))
    if abs(step - stated) <= UNEQUAL * stated:
        return []
    return ["the positions of slices are not as far apart as SpacingBetweenSlices says; check which is right"]
