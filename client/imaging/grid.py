"""Resampling of an exam to the study's grid: LPS orientation, voxel size and shape.

All images of an exam are divided by the 95th percentile of the first: the scanner's gain cancels, the ratios between
phases stay.
"""

from __future__ import annotations

import math
from dataclasses import astuple
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.errors import ExitCode, SiteError
from client.imaging.exams import Exam
from client.imaging.field_of_view import Placement, check_shown, coverage, place
from client.imaging.files import bad_file
from shared_models.modalities import FAR_INSIDE_MM
from shared_models.task import Volume

MAX_FLOAT16 = 65504.0
COARSER = 1.5  # times the image's own voxels; below, linear interpolation smooths enough by itself
SHORTEST = 4  # voxels, which the recursive filter needs
FWHM = 2 * math.sqrt(2 * math.log(2))  # of a Gaussian, in standard deviations


def on_grid(exam: Exam, volume: Volume) -> NDArray[np.float16]:
    """An exam's images as `volume.shape`.

    Args:
        exam: The images. Of several, a study of one image takes the second, scaled by the first.
        volume: Shape, voxel size and field of view. One of a tumour ends with its distance channel.

    Raises:
        SiteError: If the exam has another number of phases, lacks its mask or holds no usable intensities, or most of
            the tumour lies outside.
    """
    import SimpleITK as sitk

    first, phases = exam.phases[0], _phases(exam, volume.shape[0] - volume.tumour)
    level = float(np.percentile(sitk.GetArrayViewFromImage(first), 95))
    if level <= 0:
        expected = "intensities above 0"
        raise bad_file(exam.name, "the pre-contrast image is empty", f"95th percentile {level:g}", expected)
    if volume.tumour and exam.lacks_mask:
        raise bad_file(exam.name, "an exam has no mask", "images only", "a mask, as other exams of the site have")
    placed, size = place(exam, volume), volume.shape[1:]
    check_shown(exam, volume, placed)
    arrays = [sitk.GetArrayFromImage(_resampled(_smoothed(image, placed), size, placed)) / level for image in phases]
    if volume.tumour:
        arrays.append(_distance_mm(exam.mask, size, placed))
    return np.clip(np.stack(arrays), -MAX_FLOAT16, MAX_FLOAT16).astype(np.float16)


def shown_on_grid(exam: Exam, volume: Volume) -> NDArray[np.float64]:
    """What the volume of `on_grid` shows of the exam: the fields of `Coverage`, `(4,)`.

    Raises:
        SiteError: If there is no such volume.
    """
    _phases(exam, volume.shape[0] - volume.tumour)
    placed = place(exam, volume)
    check_shown(exam, volume, placed)
    return np.asarray(astuple(coverage(exam, volume, placed)), dtype=np.float64)


def _phases(exam: Exam, wanted: int) -> tuple[Any, ...]:
    """All phases; or, for a study of one, the first post-contrast one."""
    if len(exam.phases) == wanted:
        return exam.phases
    if wanted == 1:
        return exam.phases[1:2]
    raise SiteError(
        what="an exam has another number of phases than the study",
        where=str(exam.name),
        found=f"{len(exam.phases)} phases",
        expected=f"{wanted} phases, the pre-contrast one first",
        fix="list as many phases, or leave the modality out",
        public="the site's settings do not fit the study",
        exit_code=ExitCode.STUDY,
    )


def _distance_mm(tumour: Any, size: tuple[int, ...], placed: Placement) -> NDArray[np.float32]:
    """Distance `(D, H, W)` to the tumour's surface, positive inside; Maurer 2003 (10.1109/TPAMI.2003.1177156)."""
    import SimpleITK as sitk

    if tumour is None:
        return np.full(size, FAR_INSIDE_MM, dtype=np.float32)
    distance = sitk.SignedMaurerDistanceMap(tumour, insideIsPositive=True, squaredDistance=False, useImageSpacing=True)
    # ITK measures to the centres of the outermost voxels; the surface lies half a voxel further out
    distance += 0.5 * min(tumour.GetSpacing())
    return np.asarray(sitk.GetArrayFromImage(_resampled(distance, size, placed, outside=-FAR_INSIDE_MM)))


def _smoothed(image: Any, placed: Placement) -> Any:
    """An image as voxels of the grid's size would have seen it, along the axes where these are much coarser.

    Without it, thin structures would fall between the grid's points. The widths of both voxels are those of a
    Gaussian point spread, whose variances subtract; Cardoso 2015 (10.1007/978-3-319-24571-3_81).
    """
    import SimpleITK as sitk

    smooth = sitk.DICOMOrient(image, "LPS")
    for axis, (old, new) in enumerate(zip(smooth.GetSpacing(), placed.spacing_mm.tolist(), strict=True)):
        if new > COARSER * old and smooth.GetSize()[axis] >= SHORTEST:
            smooth = sitk.RecursiveGaussian(smooth, math.sqrt(new**2 - old**2) / FWHM, direction=axis)
    return smooth


def _resampled(image: Any, size: tuple[int, ...], placed: Placement, outside: float = 0.0) -> Any:
    """Linear interpolation on the grid of `size` `(D, H, W)`, with LPS axes."""
    import SimpleITK as sitk

    oriented = sitk.DICOMOrient(image, "LPS")
    axes, voxels, spacing = np.asarray(oriented.GetDirection()).reshape(3, 3), size[::-1], placed.spacing_mm
    origin = placed.centre_mm - axes @ (spacing * (np.asarray(voxels) - 1) / 2)
    grid = (voxels, sitk.Transform(), sitk.sitkLinear, origin.tolist(), spacing.tolist())
    return sitk.Resample(oriented, *grid, oriented.GetDirection(), outside, sitk.sitkFloat32)
