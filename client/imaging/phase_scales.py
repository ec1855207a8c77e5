"""Scales of an exam's phases beside each other: one that jumps, changes across the image, or bends the grey values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

TISSUE = 0.2  # of the 99th percentile of the signal before contrast
JUMP = 1.8  # between the medians of two phases after contrast: tissue takes up and loses far less between them
DARKER = 0.8  # median of a part's ratios to the signal before contrast; no contrast agent darkens a quarter of an image
PARTS, MIN_PART = 4, 200  # parts along an axis, and voxels of tissue in one that tell something
MIN_SHARE = 0.05  # of all tissue: fewer voxels are bright by their noise, and darker in the next phase
BENT, ALIKE = (0.7, 1.5), 0.9  # spread of logarithms over that before contrast, where both go together
UNENHANCED = (2, 85)  # percentiles of the tissue's ratios, between which hardly anything is a tumour or a vessel
MIN_SPREAD = 0.02  # of those logarithms, below which they are noise
SLICES = 32  # that are enough
EVERY, MANY = 2, 64  # of the voxels along rows and columns; fewer of larger images, of which so many are enough

Signal = NDArray[np.float64]


def local_remark(phases: Sequence[NDArray[Any]], sampled: Sequence[Signal], medians: Sequence[float]) -> str:
    """What looks wrong, the first thing only; empty where nothing does.

    Args:
        phases: `(D, H, W)` each, the one before contrast first.
        sampled: Some voxels of each, flat.
        medians: Of each later phase's tissue over that before contrast.
    """
    if len(medians) > 1 and max(medians) > JUMP * min(medians):
        return "one phase after contrast is much brighter than another; check rescale slopes, and how it was exported"
    tissue = sampled[0] > max(TISSUE * float(np.percentile(sampled[0], 99)), 0.0)
    if any(_is_bent(sampled[0][tissue], phase[tissue]) for phase in sampled[1:]):
        return "a phase has other steps of grey than the first, as after a root or a logarithm; export the originals"
    if any(_darkens_in_part(phases[0], phase) for phase in phases[1:]):
        return "a part of a phase is darker than before contrast; check that its brightness was not corrected alone"
    return ""


def _is_bent(before: Signal, after: Signal) -> bool:
    """Whether one is a power of the other, as a line between their logarithms shows."""
    positive = (before > 0) & (after > 0)
    if positive.sum() < MIN_PART:
        return False
    first, second = np.log(before[positive]), np.log(after[positive])
    low, high = np.percentile(second - first, UNENHANCED)
    plain = (second - first >= low) & (second - first <= high)
    first, second = first[plain], second[plain]
    if min(first.std(), second.std()) < MIN_SPREAD or float(np.corrcoef(first, second)[0, 1]) < ALIKE:
        return False
    return not BENT[0] <= float(second.std() / first.std()) <= BENT[1]


def _darkens_in_part(before: NDArray[Any], after: NDArray[Any]) -> bool:
    """Whether a quarter of the image, along one of its axes, is darker than before contrast, in its median."""
    few = (
        slice(None, None, max(1, len(before) // SLICES)),
        *(slice(None, None, max(EVERY, n // MANY)) for n in before.shape[1:]),
    )
    first, second = before[few].astype(np.float64), after[few].astype(np.float64)
    tissue = first > max(TISSUE * float(np.percentile(first, 99)), 0.0)
    for axis in range(3):
        parts = [np.array_split(array, PARTS, axis) for array in (first, second, tissue)]
        for before_part, after_part, inside in zip(*parts, strict=True):
            ratios = after_part[inside] / before_part[inside]
            if len(ratios) >= max(MIN_PART, MIN_SHARE * tissue.sum()) and float(np.median(ratios)) < DARKER:
                return True
    return False
