"""Reach of a tumour's mask: whether what takes up contrast continues beyond it, and whether each of its parts does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from client.imaging.mask_shape import bounds

MARGIN = 0.5  # of the mask's extent, on each side, within which uptake counts
MIN_VOXELS = 40  # of a mask; a vessel beside a smaller one may be as large
IDLE = 1.1  # times the tissue's rise, which a tumour's exceeds
LARGE_PART = 0.1  # of a mask, that is another tumour and no speck
BEYOND = 0.4  # of the uptake within the mask, that lies beyond it and hangs together with it
AS_HIGH = 0.7  # of the way from the tissue's rise to the mask's
OPEN_PART = 0.25  # of a mask, that takes up nothing and is not enclosed by what does, as a necrosis is
HIGH = 75  # percentile of a mask's rises, which is the tumour's, as most of it is
DEPTH = 2  # voxels from what takes up contrast, at which its blurred edge ends


class Uptake(NamedTuple):
    """What rises about a mask, in a box with a margin.

    Attributes:
        mask: Where the mask is.
        rise: The highest later signal over that before contrast, of the means of 27 voxels.
    """

    mask: NDArray[np.bool_]
    rise: NDArray[np.float32]


def uptake_about(phases: Sequence[NDArray[Any]], inside: NDArray[np.bool_]) -> Uptake:
    """What rises about a mask `(D, H, W)`, of phases likewise, the one before contrast first."""
    from scipy import ndimage

    box = bounds(inside, MARGIN)
    before, *later = [ndimage.uniform_filter(phase[box].astype(np.float32), 3) for phase in phases]
    least = max(1e-6, 0.05 * float(before[inside[box]].mean()))
    return Uptake(inside[box], np.asarray(np.max(later, axis=0) / np.maximum(before, least)))


def reaches_beyond(uptake: Uptake, tissue_rise: float, percentile: float = 50.0) -> bool:
    """Whether much of the tumour lies beyond its mask, measured by what of it is within.

    The tumour is what rises more than halfway from the tissue's rise to that of the mask, in one piece with it, and for
    the most part about as much: the gland beside it rises, too, and less.

    Args:
        uptake: About the mask.
        tissue_rise: The highest median of the tissue's ratios to the signal before contrast.
        percentile: Of the mask's ratios, which is a tumour's: a box about one is half tissue.
    """
    from scipy import ndimage

    mask, rise = uptake
    if mask.sum() < MIN_VOXELS:
        return False
    typical = float(np.percentile(rise[mask], percentile)) - tissue_rise
    high = rise > tissue_rise + typical / 2
    pieces, _ = ndimage.label(high)
    own = np.unique(pieces[mask & high])
    tumour = np.isin(pieces, own[own > 0])
    beyond = tumour & ~ndimage.binary_dilation(mask)
    if beyond.sum() <= BEYOND * (tumour & mask).sum():
        return False
    return bool(np.median(rise[beyond]) > tissue_rise + AS_HIGH * typical)


def has_open_part(uptake: Uptake, tissue_rise: float) -> bool:
    """Whether a quarter of a mask lies outside of what takes up contrast, as where it was copied or drawn too large."""
    from scipy import ndimage

    mask, rise = uptake
    if mask.sum() < MIN_VOXELS:
        return False
    idle = rise < (3 * tissue_rise + float(np.percentile(rise[mask], HIGH))) / 4
    open_ = ndimage.binary_erosion(idle | ~mask, iterations=DEPTH) & mask
    return bool(open_.sum() > OPEN_PART * mask.sum())


def has_idle_part(phases: Sequence[NDArray[Any]], inside: NDArray[np.bool_], tissue_rise: float) -> bool:
    """Whether a large part of a mask of several rises no more than the tissue does, as where no tumour is.

    Args:
        phases: `(D, H, W)` each, the one before contrast first.
        inside: `(D, H, W)` the mask.
        tissue_rise: As of `reaches_beyond`.
    """
    from scipy import ndimage

    box = bounds(inside)
    parts, count = ndimage.label(inside[box])
    if count < 2:
        return False
    before = phases[0][box].astype(np.float32)
    latest = np.max([phase[box] for phase in phases[1:]], axis=0)
    sizes = np.bincount(parts.ravel())[1:]
    large = np.flatnonzero(sizes >= max(LARGE_PART * sizes.sum(), 1)) + 1
    medians = [np.median(latest[parts == part] / np.maximum(before[parts == part], 1e-6)) for part in large]
    return bool(len(medians) and min(medians) <= IDLE * tissue_rise)
