"""Field of view of a volume: where its voxels lie in an exam, and how much of the tumour and of the exam it shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.errors import SiteError
from client.imaging.exams import Exam
from shared_models.task import Volume

# Of a tumour's volume: a stricter bound would take the largest tumours, which recur most, out of a study.
MAX_CUT_OFF = 0.75
# From left to right: Duke's 922 bilateral exams measure 250 mm and more, an exam of one breast 100 to 200.
ONE_BREAST_MM = 200.0
WORTH_SAYING = 0.05  # of a tumour that is cut off, or of a volume that is padding

Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Placement:
    """A grid in an exam; vectors are of DICOM's coordinates (LPS), along the exam's axes nearest to `(x, y, z)`.

    Attributes:
        centre_mm: `(3,)`.
        spacing_mm: `(3,)`.
        whole: Whether it is the whole exam, though the study asks for a part of it.
    """

    centre_mm: Vector
    spacing_mm: Vector
    whole: bool = False


@dataclass(frozen=True)
class Coverage:
    """What a volume shows.

    Attributes:
        tumour: Share of the tumour's volume, as it was drawn, that lies in the grid; NaN without a mask.
        exam: Share of the grid that lies in the exam; the rest is padding.
        whole: Whether it is the whole exam, though the study asks for a part of it.
        other_side: Whether the mask lies in another half than the site says.
    """

    tumour: float
    exam: float
    whole: bool
    other_side: bool


@dataclass(frozen=True, eq=False)
class _Extent:
    """Where an image lies: unit vectors `(3, 3)` as columns, from edge to edge along them, its middle."""

    axes: Vector
    size_mm: Vector
    middle_mm: Vector


def place(exam: Exam, volume: Volume) -> Placement:
    """Where the volume's voxels lie.

    Raises:
        SiteError: If the exam has no mask, or no side, and others of the site have one.
    """
    extent, wanted = _extent(exam.phases[0]), volume.field_of_view
    size = np.asarray(volume.shape[:0:-1])
    if wanted == "tumour" and exam.mask is not None:
        spacing = np.asarray(volume.spacing_mm[::-1], dtype=float)
        return Placement(_centre_of_tumour(exam, extent, spacing * size), spacing)
    if wanted == "tumour" and exam.lacks_mask:
        raise _lacking(exam, "an exam has no mask", "images only", "a mask or box, as other exams of the site have")
    if wanted == "breast" and _shows_both(exam, extent):
        side = _side_of_mask(exam, extent) or exam.side
        if side:
            half = extent.size_mm * (0.5, 1, 1)
            towards = 1 if side == "left" else -1
            return Placement(extent.middle_mm + towards * extent.axes[:, 0] * half[0] / 2, half / size)
        if exam.lacks_mask or exam.lacks_side:
            expected = "a mask or a side, as other exams of the site have"
            raise _lacking(exam, "it is not known which breast has the finding", "an exam of both", expected)
        return Placement(extent.middle_mm, extent.size_mm / size, whole=True)
    return Placement(extent.middle_mm, extent.size_mm / size, whole=wanted == "tumour")


def coverage(exam: Exam, volume: Volume, placed: Placement) -> Coverage:
    """How much of the tumour and of the exam a volume shows."""
    extent, size_mm = _extent(exam.phases[0]), placed.spacing_mm * np.asarray(volume.shape[:0:-1])
    inside = _within(exam.tumour_mm, placed.centre_mm, extent.axes, size_mm)
    offset = np.abs((placed.centre_mm - extent.middle_mm) @ extent.axes)
    overlap = np.clip((extent.size_mm + size_mm) / 2 - offset, 0, np.minimum(extent.size_mm, size_mm))
    side = _side_of_mask(exam, extent) if _shows_both(exam, extent) else ""
    return Coverage(
        tumour=float(inside.mean() * exam.mask_share) if len(inside) else math.nan,
        exam=float(np.prod(overlap / size_mm)),
        whole=placed.whole,
        other_side=bool(side and exam.side and side != exam.side),
    )


def check_shown(exam: Exam, volume: Volume, placed: Placement) -> None:
    """Refuses a volume that cuts off too much of the tumour.

    Raises:
        SiteError: If more than `MAX_CUT_OFF` of it lies outside.
    """
    shown = coverage(exam, volume, placed).tumour
    if shown < 1 - MAX_CUT_OFF:
        raise SiteError(
            what="a tumour lies mostly outside the study's grid",
            where=str(exam.name),
            found=f"{shown:.0%} of its volume within {size_text(volume)}",
            expected=f"{1 - MAX_CUT_OFF:.0%} or more",
            fix="check that mask and images match; for larger tumours, ask the center for a grid of larger voxels",
            public="a tumour of the site lies outside the study's grid",
        )


def shown_warnings(name: str, volume: Volume, shown: Sequence[Coverage]) -> list[str]:
    """What the data manager should know of the volumes, in counts.

    Args:
        name: The modality's.
        volume: Its grid and field of view.
        shown: What the volume of each exam shows.
    """
    cut = [one.tumour for one in shown if one.tumour < 1 - WORTH_SAYING]
    padded = [1 - one.exam for one in shown if one.exam < 1 - WORTH_SAYING]
    unplaced, swapped = sum(one.whole for one in shown), sum(one.other_side for one in shown)
    place = "`mask`" if volume.field_of_view == "tumour" else "`mask` or `laterality`"
    grid = f"the grid of {size_text(volume)}"
    texts = [
        (unplaced, f"taken whole and resized to the grid: the site has no {place}; name it if there is one"),
        (
            len(cut),
            f"shown without a part of the tumour, up to {1 - min(cut, default=1):.0%}: it reaches beyond {grid}",
        ),
        (len(padded), f"padded with 0, up to {max(padded, default=0):.0%} of the volume: they do not fill {grid}"),
        (swapped, "of a mask in the other breast than `laterality` says, and taken by the mask; check the orientation"),
    ]
    return [f"{name}: {count} of {len(shown)} exams are {text}" for count, text in texts if count]


def size_text(volume: Volume) -> str:
    """How large a grid is, for messages."""
    sizes = (voxels * size for voxels, size in zip(volume.shape[1:], volume.spacing_mm, strict=True))
    return f"{' x '.join(f'{size:g}' for size in sizes)} mm"


def _extent(image: Any) -> _Extent:
    import SimpleITK as sitk

    size, direction = np.asarray(image.GetSize()), np.asarray(image.GetDirection()).reshape(3, 3)
    letters = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection())
    order = [next(axis for axis, letter in enumerate(letters) if letter in pair) for pair in ("LR", "PA", "SI")]
    signs = [1 if letters[axis] in "LPS" else -1 for axis in order]
    middle = image.TransformContinuousIndexToPhysicalPoint(((size - 1) / 2).tolist())
    return _Extent(direction[:, order] * signs, (size * image.GetSpacing())[order], np.asarray(middle))


def _within(points_mm: Vector, centre_mm: Vector, axes: Vector, size_mm: Vector) -> NDArray[np.bool_]:
    return np.asarray((np.abs((points_mm - centre_mm) @ axes) <= size_mm / 2 + 1e-6).all(axis=1))


def _centre_of_tumour(exam: Exam, extent: _Extent, size_mm: Vector) -> Vector:
    """Of all its parts, where they fit into the grid together; else of the largest, not of the tissue between them."""
    import SimpleITK as sitk
    from scipy import ndimage

    centre = exam.tumour_mm.mean(axis=0)
    if not _within(exam.tumour_mm, centre, extent.axes, size_mm).all():
        voxels = sitk.GetArrayViewFromImage(exam.mask) > 0
        parts = ndimage.label(voxels, np.ones((3, 3, 3)))[0][voxels]
        centre = exam.tumour_mm[parts == np.bincount(parts).argmax()].mean(axis=0)
    return np.asarray(centre)


def _shows_both(exam: Exam, extent: _Extent) -> bool:
    """Whether both breasts may be seen: not in one slice, a mammogram, nor in a narrow exam."""
    return exam.phases[0].GetSize()[2] > 1 and bool(extent.size_mm[0] > ONE_BREAST_MM)


def _side_of_mask(exam: Exam, extent: _Extent) -> str:
    """The half in which most of the tumour lies, left being the patient's."""
    if exam.mask is None:
        return ""
    x = (exam.tumour_mm - extent.middle_mm) @ extent.axes[:, 0]
    return "left" if (x > 0).mean() > 0.5 else "right"


def _lacking(exam: Exam, what: str, found: str, expected: str) -> SiteError:
    return SiteError(
        what,
        where=str(exam.name),
        found=found,
        expected=expected,
        fix="add it; exams about a tumour and whole ones are not mixed at a site. A study of whole exams has "
        "`field-of-view = whole`; a site that leaves `mask` and `laterality` out of its YAML gives whole exams",
        public="an image of the site cannot be used",
    )
