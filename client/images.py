"""Image volumes of one patient: read with SimpleITK, checked, and brought to the study's grid.

All images of a patient come to one orientation (LPS), voxel size and shape, and are divided by the 95th percentile of
the first: the scanner's gain cancels, the ratios between phases stay.
"""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.errors import SiteError
from shared_models.task import FAR_INSIDE_MM, Volume

PLAUSIBLE_SPACING_MM = (0.05, 30.0)
SAME_GEOMETRY = 1e-3
LARGEST_FLOAT16 = 65504.0

# Header size: where NIfTI-1 and NIfTI-2 keep the data type and the offset of the voxels, and the latter's type.
_NIFTI = {348: (70, 108, "f4"), 540: (12, 168, "i8")}
_NIFTI_FLOATS = {16: "f4", 64: "f8"}


def read_phases(paths: Sequence[Path], volume: Volume, mask: Path | None = None) -> NDArray[np.float16]:
    """One patient's phases on the study's grid, `volume.shape`.

    Args:
        paths: The pre-contrast phase, then the others. With one channel and two files, the second file's phase
            is returned, scaled by the first.
        volume: Shape and voxel size. One of a tumour is centred on the mask and ends with its distance channel;
            any other is centred on the first image.
        mask: The tumour, where a voxel is not 0; on the images' own grid.

    Raises:
        SiteError: If the files cannot be read, disagree in geometry or hold no usable intensities.
    """
    import SimpleITK as sitk

    images = [_read(path) for path in paths]
    for path, image in zip(paths, images, strict=True):
        _check_geometry(path, image, images[0])
    level = float(np.percentile(sitk.GetArrayViewFromImage(images[0]), 95))
    if level <= 0:
        raise _bad_file(
            paths[0], "the pre-contrast image is empty", f"95th percentile {level:g}", "intensities above 0"
        )
    tumour = _read_mask(mask, images[0]) if volume.tumour and mask else None
    centre = _centroid(tumour) if tumour is not None else _centre(images[0])
    kept = images[-(volume.shape[0] - volume.tumour) :]
    arrays = [sitk.GetArrayFromImage(_on_grid(image, volume, centre)) / level for image in kept]
    if volume.tumour:
        arrays.append(_distance_mm(tumour, volume, centre))
    return np.clip(np.stack(arrays), -LARGEST_FLOAT16, LARGEST_FLOAT16).astype(np.float16)


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
    return np.asarray(sitk.GetArrayFromImage(_on_grid(distance, volume, centre, outside=-FAR_INSIDE_MM)))


def _on_grid(image: Any, volume: Volume, centre: NDArray[np.float64], outside: float = 0.0) -> Any:
    """Linear interpolation on a grid of the study's shape and spacing about `centre`, with LPS axes."""
    import SimpleITK as sitk

    oriented = sitk.DICOMOrient(image, "LPS")
    size = np.asarray(volume.shape[:0:-1])
    spacing = np.asarray(volume.spacing_mm[::-1], dtype=float)
    axes = np.asarray(oriented.GetDirection()).reshape(3, 3)
    origin = centre - axes @ (spacing * (size - 1) / 2)
    grid = ([int(n) for n in size], sitk.Transform(), sitk.sitkLinear, origin.tolist(), spacing.tolist())
    return sitk.Resample(oriented, *grid, oriented.GetDirection(), outside, sitk.sitkFloat32)


def _read_mask(path: Path, image: Any) -> Any:
    """The tumour as 0 and 1, on the grid of `image`."""
    import SimpleITK as sitk

    mask = _read(path)
    (low, high), (first, last) = _corners(mask), _corners(image)
    if (np.minimum(high, last) < np.maximum(low, first)).any():
        raise _bad_file(
            path,
            "a mask lies outside its image",
            f"from {_rounded(low.tolist())} to {_rounded(high.tolist())} mm",
            f"a place within {_rounded(first.tolist())} to {_rounded(last.tolist())} mm",
        )
    if mask.GetSize() != image.GetSize():
        raise _bad_file(path, "a mask has another shape than its image", str(mask.GetSize()), str(image.GetSize()))
    _check_geometry(path, mask, image)
    if not sitk.GetArrayViewFromImage(mask).any():
        raise _bad_file(path, "a mask is empty", "0 everywhere", "other values where the tumour is")
    return sitk.Cast(mask != 0, sitk.sitkUInt8)


