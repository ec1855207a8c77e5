"""Shape of a tumour's mask: in one slice only, in specks, or an outline that was not filled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FLAT = 2.0  # times the distance of slices that a tumour of one slice may measure in it
HOLLOW = 0.3  # of a mask with its holes filled
SPECK, MANY = 3, 20  # voxels of a part, and such parts, that no outline leaves
GAPS = 3  # times that a part of the tumour ends and goes on some slices farther
MIN_SLICES = 4  # of an image of which a mask may miss some


def shape_remark(inside: NDArray[np.bool_], spacing_mm: Sequence[float]) -> str:
    """What looks wrong, the first thing only; empty where nothing does.

    Args:
        inside: `(D, H, W)`.
        spacing_mm: Along x, y and z.
    """
    if not inside.any():
        return ""
    box = inside[bounds(inside)]
    extent_mm = box.shape * np.asarray(spacing_mm)[::-1]
    if len(inside) >= MIN_SLICES and len(box) == 1 and max(extent_mm[1:]) > FLAT * extent_mm[0]:
        return "the mask is in one slice only; outline the tumour in every slice that shows it"
    if _specks(box) > MANY:
        return "the mask has many specks of a few voxels; delete them, and check what it was made by"
    if _gaps(box) > GAPS:
        return "the mask lacks slices between others; outline the tumour in every slice that shows it"
    if _share_of_holes(box) > HOLLOW:
        return "the mask is hollow, as an outline that was not filled; fill it"
    return ""


def _gaps(inside: NDArray[np.bool_]) -> int:
    """How often slices without the mask lie between such as show it at the same place, as no two tumours are."""
    change = np.diff(inside.any(axis=(1, 2)).astype(int))
    ends, starts = np.flatnonzero(change < 0), np.flatnonzero(change > 0) + 1
    return sum(bool((inside[end] & inside[start]).any()) for end, start in zip(ends, starts, strict=True))


def bounds(inside: NDArray[np.bool_], margin: float = 0.0) -> tuple[slice, ...]:
    """Where a mask is, with a margin on each side as a share of its extent, and one voxel more; none without one."""
    shown = [np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    ends = [(int(places[0]), int(places[-1]) + 1) for places in shown]
    rooms = [int(np.ceil(margin * (last - first))) + (margin > 0) for first, last in ends]
    return tuple(slice(max(0, first - room), last + room) for (first, last), room in zip(ends, rooms, strict=True))


def is_box(inside: NDArray[np.bool_]) -> bool:
    """Whether a mask is a box about the tumour, half of which is other tissue."""
    return bool(inside.any() and inside[bounds(inside)].all())


def _specks(inside: NDArray[np.bool_]) -> int:
    """How many parts have a few voxels only."""
    from scipy import ndimage

    sizes = np.bincount(ndimage.label(inside)[0].ravel())[1:]
    return int((sizes <= SPECK).sum())


def _share_of_holes(inside: NDArray[np.bool_]) -> float:
    """Of each slice with its holes filled, how much was hole, over all slices."""
    from scipy.ndimage import binary_fill_holes

    filled = sum(int(binary_fill_holes(layer).sum()) for layer in inside)
    return 1 - int(inside.sum()) / filled
