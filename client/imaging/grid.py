"""Resampling of an exam to the study's grid: LPS orientation, voxel size and shape.

All images of an exam are divided by the 95th percentile of the first: the scanner's gain cancels, the ratios between
phases stay.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.errors import ExitCode, SiteError
from client.imaging.exams import Exam
from client.imaging.files import bad_file
from shared_models.task import FAR_INSIDE_MM, Volume

MAX_FLOAT16 = 65504.0
COARSER = 1.5  # times the image's own voxels; below, linear interpolation smooths enough by itself
SHORTEST = 4  # voxels, which the recursive filter needs
FWHM = 2 * math.sqrt(2 * math.log(2))  # of a Gaussian, in standard deviations


def on_grid(exam: Exam, volume: Volume) -> NDArray[np.float16]:
    """An exam's images as `volume.shape`.

    Args:
        exam: The images. Of several, a study of one image takes the second, scaled by the first.
        volume: Shape and voxel size. One of a tumour is centred on the mask and ends with its distance channel;
            any other is centred on the first image.

    Raises:
        SiteError: If the exam has another number of phases, lacks its mask or holds no usable intensities.
    """
    import SimpleITK as sitk

    first, phases = exam.phases[0], _phases(exam, volume.shape[0] - volume.tumour)
    level = float(np.percentile(sitk.GetArrayViewFromImage(first), 95))
    if level <= 0:
        expected = "intensities above 0"
        raise bad_file(exam.name, "the pre-contrast image is empty", f"95th percentile {level:g}", expected)
    if volume.tumour and exam.lacks_mask:
        raise bad_file(exam.name, "an exam has no mask", "images only", "a mask, as other exams of the site have")
    tumour = exam.mask if volume.tumour else None
    centre = _centroid(tumour) if tumour is not None else _centre(first)
    arrays = [sitk.GetArrayFromImage(_resampled(_smoothed(image, volume), volume, centre)) / level for image in phases]
    if volume.tumour:
        arrays.append(_distance_mm(tumour, volume, centre))
    return np.clip(np.stack(arrays), -MAX_FLOAT16, MAX_FLOAT16).astype(np.float16)


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


def _centre(image: Any) -> NDArray[np.float64]:
    return np.asarray(image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()]))


def _centroid(mask: Any) -> NDArray[np.float64]:
    import SimpleITK as sitk

    index = np.argwhere(sitk.GetArrayViewFromImage(mask)).mean(axis=0)[::-1]
    return np.asarray(mask.TransformContinuousIndexToPhysicalPoint(index.tolist()))


def _distance_mm(tumour: Any, volume: Volume, centre: NDArray[np.float64]) -> NDArray[np.float32]:
    """Distance `(D, H, W)` to the tumour's surface, positive inside; Maurer 2003 (10.1109/TPAMI.2003.1177156)."""
    import SimpleITK as sitk

    if tumour is None:
        return np.full(volume.shape[1:], FAR_INSIDE_MM, dtype=np.float32)
    distance = sitk.SignedMaurerDistanceMap(tumour, insideIsPositive=True, squaredDistance=False, useImageSpacing=True)
    # ITK measures to the centres of the outermost voxels; the surface lies half a voxel further out
    distance += 0.5 * min(tumour.GetSpacing())
    return np.asarray(sitk.GetArrayFromImage(_resampled(distance, volume, centre, outside=-FAR_INSIDE_MM)))


def _smoothed(image: Any, volume: Volume) -> Any:
    """An image as voxels of the study's size would have seen it, along the axes where these are much coarser.

    Without it, thin structures would fall between the grid's points. The widths of both voxels are those of a
    Gaussian point spread, whose variances subtract; Cardoso 2015 (10.1007/978-3-319-24571-3_81).
    """
    import SimpleITK as sitk

    smooth = sitk.DICOMOrient(image, "LPS")
    for axis, (old, new) in enumerate(zip(smooth.GetSpacing(), volume.spacing_mm[::-1], strict=True)):
        if new > COARSER * old and smooth.GetSize()[axis] >= SHORTEST:
            smooth = sitk.RecursiveGaussian(smooth, math.sqrt(new**2 - old**2) / FWHM, direction=axis)
    return smooth


def _resampled(image: Any, volume: Volume, centre: NDArray[np.float64], outside: float = 0.0) -> Any:
    """Linear interpolation on a grid of the study's shape and spacing about `centre`, with LPS axes."""
    import SimpleITK as sitk

    oriented = sitk.DICOMOrient(image, "LPS")
    size = np.asarray(volume.shape[:0:-1])
    spacing = np.asarray(volume.spacing_mm[::-1], dtype=float)
    axes = np.asarray(oriented.GetDirection()).reshape(3, 3)
    origin = centre - axes @ (spacing * (size - 1) / 2)
    grid = ([int(n) for n in size], sitk.Transform(), sitk.sitkLinear, origin.tolist(), spacing.tolist())
    return sitk.Resample(oriented, *grid, oriented.GetDirection(), outside, sitk.sitkFloat32)
