"""Phases of a dynamic DICOM exam, sorted from a patient's slices.

Scanners count phases in different ways, and none of the numbers can be relied on alone. What holds for all is that
each phase has every position exactly once, so the slices are put in order at each position.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from client.errors import SiteError
from client.imaging.dicom.exam_choice import Wanted, choose, without_copies
from client.imaging.dicom.phase_headers import header_remarks
from client.imaging.dicom.phase_times import Phase, in_time, past_midnight
from client.imaging.dicom.slice_headers import Slice
from client.imaging.files import SAME_GEOMETRY, bad_file

SAME_POSITION_MM = 0.02
UNEVEN = 0.1  # of the distance between slices; headers round positions

# What tells the slices at one position apart, the most reliable first.
_ORDERS = ("temporal_position", "acquisition", "triggered_s", "acquired_s", "created_s", "instance")


class DynamicSeries(NamedTuple):
    """The phases of an exam.

    Attributes:
        phases: In the order of time; each of slices sorted by position along their normal.
        seconds: When each began, after the first; None where the headers do not say.
        remarks: What a person should know of the choice.
    """

    phases: tuple[Phase, ...]
    seconds: tuple[float, ...] | None
    remarks: tuple[str, ...]


def dynamic_phases(slices: Sequence[Slice], wanted: Wanted, folder: Path) -> DynamicSeries:
    """The phases of a patient's dynamic exam.

    Args:
        slices: All MR slices of the patient.
        wanted: What the site says of the exam.
        folder: Where the files are, for messages.

    Raises:
        SiteError: If there is no such series, or it is not clear which, or its slices do not make whole phases.
    """
    single, copies = without_copies(slices)
    chosen = past_midnight(choose(single, wanted, folder))
    _check_one_patient(chosen, folder)
    parts = [[slice_ for slice_ in chosen if slice_.series == name] for name in {slice_.series for slice_ in chosen}]
    phases = [
        phase
        for part in sorted(parts, key=lambda part: (part[0].series_number, part[0].series))
        for phase in _split(part)
    ]
    for phase in phases:
        _check_stack(phase)
    ordered, seconds, remarks = in_time(phases)
    remarks += header_remarks(ordered)
    if copies:
        remarks += ("images that were exported twice are used once",)
    return DynamicSeries(ordered, seconds, remarks + _earlier_series(single, chosen, ordered[0]))


def _check_one_patient(slices: Sequence[Slice], folder: Path) -> None:
    count = len({slice_.patient for slice_ in slices} - {""})
    if count > 1:
        raise SiteError(
            what="the images of an exam are of several patients",
            where=str(folder),
            found=f"{count} different PatientIDs in the dynamic series",
            expected="images of one patient",
            fix="move the other patient's files out of the folder, or export the exam again",
            public="an image of the site cannot be used",
        )


def _earlier_series(slices: Sequence[Slice], chosen: Sequence[Slice], first: Phase) -> tuple[str, ...]:
    """A remark where a series of its own may be the pre-contrast phase: the same sequence and grid, and earlier."""
    used, study = {slice_.series for slice_ in chosen}, chosen[0].study
    others = {slice_.series for slice_ in slices if slice_.original and slice_.study == study} - used
    for name in others:
        part = [slice_ for slice_ in slices if slice_.series == name]
        if len(part) == len(first) and _same_grid(part, first) and _is_before(part, first):
            names = " / ".join(filter(None, part[0].names))
            return (
                f"the series {names!r} is earlier and on the same grid: if it is the pre-contrast phase, set `series` "
                "to fit it, too",
            )
    return ()


def _same_grid(part: Sequence[Slice], phase: Phase) -> bool:
    one, other = part[0], phase[0]
    alike = one.shape == other.shape and one.kind == other.kind
    unlike = any(a and b and a != b for a, b in zip(one.sequence, other.sequence, strict=True))
    if unlike or not (
        alike and np.allclose(one.axes + one.spacing_mm, other.axes + other.spacing_mm, atol=SAME_GEOMETRY)
    ):
        return False
    return bool(np.allclose(np.sort(_distances(part)), np.sort(_distances(phase)), atol=SAME_POSITION_MM))


def _is_before(part: Sequence[Slice], phase: Phase) -> bool:
    earlier, later = ([s.acquired_s for s in group if s.acquired_s is not None] for group in (part, phase))
    if not earlier or not later:
        return part[0].series_number < phase[0].series_number
    return min(earlier) < min(later)


def _split(slices: Sequence[Slice]) -> list[Phase]:
    """One series' slices as phases."""
    _check_alike(slices)
    places = _by_position(slices)
    count = int(np.bincount([len(place) for place in places]).argmax())
    if odd := [place for place in places if len(place) != count]:
        raise _uneven_phases(odd, len(places), count)
    if count == 1:
        return [tuple(place[0] for place in places)]
    _check_temporal_positions(places, count)
    for order in map(attrgetter, _ORDERS):
        values = [{order(slice_) for slice_ in place} for place in places]
        if all(None not in keys and len(keys) == count for keys in values):
            ranked = [sorted(place, key=order) for place in places]
            return [tuple(place[phase] for place in ranked) for phase in range(count)]
    raise bad_file(
        places[0][1].path,
        "duplicate slices",
        f"{count} images at each of {len(places)} positions that no header tells apart",
        "images of one position that differ in temporal position, acquisition, time or instance number",
    )


def _check_temporal_positions(places: Sequence[Sequence[Slice]], count: int) -> None:
    """Refuses two images of one place in one temporal position: whatever tells them apart, they are no two phases."""
    for place in places:
        positions = {slice_.temporal_position for slice_ in place}
        if None not in positions and 1 < len(positions) < count:
            raise bad_file(
                place[0].path,
                "two images are in one temporal position",
                f"{count} images in {len(positions)} temporal positions at {_distances(place)[0]:.1f} mm",
                "one image of each position in each phase",
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
        if len(wrong) == 1 and min(wrong[0] + 1, len(phase) - wrong[0] - 1) > 2 and steps[wrong[0]] > 3 * step:
            raise _two_stacks(phase, distance, int(wrong[0]))
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


def _two_stacks(phase: Phase, distance: NDArray[np.float64], at: int) -> SiteError:
    """The error of both breasts in one series, as of sagittal exams."""
    return SiteError(
        "a phase has two stacks of slices, as of both breasts",
        where=str(phase[0].path.parent),
        found=f"{distance[0]:.1f} to {distance[at]:.1f} mm, and {distance[at + 1]:.1f} to {distance[-1]:.1f} mm",
        expected="one stack",
        fix="export each breast as a series of its own, and set `series` to fit that of the tumour's side",
        public="an image of the site cannot be used",
    )
