"""Signal of an exam's phases, each by itself: cut off, coarse, negative, or with its grey values evened out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

NEGATIVE_SHARE = 0.05  # of the voxels; interpolation makes a few at edges
CUT_OFF_SHARE, CUT_OFF_LEAST = 1e-3, 50  # of the voxels, and how many, that have the highest value
FEW_VALUES = (8, 32)  # of a phase: fewer are a drawing, more an image
PERCENTILES = (50, 75, 90, 99, 99.9)
SAME = 2e-3  # between those of two phases, as a share


def signal_remark(phases: Sequence[NDArray[Any]], sampled: Sequence[NDArray[np.float64]]) -> str:
    """What looks wrong, the first thing only; empty where nothing does.

    Args:
        phases: Arrays of all voxels.
        sampled: Some voxels of each, flat.
    """
    if any((few < 0).mean() > NEGATIVE_SHARE for few in sampled):
        return "signal is negative, as after a standardisation or a subtraction; give the images as they were measured"
    values = [len(np.unique(few)) for few in sampled]
    if any(FEW_VALUES[0] <= count < FEW_VALUES[1] for count in values):
        return f"a phase has fewer than {FEW_VALUES[1]} grey values; export the originals"
    if min(values) >= FEW_VALUES[1] and any(map(_is_cut_off, phases, sampled)):
        return "many voxels of a phase have its highest value, as where grey values were cut off; export the originals"
    levels = np.array([np.percentile(few, PERCENTILES) for few in sampled])
    if len(levels) > 1 and np.allclose(levels, levels[0], rtol=SAME, atol=0) and levels[0, 0] > 0:
        return "all phases have the same share of each grey value, as after an equalisation; export the originals"
    return ""


def _is_cut_off(phase: NDArray[Any], sampled: NDArray[np.float64]) -> bool:
    high = sampled.max()
    if high <= np.median(sampled) or (sampled == high).mean() < CUT_OFF_SHARE / 2:
        return False
    count = int((phase == phase.max()).sum())
    return count >= max(CUT_OFF_LEAST, CUT_OFF_SHARE * phase.size)
