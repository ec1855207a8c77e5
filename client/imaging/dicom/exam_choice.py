"""Images of the dynamic exam among a patient's: one study, one series or more, one kind, each image once."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from client.errors import SiteError
from client.imaging.dicom.dicom_files import digest_of_end
from client.imaging.dicom.slice_headers import Slice

Study = Literal["first", "last"]


@dataclass(frozen=True)
class Wanted:
    """What a site says of its dynamic exams.

    Attributes:
        series: A regular expression for the series' description or its protocol's name; several series are phases of
            one exam. None takes the only dynamic one.
        image_type: A value of ImageType that its images have, or None.
        study: Which of several studies with such a series, by date; None where a patient has one.
    """

    series: str | None = None
    image_type: str | None = None
    study: Study | None = None


def choose(slices: Sequence[Slice], wanted: Wanted, folder: Path) -> list[Slice]:
    """The images of the exam.

    Args:
        slices: All MR slices of the patient, each once.
        wanted: What the site says.
        folder: Where the files are, for messages.

    Raises:
        SiteError: If there is no such series, or it is not clear which, or its images are of several kinds.
    """
    studies = _grouped(slices, lambda slice_: slice_.study_date or slice_.study)
    chosen: dict[Hashable, list[Slice]] = {}
    errors = []
    for study, part in studies.items():
        try:
            chosen[study] = _series(part, wanted.series, folder)
        except SiteError as error:
            errors.append(error)
    if not chosen:
        raise errors[0] if len(errors) == 1 else _unclear(folder, "there is no MR series", slices)
    if len(chosen) > 1:
        return _of_one_kind(_of_study(chosen, wanted.study, folder), wanted.image_type, folder)
    return _of_one_kind(next(iter(chosen.values())), wanted.image_type, folder)


def without_copies(slices: Sequence[Slice]) -> tuple[list[Slice], int]:
    """The slices without those that say and show the same as one before, as of an exam that was exported twice.

    Returns:
        The slices, and how many were left out.
    """
    alike = _grouped(slices, _but_for_names).values()
    copies: set[int] = set()
    for group in alike:
        seen: set[bytes] = set()
        for slice_ in group if len(group) > 1 else ():
            pixels = digest_of_end(slice_.path, slice_.pixel_bytes)
            copies |= {id(slice_)} if pixels in seen else set()
            seen.add(pixels)
    return [slice_ for slice_ in slices if id(slice_) not in copies], len(copies)


def _but_for_names(slice_: Slice) -> Hashable:
    """All but the UIDs, which an export may replace."""
    numbers = (slice_.frame, slice_.instance, slice_.temporal_position, slice_.acquisition, slice_.series_number)
    times = (slice_.study_date, slice_.triggered_s, slice_.acquired_s, slice_.created_s)
    return (
        slice_.position_mm,
        slice_.axes,
        slice_.shape,
        slice_.kind,
        slice_.names,
        slice_.pixel_bytes,
        numbers,
        times,
    )


def _grouped(slices: Iterable[Slice], key: Callable[[Slice], Hashable]) -> dict[Hashable, list[Slice]]:
    groups: dict[Hashable, list[Slice]] = defaultdict(list)
    for slice_ in slices:
        groups[key(slice_)].append(slice_)
    return groups


def _of_study(studies: Mapping[Hashable, list[Slice]], study: Study | None, folder: Path) -> list[Slice]:
    dates = sorted({part[0].study_date for part in studies.values()})
    if study is None or "" in dates:
        listed = " and ".join(f"{date[:4]}-{date[4:6]}-{date[6:]}" for date in dates if date) or "unknown dates"
        raise SiteError(
            what="several exams of one patient",
            where=str(folder),
            found=f"dynamic series in studies of {listed}",
            expected="one exam a patient",
            fix="set `study: first` or `study: last`, or move the other study out of data_root",
            public="an image of the site cannot be used",
        )
    return next(part for part in studies.values() if part[0].study_date == dates[0 if study == "first" else -1])


def _series(slices: Sequence[Slice], series: str | None, folder: Path) -> list[Slice]:
    """The slices of the series that are wanted; what a scanner made goes before what was computed from it."""
    by_series = _grouped(slices, lambda slice_: slice_.series)
    if series is not None:
        fitting = [part for part in by_series.values() if any(re.search(series, name) for name in part[0].names)]
        chosen = [part for part in fitting if part[0].original] or fitting
        if chosen:
            return [slice_ for part in chosen for slice_ in part]
        raise _unclear(folder, "no series fits `series`", slices, f"a description or protocol that fits {series!r}")
    original = [part for part in by_series.values() if part[0].original]
    dynamic = [part for part in original if len(part) > len({_rounded(slice_.position_mm) for slice_ in part})]
    chosen = dynamic or original
    if len(chosen) == 1:
        return chosen[0]
    what = "it is not clear which series is the dynamic one" if chosen else "there is no MR series"
    raise _unclear(folder, what, slices)


def _rounded(position_mm: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(value, 1) for value in position_mm)


def _of_one_kind(slices: list[Slice], image_type: str | None, folder: Path) -> list[Slice]:
    """Images that differ in kind are no phases of each other: water and fat, magnitude and phase, two echoes."""
    kinds = _grouped(slices, lambda slice_: slice_.kind)
    if image_type is not None:
        kinds = {kind: part for kind, part in kinds.items() if image_type.upper() in str(kind).upper().split("\\")}
    if len(kinds) == 1:
        return next(iter(kinds.values()))
    named = _grouped(slices, lambda slice_: slice_.kind)
    shown = "; ".join(sorted(f"{kind or 'no kind'} ({len(part)} images)" for kind, part in named.items()))
    raise SiteError(
        "the images of the dynamic series are of several kinds" if kinds else "no image has the wanted `image_type`",
        where=str(folder),
        found=f"in ImageType and echo: {shown}",
        expected="images of one kind, a phase after the other",
        fix="set `image_type` to a value that only the wanted images have, as W for water or M for magnitude; or "
        "`series` to an expression that fits them alone",
        public="an image of the site cannot be used",
    )


def _unclear(
    folder: Path, what: str, slices: Sequence[Slice], expected: str = "one series with several images at each position"
) -> SiteError:
    groups = _grouped(slices, lambda slice_: slice_.series)
    shown = [f"{' / '.join(filter(None, part[0].names))!r} ({len(part)} images)" for part in groups.values()]
    more = f" and {len(shown) - 12} more" if len(shown) > 12 else ""
    return SiteError(
        what,
        where=str(folder),
        found=("; ".join(sorted(shown)[:12]) + more) or "no MR images with a position",
        expected=expected,
        fix="set `series` to a regular expression that fits the dynamic series and no other",
        public="an image of the site cannot be used",
    )