def _corners(image: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The least and the greatest coordinates of an image's voxels, in mm."""
    ends = [(0, size - 1) for size in image.GetSize()]
    points = [image.TransformIndexToPhysicalPoint(corner) for corner in itertools.product(*ends)]
    return np.min(points, axis=0), np.max(points, axis=0)


def _read(path: Path) -> Any:
    import SimpleITK as sitk

    try:
        image = sitk.ReadImage(str(path), sitk.sitkFloat32)
    except RuntimeError as error:
        last = str(error).strip().splitlines()[-1]
        raise _bad_file(path, "an image cannot be read", last, "a NIfTI file with a rigid orientation") from None
    if image.GetDimension() != 3:
        raise _bad_file(
            path, "an image has the wrong number of phases", f"{image.GetSize()} voxels", "one phase a file"
        )
    broken = non_finite_voxels(path, sitk.GetArrayViewFromImage(image))
    if broken:
        raise _bad_file(path, "an image has voxels that are not numbers", f"{broken} NaN or infinite voxels", "numbers")
    return image


def non_finite_voxels(path: Path, voxels: NDArray[np.float32]) -> int:
    """How many voxels are NaN or infinite; ITK reads those of a NIfTI file as 0, so the file itself is asked."""
    broken = int((~np.isfinite(voxels)).sum())
    if not path.name.endswith((".nii", ".nii.gz")):
        return broken
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        content = file.read()
    order = "<" if int.from_bytes(content[:4], "little") in _NIFTI else ">"
    size = int(np.frombuffer(content, f"{order}i4", 1)[0])
    if size not in _NIFTI:
        return broken
    kind_at, offset_at, offset_kind = _NIFTI[size]
    kind = _NIFTI_FLOATS.get(int(np.frombuffer(content, f"{order}i2", 1, kind_at)[0]))
    if kind is None:
        return broken
    start = int(np.frombuffer(content, order + offset_kind, 1, offset_at)[0])
    return int((~np.isfinite(np.frombuffer(content, order + kind, voxels.size, start))).sum())


def _check_geometry(path: Path, image: Any, first: Any) -> None:
    axes = np.asarray(image.GetDirection()).reshape(3, 3)
    if np.abs(axes @ axes.T - np.eye(3)).max() > SAME_GEOMETRY:
        shown = np.round(axes, 3).tolist()
        raise _bad_file(
            path, "an image's orientation is not a rotation", f"axes {shown}", "perpendicular axes of length 1"
        )
    low, high = PLAUSIBLE_SPACING_MM
    if not all(low <= size <= high for size in image.GetSpacing()):
        raise _bad_file(
            path, "an image's voxel size is not plausible", f"{image.GetSpacing()} mm", f"{low} to {high} mm"
        )
    for what, found, expected in (
        ("size", image.GetSize(), first.GetSize()),
        ("spacing", image.GetSpacing(), first.GetSpacing()),
        ("orientation", image.GetDirection(), first.GetDirection()),
    ):
        if not np.allclose(found, expected, atol=SAME_GEOMETRY):
            expectation = f"{_rounded(expected)}, as in the patient's first phase"
            raise _bad_file(path, f"a patient's phases differ in {what}", _rounded(found), expectation)


def _rounded(values: Iterable[float]) -> str:
    return str(tuple(round(value, 4) for value in values))


def _bad_file(path: Path, what: str, found: str, expected: str) -> SiteError:
    fix = "convert the series anew, or move the patient's files out of data_root"
    public = "an image of the site cannot be used"
    return SiteError(what, where=str(path), found=found, expected=expected, fix=fix, public=public)
