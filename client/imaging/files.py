"""Image files: NIfTI, NRRD, MHA and MetaImage, read with SimpleITK and checked."""

from __future__ import annotations

import gzip
import math
import mmap
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.errors import SiteError

PLAUSIBLE_SPACING_MM = (0.05, 30.0)
SAME_GEOMETRY = 1e-3
SAME_ORIGIN_MM = 0.05  # headers round it
MAX_BYTES = 2 * 2**30
PLAUSIBLE_STEP_S = (20.0, 1200.0)  # between two phases of a dynamic exam; faster series are for other maps

_FORMATS = {
    ".nii": "NiftiImageIO",
    ".nii.gz": "NiftiImageIO",
    ".nrrd": "NrrdImageIO",
    ".nhdr": "NrrdImageIO",
    ".mha": "MetaImageIO",
    ".mhd": "MetaImageIO",
}
# What leads to voxels in another file, which ITK would open wherever it is.
_ELSEWHERE = {
    "NrrdImageIO": re.compile(rb"(?i)data ?file\s*:"),
    "MetaImageIO": re.compile(rb"ElementDataFile(?!\s*[=:]\s*(?:LOCAL|Local|local)[ \t]*\r?\n)"),
}

# Header size: where NIfTI-1 and NIfTI-2 keep the data type and the offset of the voxels, and the latter's type.
_NIFTI = {348: (70, 108, "f4"), 540: (12, 168, "i8")}
_NIFTI_HEADER_ROOM = 2**20
_NIFTI_FLOATS = {16: "f4", 64: "f8"}


def read_phases(path: Path) -> tuple[list[Any], tuple[float, ...]]:
    """The images of a file of three dimensions, or of four, of which the last is time; and its seconds, if it has any.

    Raises:
        SiteError: As `read_image`.
    """
    image, step_s = _read(path, (3, 4))
    if image.GetDimension() == 3:
        return [image], ()
    phases = [image[:, :, :, number] for number in range(image.GetSize()[3])]
    seconds = tuple(number * step_s for number in range(len(phases)))
    low, high = PLAUSIBLE_STEP_S
    return phases, seconds if low <= step_s <= high else ()


def read_image(path: Path) -> Any:
    """One image of three dimensions, as 32-bit floats; its header is read before its voxels.

    Raises:
        SiteError: If it cannot be read, is too large or has non-finite voxels.
    """
    return _read(path, (3,))[0]


def _read(path: Path, dimensions: tuple[int, ...]) -> tuple[Any, float]:
    """An image, and the step along its fourth axis.

    Raises:
        SiteError: If it cannot be read, is too large or has non-finite voxels.
    """
    import SimpleITK as sitk

    sitk.ProcessObject.GlobalWarningDisplayOff()  # they name the patient's file on the terminal
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(_format(path))
    reader.SetOutputPixelType(sitk.sitkFloat32)
    try:
        reader.ReadImageInformation()
        size = reader.GetSize()
        if len(size) not in dimensions:
            expected = "one phase a file, or one file with all phases"
            raise bad_file(path, "an image has the wrong number of phases", f"{size} voxels", expected)
        if reader.GetNumberOfComponents() != 1:
            found = f"{reader.GetNumberOfComponents()} values a voxel"
            raise bad_file(path, "an image has colours or vectors", found, "one value a voxel")
        check_room(path, size)
        image = reader.Execute()
    except RuntimeError as error:
        last = str(error).strip().splitlines()[-1]
        raise bad_file(path, "an image cannot be read", last, "a NIfTI file with a rigid orientation") from None
    broken = non_finite_voxels(path, sitk.GetArrayViewFromImage(image))
    if broken:
        raise bad_file(path, "an image has voxels that are not numbers", f"{broken} NaN or infinite voxels", "numbers")
    return image, float(image.GetSpacing()[3]) if len(size) == 4 else 0.0


def _format(path: Path) -> str:
    """ITK's name of a file's format; by default it would try all that there are.

    Raises:
        SiteError: If it is another format, or its voxels are in another file, which may lie outside data_root.
    """
    name = next((name for suffix, name in _FORMATS.items() if path.name.lower().endswith(suffix)), "")
    if not name:
        raise bad_file(path, "an image is of another format", f"{path.suffix!r}", ", ".join(_FORMATS))
    if elsewhere := _ELSEWHERE.get(name):
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            end = content.find(b"\n\n") if name == "NrrdImageIO" else -1  # a NRRD header ends there at the latest
            if elsewhere.search(content, 0, len(content) if end < 0 else end + 1):
                found = "a header that leads to another file"
                raise bad_file(path, "an image's voxels are in another file", found, "header and voxels in one file")
    return name


def check_room(path: Path, shape: Sequence[int]) -> None:
    """Refuses voxels that a header announces and a computer cannot hold.

    Raises:
        SiteError: If they would take more than 2 GiB as 32-bit floats.
    """
    if min(shape) < 1 or 4 * math.prod(shape) > MAX_BYTES:
        expected = f"at most {MAX_BYTES // 4:,} voxels in all"
        raise bad_file(path, "an image is not of a plausible size", f"{' x '.join(map(str, shape))} voxels", expected)


def non_finite_voxels(path: Path, voxels: NDArray[np.float32]) -> int:
    """How many voxels are NaN or infinite; ITK reads those of a NIfTI file as 0, so the file itself is asked."""
    broken = int((~np.isfinite(voxels)).sum())
    if broken or not path.name.lower().endswith((".nii", ".nii.gz")):
        return broken
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
        content = file.read(_NIFTI_HEADER_ROOM + 8 * voxels.size)  # a small file can unpack to a very large one
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


def check_geometry(path: Path, image: Any, first: Any) -> None:
    """Refuses an image whose axes or voxels are not plausible, or that is not on the grid of `first`.

    Raises:
        SiteError: If so.
    """
    axes = np.asarray(image.GetDirection()).reshape(3, 3)
    if np.abs(axes @ axes.T - np.eye(3)).max() > SAME_GEOMETRY:
        shown = np.round(axes, 3).tolist()
        raise bad_file(
            path, "an image's orientation is not a rotation", f"axes {shown}", "perpendicular axes of length 1"
        )
    low, high = PLAUSIBLE_SPACING_MM
    if not all(low <= size <= high for size in image.GetSpacing()):
        raise bad_file(
            path, "an image's voxel size is not plausible", f"{image.GetSpacing()} mm", f"{low} to {high} mm"
        )
    for what, value, expected, tolerance in (
        ("size", image.GetSize(), first.GetSize(), SAME_GEOMETRY),
        ("spacing", image.GetSpacing(), first.GetSpacing(), SAME_GEOMETRY),
        ("orientation", image.GetDirection(), first.GetDirection(), SAME_GEOMETRY),
        ("origin", image.GetOrigin(), first.GetOrigin(), SAME_ORIGIN_MM),
    ):
        if not np.allclose(value, expected, atol=tolerance):
            expectation = f"{_rounded(expected)}, as in the patient's first phase"
            raise bad_file(path, f"a patient's phases differ in {what}", _rounded(value), expectation)


def _rounded(values: Iterable[float]) -> str:
    return str(tuple(round(value, 4) for value in values))


def bad_file(path: Path, what: str, found: str, expected: str) -> SiteError:
    """The error of one image, for which its patient is excluded."""
    fix = "export or convert the series again, or move the patient's files out of data_root"
    public = "an image of the site cannot be used"
    return SiteError(what, where=str(path), found=found, expected=expected, fix=fix, public=public)
