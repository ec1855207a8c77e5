"""NIfTI headers: what ITK would make up where they are empty, and two orientations that disagree."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.imaging.files import bad_file

# Header size: byte and type of pixdim, the codes of qform and sform, the quaternion and offset, and the sform's rows.
_LAYOUTS = {
    348: ((76, "8f"), (252, "2h"), (256, "6f"), (280, "12f")),
    540: ((104, "8d"), (344, "2i"), (352, "6d"), (400, "12d")),
}
_LONGEST = 540
SAME_PLACE = 0.1  # of a voxel, at the image's corners


def check_nifti_header(path: Path) -> None:
    """Refuses a header without a voxel size or an orientation, or with two orientations.

    ITK reads a size of 0 as 1 mm, and of two orientations takes one without a word.

    Raises:
        SiteError: If so.
    """
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            header = file.read(_LONGEST)
    except (OSError, EOFError):  # ITK says what is wrong with it
        return
    order = "<" if int.from_bytes(header[:4], "little") in _LAYOUTS else ">"
    layout = _LAYOUTS.get(int.from_bytes(header[:4], "little" if order == "<" else "big"))
    if layout is None or len(header) < 348:
        return
    pixdim, codes, quaternion, rows = (np.array(struct.unpack_from(order + kind, header, at)) for at, kind in layout)
    if not np.isfinite(pixdim[1:4]).all() or not pixdim[1:4].all():
        found = f"a voxel size of {', '.join(f'{size:g}' for size in pixdim[1:4])}"
        raise bad_file(path, "an image does not say how large its voxels are", found, "three sizes above 0")
    qform, sform = codes > 0
    if not qform and not sform:
        found = "neither a qform nor an sform"
        raise bad_file(path, "an image does not say its orientation", found, "one of them, as converters write")
    if qform and sform:
        kind, at = ("i2", 42) if layout is _LAYOUTS[348] else ("i8", 24)
        size = np.frombuffer(header, order + kind, 3, at)
        apart = _apart(_of_quaternion(pixdim, quaternion), rows.reshape(3, 4), size)
        if apart > SAME_PLACE * float(np.abs(pixdim[1:4]).min()):
            found = f"qform and sform, up to {apart:.1f} mm apart"
            raise bad_file(path, "an image has two orientations", found, "one, or two that are the same")


def _of_quaternion(pixdim: NDArray[np.float64], quaternion: NDArray[np.float64]) -> NDArray[np.float64]:
    """The qform as rows `(3, 4)`: NIfTI-1, method 2."""
    b, c, d = quaternion[:3]
    a = np.sqrt(max(0.0, 1.0 - b * b - c * c - d * d))
    turn = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - c * c - b * b],
        ]
    )
    scale = np.abs(pixdim[1:4]) * [1, 1, -1 if pixdim[0] < 0 else 1]
    return np.column_stack([turn * scale, quaternion[3:]])


def _apart(one: NDArray[np.float64], other: NDArray[np.float64], size: NDArray[np.generic]) -> float:
    """How far apart two maps from voxels to mm are, at most, at an image's corners."""
    corners = np.array(np.meshgrid(*[(0.0, max(float(n) - 1, 1.0)) for n in size])).reshape(3, -1)
    return float(np.linalg.norm((one - other) @ np.vstack([corners, np.ones(corners.shape[1])]), axis=0).max())
