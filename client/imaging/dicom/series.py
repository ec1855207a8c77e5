"""Phases of a dynamic DICOM exam, sorted from a patient's slices.

Scanners count phases in different ways, and none of the numbers can be relied on alone. What holds for all is that
each phase has every position exactly once, so the slices are put in order at each position.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.errors import SiteError
from client.imaging.dicom.headers import Slice
from client.imaging.files import SAME_GEOMETRY, bad_file

Phase = tuple[Slice, ...]
SAME_POSITION_MM = 0.02
UNEVEN = 0.1  # of the distance between slices; headers round positions
HALF_A_DAY_S = 43_200.0

# What tells the slices at one position apart, the most reliable first; and what says when a phase was taken.
_ORDERS = ("temporal_position", "acquisition", "triggered_s", "acquired_s", "created_s", "instance")
_CLOCKS = ("acquired_s", "triggered_s", "created_s")
_TIMES_OF_DAY = ("acquired_s", "created_s")


def dynamic_phases(
    slices: Sequence[Slice], series: str | None, folder: Path
) -> tuple[tuple[Phase, ...], tuple[float, ...] | None]:
    """The phases in the order of time, and when each began in seconds after the first.

    Args:
        slices: All MR slices of the patient.
        series: A regular expression for the series' description or its protocol's name; several series are phases of
            one exam. None takes the only dynamic one.
        folder: Where the files stand, for messages.

    Returns:
        Phases of slices sorted by position along their normal; the times are None where the headers do not say.

    Raises:
        SiteError: If there is no such series, or it is not clear which, or its slices do not make whole phases.
    """
    chosen = _past_midnight(_chosen(slices, series, folder))
    parts = [[slice_ for slice_ in chosen if slice_.series == name] for name in {slice_.series for slice_ in chosen}]
    phases = [
        phase
        for part in sorted(parts, key=lambda part: (part[0].series_number, part[0].series))
        for phase in _split(part)
    ]
    for phase in phases:
        _check_stack(phase)
    return _in_time(phases)


def _chosen(slices: Sequence[Slice], series: str | None, folder: Path) -> list[Slice]:
    """The slices of the series that are wanted; what a scanner made goes before what was computed from it."""
    found: dict[str, list[Slice]] = defaultdict(list)
    for slice_ in slices:
        found[slice_.series].append(slice_)
    if series is not None:
        fitting = [part for part in found.values() if any(re.search(series, name) for name in part[0].names)]
        chosen = [part for part in fitting if part[0].original] or fitting
        if chosen:
            return [slice_ for part in chosen for slice_ in part]
        raise _unclear(folder, "no series fits `series`", found, f"a description or protocol that fits {series!r}")
    original = [part for part in found.values() if part[0].original]
    dynamic = [part for part in original if len(part) > len({_rounded(slice_.position_mm) for slice_ in part})]
    chosen = dynamic or original
    if len(chosen) == 1:
        return chosen[0]
    what = "it is not clear which series is the dynamic one" if chosen else "there is no MR series"
    raise _unclear(folder, what, found, "one series with several images at each position")


def _rounded(position_mm: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(value, 1) for value in position_mm)


def _unclear(folder: Path, what: str, found: Mapping[str, Sequence[Slice]], expected: str) -> SiteError:
    shown = [f"{' / '.join(filter(None, part[0].names))!r} ({len(part)} images)" for part in found.values()]
    more = f" and {len(shown) - 12} more" if len(shown) > 12 else ""
    return SiteError(
        what,
        where=str(folder),
        found=("; ".join(sorted(shown)[:12]) + more) or "no MR images with a position",
        expected=expected,
        fix="set `series` to a regular expression that fits the dynamic series and no other",
        public="an image of the site cannot be used",
    )


def _split(slices: Sequence[Slice]) -> list[Phase]:
    """One series' slices as phases."""
    _check_alike(slices)
    places = _by_position(slices)
    count = int(np.bincount([len(place) for place in places]).argmax())
    if odd := [place for place in places if len(place) != count]:
        raise _uneven_phases(odd, len(places), count)
    if count == 1:
        return [tuple(place[0] for place in places)]
    for order in map(attrgetter, _ORDERS):
        values = [{order(slice_) for slice_ in place} for place in places]
        if all(None not in found and len(found) == count for found in values):
            ranked = [sorted(place, key=order) for place in places]
            return [tuple(place[phase] for place in ranked) for phase in range(count)]
    raise bad_file(
        places[0][1].path,
        "duplicate slices",
        f"{count} images at each of {len(places)} positions that no header tells apart",
        "images of one position that differ in temporal position, acquisition, time or instance number",
    )


