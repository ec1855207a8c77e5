"""DICOM structure set (RTSTRUCT, PS3.3 A.19) read as a mask image: the contours of one region, filled."""

from __future__ import annotations

import difflib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.imaging.dicom.dicom_files import refuse_deflated
from client.imaging.files import bad_file, check_room

CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR", "CLOSED_PLANAR_XOR")
MAX_TILT = 0.25  # of a slice's thickness, which a contour may leave its slice by
MAX_UNEVEN = 0.1  # of the step between two planes
ROOM = 2  # voxels around the contours, in which none lies

Contour = NDArray[np.float64]
"""Points `(N, 3)`: along a row, along a column, and from slice to slice, in voxels of the images."""


def read_structure(path: Path, name: str | int | None, image: Any, frame_of_reference: str) -> Any:
    """A region of interest as a SimpleITK image of 0 and 1, whose rows and columns are those of the images.

    A voxel belongs to the region if its centre is inside an odd number of the slice's contours: one within another is
    a hole. Planes that the contours skip stay empty.

    Args:
        path: The file.
        name: The region's name or number; None takes the only one with contours.
        image: The first phase.
        frame_of_reference: Of the images, or empty if they do not say.

    Raises:
        SiteError: If there is no such region, it was drawn on other images or across their slices, or has no area.
    """
    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's about values that break the standard
            refuse_deflated(path)
            file = pydicom.dcmread(path)
            number = _number(path, file, name)
            _check_frame(path, file, number, frame_of_reference)
            contours = [_in_voxels(points, image) for points in _contours(file, number)]
            return _filled(path, contours, image)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, NotImplementedError) as error:
        lacks = error.name if isinstance(error, AttributeError) else ""  # the keyword that pydicom was asked for
        found = f"no {lacks}" if lacks else f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise bad_file(path, "a mask cannot be read", found, "an RTSTRUCT with the points of each contour") from None


def region_names(path: Path) -> list[str]:
    """The regions of a structure set that have closed contours; none where it cannot be read."""
    import pydicom

    try:
        file = pydicom.dcmread(path)
        regions = file.StructureSetROISequence
        return [str(item.get("ROIName", "")) for item in regions if _contours(file, int(item.ROINumber))]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, NotImplementedError, EOFError):
        return []


def _number(path: Path, file: Any, name: str | int | None) -> int:
    """The number of the region that is wanted."""
    names = {int(item.ROINumber): str(item.get("ROIName", "")) for item in file.StructureSetROISequence}
    with_contours = {number: label for number, label in names.items() if _contours(file, number)}
    fitting = [number for number, label in with_contours.items() if name in (None, number, label)]
    if len(fitting) == 1:
        return fitting[0]
    empty = [label for number, label in names.items() if number not in with_contours and name in (None, number, label)]
    if empty and name is not None:
        raise bad_file(path, "a mask is empty", f"no closed contour of the region {name!r}", "contours of the tumour")
    found = (
        "; ".join(f"{number}: {label!r}" for number, label in with_contours.items()) or "no region with closed contours"
    )
    near = difflib.get_close_matches(str(name), with_contours.values(), n=1)
    named = f"one region {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
    expected = "one region; set `segment` to its name or number" if name is None else named
    raise bad_file(path, "it is not clear which region is the tumour", found, expected)


def _check_frame(path: Path, file: Any, number: int, frame_of_reference: str) -> None:
    (region,) = (item for item in file.StructureSetROISequence if int(item.ROINumber) == number)
    frame = region.get("ReferencedFrameOfReferenceUID", "")
    if frame and frame_of_reference and frame != frame_of_reference:
        expected = f"that of the images, {frame_of_reference}"
        raise bad_file(path, "a mask was drawn in another frame of reference", frame, expected)


