"""Times of phases: their order by the scanner's clocks, and the seconds between them where these can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from operator import attrgetter

from client.imaging.dicom.slice_headers import Slice
from client.imaging.files import PLAUSIBLE_STEP_S

Phase = tuple[Slice, ...]
HALF_A_DAY_S = 43_200.0

_CLOCKS = ("acquired_s", "triggered_s", "created_s")  # when a phase was taken, the most reliable first
_TIMES_OF_DAY = ("acquired_s", "created_s")
_CURE = "set `seconds` if you know when the phases were taken; without, there is no wash-in and no wash-out"


def past_midnight(slices: Sequence[Slice]) -> list[Slice]:
    """The slices with times that continue after midnight; an exam takes less than half a day."""
    for name in _TIMES_OF_DAY:
        known = [time for slice_ in slices if (time := getattr(slice_, name)) is not None]
        if known and max(known) - min(known) > HALF_A_DAY_S:
            times = [getattr(slice_, name) for slice_ in slices]
            later = [time + 2 * HALF_A_DAY_S if time is not None and time < HALF_A_DAY_S else time for time in times]
            slices = [replace(slice_, **{name: time}) for slice_, time in zip(slices, later, strict=True)]
    return list(slices)


def in_time(phases: Sequence[Phase]) -> tuple[tuple[Phase, ...], tuple[float, ...] | None, tuple[str, ...]]:
    """Phases sorted by the first clock that tells all of them apart and contradicts no series' own order.

    Returns:
        The phases, their seconds after the first or None where these cannot be believed, and remarks.
    """
    contradicts = False
    for name in _CLOCKS:
        times = [[attrgetter(name)(slice_) for slice_ in phase] for phase in phases]
        if any(None in row for row in times):
            continue
        starts = [min(row) for row in times]
        order = sorted(range(len(phases)), key=starts.__getitem__)
        names = {phase[0].series for phase in phases}
        own = [[index for index in order if phases[index][0].series == series] for series in names]
        if any(part != sorted(part) for part in own):
            contradicts = contradicts or name == "acquired_s"
        elif len(set(starts)) == len(starts):
            seconds = tuple(starts[index] - min(starts) for index in order)
            exported = name == "created_s" and any(len(set(row)) > 1 for row in times)
            return tuple(phases[index] for index in order), *_believed(seconds, exported)
    remark = f"acquisition times contradict the order of the phases, whose times are unknown: {_CURE}"
    return tuple(phases), None, (remark,) if contradicts else ()


def _believed(seconds: tuple[float, ...], exported: bool) -> tuple[tuple[float, ...] | None, tuple[str, ...]]:
    """A scanner writes one ContentTime for all slices of a phase; an export writes one for each that it makes."""
    if exported and len(seconds) > 1:
        return None, (f"times are those of an export, a ContentTime for each slice: {_CURE}",)
    low, high = PLAUSIBLE_STEP_S
    if all(low <= after - before <= high for before, after in pairwise(seconds)):
        return seconds, ()
    return None, (f"phases are less than {low:g} s or more than {high / 60:g} min apart, as no exam is: {_CURE}",)