def _by_position(slices: Sequence[Slice]) -> list[list[Slice]]:
    """The slices at each position, along the normal."""
    distance = _distances(slices)
    order = np.argsort(distance, kind="stable")
    starts = np.flatnonzero(np.diff(distance[order]) > SAME_POSITION_MM) + 1
    return [[slices[index] for index in group] for group in np.split(order, starts)]


def _distances(slices: Sequence[Slice]) -> NDArray[np.float64]:
    """Positions along the slices' normal, in mm."""
    return np.asarray([slice_.position_mm for slice_ in slices]) @ normal(slices[0])


def normal(slice_: Slice) -> NDArray[np.float64]:
    """The direction in which slices are stacked."""
    return np.cross(slice_.axes[:3], slice_.axes[3:])


def _check_alike(slices: Sequence[Slice]) -> None:
    looks: dict[str, Callable[[Slice], tuple[float, ...]]] = {
        "size": lambda slice_: slice_.shape,
        "orientation": lambda slice_: slice_.axes,
        "spacing": lambda slice_: slice_.spacing_mm,
    }
    for what, look in looks.items():
        values = np.asarray([look(slice_) for slice_ in slices])
        other = np.flatnonzero(~np.isclose(values, values[0], atol=SAME_GEOMETRY).all(axis=1))
        if len(other):
            found = f"{tuple(values[other[0]].tolist())} in {len(other)} of {len(slices)} images"
            raise bad_file(
                slices[other[0]].path,
                f"slices of a series differ in {what}",
                found,
                f"{tuple(values[0].tolist())}, as in {slices[0].path.name}",
            )


def _uneven_phases(odd: Sequence[Sequence[Slice]], positions: int, count: int) -> SiteError:
    fewer, worst = any(len(place) < count for place in odd), odd[0]
    return bad_file(
        worst[0].path,
        "slices are missing, or phases have different numbers of slices" if fewer else "duplicate slices",
        f"{len(worst)} images at {_distances(worst)[0]:.1f} mm, and so at {len(odd)} of {positions} positions",
        f"{count} images at each position, one a phase",
    )


def _check_stack(phase: Phase) -> None:
    """Refuses a phase whose slices are not stacked evenly along their normal."""
    first, distance = phase[0], _distances(phase)
    if len(phase) < 2:
        raise bad_file(first.path, "a phase has one slice", "1 position", "a stack of slices")
    steps = np.diff(distance)
    step = float(np.median(steps))
    if len(wrong := np.flatnonzero(np.abs(steps - step) > UNEVEN * step)):
        at, times = wrong[0], steps[wrong[0]] / step
        gap = times > 1.5 and abs(times - round(times)) < UNEVEN * times
        raise bad_file(
            phase[at].path,
            f"{round(times) - 1} slices are missing" if gap else "slices are not evenly spaced",
            f"{steps[at]:.2f} mm from the slice at {distance[at]:.1f} mm to the next one",
            f"{step:.2f} mm, as between the others",
        )
    along = np.asarray(first.position_mm) + np.outer(distance - distance[0], normal(first))
    aside = np.abs(np.asarray([slice_.position_mm for slice_ in phase]) - along).max()
    if aside > UNEVEN * step:
        raise bad_file(
            first.path, "slices are not stacked along their normal", f"{aside:.2f} mm aside", "a straight stack"
        )


def _past_midnight(slices: Sequence[Slice]) -> list[Slice]:
    """The slices with times that go on after midnight; an exam takes less than half a day."""
    for name in _TIMES_OF_DAY:
        known = [time for slice_ in slices if (time := getattr(slice_, name)) is not None]
        if known and max(known) - min(known) > HALF_A_DAY_S:
            times = [getattr(slice_, name) for slice_ in slices]
            later = [time + 2 * HALF_A_DAY_S if time is not None and time < HALF_A_DAY_S else time for time in times]
            slices = [replace(slice_, **{name: time}) for slice_, time in zip(slices, later, strict=True)]
    return list(slices)


def _in_time(phases: Sequence[Phase]) -> tuple[tuple[Phase, ...], tuple[float, ...] | None]:
    """Sorts phases by the first clock that tells all of them apart and contradicts no series' own order."""
    for clock in map(attrgetter, _CLOCKS):
        times = [[clock(slice_) for slice_ in phase] for phase in phases]
        if any(None in row for row in times):
            continue
        starts = [min(row) for row in times]
        order = sorted(range(len(phases)), key=starts.__getitem__)
        names = {phase[0].series for phase in phases}
        own = [[index for index in order if phases[index][0].series == name] for name in names]
        if len(set(starts)) == len(starts) and all(part == sorted(part) for part in own):
            return tuple(phases[index] for index in order), tuple(starts[index] - min(starts) for index in order)
    return tuple(phases), None
