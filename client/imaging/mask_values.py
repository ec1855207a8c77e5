"""Values of a mask: labels, fractions of a voxel or probabilities, and what is no mask at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.imaging.files import bad_file

MAX_SHARE = 0.5  # of the image: a tumour is smaller, an inverted mask or a mask of the breast larger
MAX_LABELS = 12  # different whole numbers: more are grey values
NOTHING = 0.05  # of the highest value: what an interpolation or a network leaves where nothing is
BYTE = 255.0


def tumour_voxels(path: Path, voxels: NDArray[Any], label: int | None) -> NDArray[np.uint8]:
    """Where the tumour is, as 0 and 1, of a mask's shape.

    One whole number besides 0 is a mask, whatever it is; of several, `label` says which. Other values are fractions of
    1, or of 255 as in pictures, and count from one half on.

    Args:
        path: The file, for messages.
        voxels: The mask as it was read.
        label: The tumour's label, or None.

    Raises:
        SiteError: If the values are no mask's, or the label is missing or not said.
    """
    values = np.unique(voxels)
    if values[0] < 0:
        expected = "0 where the tumour is not, and other values where it is"
        raise bad_file(path, "a mask has negative values", f"values from {values[0]:g} to {values[-1]:g}", expected)
    marked = values[values > 0]
    if not len(marked):
        raise bad_file(path, "a mask is empty", "0 everywhere", "other values where the tumour is")
    if label is None and (np.any(values % 1) or len(marked) > MAX_LABELS):
        inside = voxels > _half(path, voxels, float(values[-1]))
    else:
        inside = voxels == _label(path, voxels, marked, label)
    if not inside.any():
        raise bad_file(path, "a mask is empty", f"values up to {values[-1]:g}", "one half or more where the tumour is")
    return inside.astype(np.uint8)


def check_share(path: Path, inside: NDArray[Any]) -> None:
    """Refuses a mask that marks most of its image, as an inverted one does.

    Raises:
        SiteError: If so.
    """
    share = float((inside != 0).mean())
    if share > MAX_SHARE:
        found, expected = f"{share:.0%} of the image's voxels are marked", f"at most {MAX_SHARE:.0%}: the tumour"
        raise bad_file(path, "a mask covers most of its image", found, expected)


def _label(path: Path, voxels: NDArray[Any], marked: NDArray[Any], label: int | None) -> float:
    if label is None and len(marked) == 1:
        return float(marked[0])
    if label is not None and label in marked:
        return float(label)
    found = ", ".join(f"{value:g} in {int((voxels == value).sum())} voxels" for value in marked[:MAX_LABELS])
    what = "a mask has several labels" if label is None else f"a mask has no label {label}"
    expected = "one value besides 0, or `mask: {file: ..., label: ...}` that says which is the tumour's"
    raise bad_file(path, what, found, expected)


def _half(path: Path, voxels: NDArray[Any], highest: float) -> float:
    """One half of what a whole voxel has."""
    whole = 1.0 if highest <= 1 else BYTE
    background = float((voxels <= NOTHING * whole).mean())
    if highest > whole or highest < 0.5 * whole or background < 1 - MAX_SHARE:
        found = f"values up to {highest:g}, {background:.0%} of them about 0"
        raise bad_file(path, "a file is an image and no mask", found, "labels, or fractions of 1 or 255 with 0 around")
    return whole / 2