def _contours(file: Any, number: int) -> list[NDArray[np.float64]]:
    """The closed contours of a region, `(N, 3)` points each, in mm."""
    return [
        np.asarray(contour.ContourData, dtype=np.float64).reshape(-1, 3)
        for region in file.get("ROIContourSequence") or ()
        if int(region.ReferencedROINumber) == number
        for contour in region.get("ContourSequence") or ()
        if contour.ContourGeometricType in CLOSED and len(contour.get("ContourData") or ()) >= 9
    ]


def _in_voxels(points: NDArray[np.float64], image: Any) -> Contour:
    turn = np.asarray(image.GetDirection()).reshape(3, 3)
    return np.asarray((points - image.GetOrigin()) @ np.linalg.inv(turn).T / image.GetSpacing())


def _filled(path: Path, contours: list[Contour], image: Any) -> Any:
    import SimpleITK as sitk

    if not all(np.isfinite(contour).all() for contour in contours):
        raise bad_file(path, "a mask cannot be read", "points that are not numbers", "points in mm")
    if any(np.ptp(contour[:, 2]) > MAX_TILT for contour in contours):
        expected = "contours that lie in the slices of the images; draw or export the region on these"
        raise bad_file(path, "a mask is drawn across the slices of its images", _tilted(contours), expected)
    planes = np.array([contour[:, 2].mean() for contour in contours])
    step = _step(path, planes)
    points = np.concatenate(contours)
    low, high = np.floor(points.min(axis=0)).astype(int) - ROOM, np.ceil(points.max(axis=0)).astype(int) + ROOM
    places = np.round((planes - planes.min()) / step).astype(int)
    shape = (int(places.max()) + 1, int(high[1] - low[1]) + 1, int(high[0] - low[0]) + 1)
    check_room(path, shape)
    voxels = np.zeros(shape, dtype=bool)
    for place, contour in zip(places, contours, strict=True):
        voxels[place] ^= _inside(contour[:, :2] - low[:2], shape[1:])
    if not voxels.any():
        found = f"{len(contours)} contours between the centres of voxels"
        raise bad_file(path, "a mask is empty", found, "a region with the centre of a voxel in it")
    first = [float(low[0]), float(low[1]), float(planes.min())]
    mask = sitk.GetImageFromArray(voxels.astype(np.uint8))
    mask.SetSpacing([*image.GetSpacing()[:2], image.GetSpacing()[2] * step])
    mask.SetOrigin(image.TransformContinuousIndexToPhysicalPoint(first))
    mask.SetDirection(image.GetDirection())
    return mask


def _tilted(contours: list[Contour]) -> str:
    worst = max(float(np.ptp(contour[:, 2])) for contour in contours)
    return f"a contour that passes through {worst:.1f} slices"


def _step(path: Path, planes: NDArray[np.float64]) -> float:
    """The distance between the contours' planes, in slices of the images: one, where they are drawn on these."""
    distinct = np.unique(planes)
    gaps = np.diff(distinct)[np.diff(distinct) > MAX_TILT]
    if not len(gaps):
        return 1.0
    step = float(gaps.min())
    off = (planes - planes.min()) / step
    if np.abs(off - np.round(off)).max() > MAX_UNEVEN:
        found = f"gaps from {gaps.min():.2f} to {gaps.max():.2f} slices"
        raise bad_file(path, "a mask's slices are not evenly spaced", found, "contours on the slices of the images")
    return step


def _inside(points: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which voxels' centres a contour encloses, `(H, W)`; points are `(N, 2)`, along a row and along a column."""
    from matplotlib.path import Path as Polygon

    inside = np.zeros(shape, dtype=bool)
    (left, top), (right, bottom) = np.ceil(points.min(axis=0)).astype(int), np.floor(points.max(axis=0)).astype(int)
    y, x = np.mgrid[top : bottom + 1, left : right + 1]
    if x.size:
        within = Polygon(points).contains_points(np.column_stack([x.ravel(), y.ravel()]))
        inside[top : bottom + 1, left : right + 1] = within.reshape(x.shape)
    return inside
