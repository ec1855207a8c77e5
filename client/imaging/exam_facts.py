"""Facts of an exam as it is used: what was chosen, times, grid, the tumour's mask, and what looks wrong."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from client.imaging.contrast import contrast_remarks
from client.imaging.mammography.appearance import mammogram_remarks
from client.imaging.mask_shape import is_box, shape_remark
from client.imaging.steps import steps

if TYPE_CHECKING:
    from client.imaging.exams import Exam

VERSION = 9  # raise it when the same exam has other facts
RECIPE = f"facts {VERSION}"

TINY_MM3, LARGE_SHARE = 20.0, 0.3
BREAST_MM = (40.0, 650.0)  # of an image's longer side, along its rows or columns
MAMMOGRAM_MM = (40.0, 330.0)  # likewise; detectors and films measure up to 240 x 300 mm
SQUARE = 1.2  # longer over shorter side of a voxel in its slice, of an MRI
SHORTEST_EXAM_S, LONGEST_PAUSE_S = 20.0, 20 * 60.0
HASHED = 1_000_000  # voxels, by which copies are recognised
EVERY = 4  # of the rows and columns of a plane, which are examined
EMPTY_SHARE = 0.4  # of an image, in planes at its edges where all voxels are the same
ACROSS = 2.0  # extent across slices over that along them, beyond which axes were exchanged
BOX_VOXELS = 60  # of a mask; a smaller tumour may fill a box
PLANES, SAMPLE = 8, 100_000  # whose sharpness is measured, and voxels whose spread is
TISSUE, SPREAD = 0.2, (10, 50, 90)  # of the 99th percentile of the signal; and percentiles of the tissue's


@dataclass(frozen=True)
class ExamFacts:
    """What a data manager compares with what they know of an exam.

    Attributes:
        choice: What was chosen among the patient's files, such as the series.
        phases: How many there are.
        seconds: When each was taken, after the first; empty where unknown.
        size: Voxels along the image's own axes.
        spacing_mm: Their size.
        orientation: Where the image's axes lead, as `LPS`.
        mask_mm3: The tumour's volume; 0 without a mask.
        mask_share: Its share of the image.
        tumour_shown: Share of the tumour's volume within the study's grid; None without a study or a mask.
        grid_filled: Share of the study's grid within the exam; None without a study.
        remarks: What looks wrong, each with what to do.
        voxels_hash: Of the first phase, the same for a copy on another scale; empty where all voxels are the same.
        mask_is_box: Whether the mask fills a box.
        sharpness: Of the first phase, from voxel to voxel; 0 where it is unknown.
        contrast: Spread of the first phase's tissue over its median; 0 where it is unknown.
    """

    choice: Mapping[str, str]
    phases: int
    seconds: tuple[float, ...]
    size: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    orientation: str
    mask_mm3: float
    mask_share: float
    remarks: tuple[str, ...]
    voxels_hash: str = ""
    mask_is_box: bool = False
    sharpness: float = 0.0
    contrast: float = 0.0
    tumour_shown: float | None = None
    grid_filled: float | None = None


def facts_array(exam: Exam) -> NDArray[np.uint8]:
    """The facts of an exam as bytes, in which the artefact store keeps them."""
    return np.frombuffer(json.dumps(dataclasses.asdict(_facts(exam))).encode(), dtype=np.uint8)


def facts_of(array: NDArray[np.uint8]) -> ExamFacts:
    """The facts that `facts_array` wrote."""
    return facts_of_values(json.loads(array.tobytes()))


def facts_of_values(values: dict[str, Any]) -> ExamFacts:
    """The facts as JSON holds them."""
    lists = ("seconds", "size", "spacing_mm", "remarks")
    values |= {name: tuple(values[name]) for name in lists}
    return ExamFacts(**values)


def _facts(exam: Exam) -> ExamFacts:
    import SimpleITK as sitk

    first = exam.phases[0]
    shown = sitk.GetArrayViewFromImage(first)
    voxels = 0 if exam.mask is None else int((sitk.GetArrayViewFromImage(exam.mask) != 0).sum())
    mm3, share = voxels * float(np.prod(first.GetSpacing())), voxels / float(np.prod(first.GetSize()))
    seen = [*_times(exam.seconds or ()), *_extent(first), *contrast_remarks(exam), *mammogram_remarks(exam)]
    remarks = [*exam.remarks, *seen, *_mask(exam, mm3, share)]
    return ExamFacts(
        choice=dict(exam.choice),
        phases=len(exam.phases),
        seconds=exam.seconds or (),
        size=tuple(first.GetSize()),
        spacing_mm=tuple(round(size, 4) for size in first.GetSpacing()),
        orientation=sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(first.GetDirection()),
        mask_mm3=round(mm3, 1),
        mask_share=round(share, 6),
        remarks=tuple(remarks),
        voxels_hash=_hash(shown),
        mask_is_box=voxels >= BOX_VOXELS and is_box(sitk.GetArrayViewFromImage(exam.mask) != 0),
        sharpness=round(float(np.nan_to_num(steps(shown[:: max(1, len(shown) // PLANES)])[0])), 4),
        contrast=round(_spread(shown), 4),
    )


def _hash(voxels: NDArray[Any]) -> str:
    """Of where voxels are brighter than the one before: it stays where all are scaled, shifted or bent alike."""
    few = voxels.ravel()[:: max(1, voxels.size // HASHED)]
    brighter = np.packbits(np.diff(few) > 0)
    return hashlib.blake2b(brighter.tobytes(), digest_size=16).hexdigest() if np.ptp(few) else ""


def _spread(voxels: NDArray[Any]) -> float:
    """Between the lowest and the highest tenth of the tissue, over its median; 0 where there is no signal."""
    few = voxels.ravel()[:: max(1, voxels.size // SAMPLE)]
    tissue = few[few > max(TISSUE * float(np.percentile(few, 99)), 0.0)]
    if not len(tissue):
        return 0.0
    low, middle, high = np.percentile(tissue, SPREAD)
    return float((high - low) / middle)


def _times(seconds: Sequence[float]) -> list[str]:
    """Phases of an exam are neither all within seconds, nor far apart."""
    if len(seconds) > 1 and seconds[-1] - seconds[0] < SHORTEST_EXAM_S:
        return [f"all phases are within {SHORTEST_EXAM_S:g} s; check their times: are they in minutes?"]
    if any(later - earlier > LONGEST_PAUSE_S for earlier, later in pairwise(seconds)):
        return [f"phases are more than {LONGEST_PAUSE_S / 60:g} minutes apart; check their times: are they in seconds?"]
    return []


def _extent(first: Any) -> list[str]:
    """An image must be as large as a breast, and should not be mostly padding."""
    import SimpleITK as sitk

    longer_mm = max(size * mm for size, mm in zip(first.GetSize()[:2], first.GetSpacing()[:2], strict=True))
    low, high = MAMMOGRAM_MM if first.GetSize()[2] == 1 else BREAST_MM
    remarks = []
    if not low <= longer_mm <= high:
        remarks.append(f"the image measures less than {low:g} or more than {high:g} mm; check its unit: is it mm?")
    voxels = sitk.GetArrayViewFromImage(first)
    if len(voxels) == 1:  # a mammogram has much air
        return remarks
    smaller, *_, larger = sorted(first.GetSpacing()[:2])
    if larger > SQUARE * smaller:
        remarks.append("voxels are not square in their slices, as scanners make them; check PixelSpacing")
    remarks += _axes(first)
    full = 1.0
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        few = voxels[tuple(slice(None, None, EVERY if other in others else 1) for other in range(3))]
        shown = np.flatnonzero(few.max(axis=others) > few.min(axis=others))
        full *= (shown[-1] - shown[0] + 1) / voxels.shape[axis] if len(shown) else 0.0
        if not axis and len(shown) and len(shown) < shown[-1] - shown[0] + 1:
            remarks.append("slices between others are empty; export the exam again")
    if full < 1 - EMPTY_SHARE:
        remarks.append(f"more than {EMPTY_SHARE:.0%} of the image are empty planes at its edges; cut off such padding")
    return remarks


def _axes(image: Any) -> list[str]:
    """Signs that a header was lost, or that its axes are not the array's."""
    columns, rows, slices = image.GetSize()
    *within_mm, across_mm = image.GetSpacing()
    turn = np.abs(image.GetDirection())
    if set(image.GetSpacing()) == {1.0} and not any(image.GetOrigin()) and np.array_equal(turn, np.eye(3).ravel()):
        return ["voxels measure exactly 1 mm and begin at 0, as where a header was lost; check the voxel size"]
    shorter_mm = min(count * mm for count, mm in zip((columns, rows), within_mm, strict=True))
    if across_mm > SQUARE * max(within_mm) and slices > min(columns, rows) and slices * across_mm > ACROSS * shorter_mm:
        return ["there are more slices than rows or columns, and they are thicker; were the array's axes exchanged?"]
    return []


def _mask(exam: Exam, mm3: float, share: float) -> list[str]:
    if exam.mask is None:
        return []
    import SimpleITK as sitk

    if share > LARGE_SHARE:
        return [f"the mask covers more than {LARGE_SHARE:.0%} of the image; check that it is the tumour"]
    if len(exam.phases) > 1 and mm3 < TINY_MM3:
        return [f"the mask is smaller than {TINY_MM3:g} mm3; check that it is the tumour"]
    remark = shape_remark(sitk.GetArrayViewFromImage(exam.mask) != 0, exam.mask.GetSpacing())
    return [remark] if remark else []
