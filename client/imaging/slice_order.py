"""Slices of a stack beside their neighbours: out of order, the same twice, or on another scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

MANY = 48  # rows and columns that are examined of a larger image
JUMP = 2.5  # times the largest of the other changes within REACH slices
REACH, MIN_SLICES = 4, 10
LEAST_CHANGE = 0.3  # of the mean signal
TISSUE, MIN_TISSUE = 0.2, 100  # of the 99th percentile of the first phase; and voxels that tell something
CLOSER = 0.8  # of the change to the next slice: that to one farther off is larger in a stack that is in order
GRAIN = 32  # grey values of a slice that is no drawing, which may repeat
OTHER_SCALE = 1.3  # of a slice's ratio to the signal before contrast, over its neighbours'


def slice_remark(phases: Sequence[NDArray[Any]]) -> str:
    """What looks wrong, the first thing only; empty where nothing does.

    Args:
        phases: `(D, H, W)` each, the one before contrast first.
    """
    down, right = (math.ceil(size / MANY) for size in phases[0].shape[1:])
    few = [phase[:, ::down, ::right].astype(np.float32) for phase in phases]
    if any(np.array_equal(one, next_) and len(np.unique(one)) > GRAIN for one, next_ in pairwise(few[0])):
        return "neighbouring slices are the same image; export the stack with its own slices"
    if _jumps(few[0]) or _is_shuffled(few[0]):
        return "neighbouring slices do not fit together; check that they are in order, of one stack and of one scale"
    if any(_odd_scale(few[0], phase) for phase in few[1:]):
        return "some slices of a phase are on another scale than those beside them; check rescale slopes"
    return ""


def _jumps(voxels: NDArray[np.float32]) -> bool:
    """Whether two neighbours differ far more than those about them, as where two stacks meet."""
    if len(voxels) < MIN_SLICES or not voxels.any():
        return False
    changes = np.abs(np.diff(voxels, axis=0)).mean(axis=(1, 2)) / np.abs(voxels).mean()
    for at in range(1, len(changes) - 1):
        others = np.delete(changes, at)[max(0, at - REACH) : at + REACH]
        if changes[at] > LEAST_CHANGE and changes[at] > JUMP * others.max():
            return True
    return False


def _is_shuffled(voxels: NDArray[np.float32]) -> bool:
    """Whether slices are more like those some places on than like the next, as where even ones follow odd ones."""
    count = len(voxels)
    if count < MIN_SLICES:
        return False
    next_ = np.abs(np.diff(voxels, axis=0)).mean(axis=(1, 2))
    for lag in range(2, count // 2 + 1):
        change = np.abs(voxels[lag:] - voxels[:-lag]).mean()
        if change < CLOSER * next_[: count - lag].mean():
            return True
    return False


def _odd_scale(before: NDArray[np.float32], after: NDArray[np.float32]) -> bool:
    tissue = before > max(TISSUE * float(np.percentile(before, 99)), 0.0)
    known = [at for at, inside in enumerate(tissue) if inside.sum() >= MIN_TISSUE]
    if len(known) < MIN_SLICES:
        return False
    ratios = np.array([np.median(after[at][tissue[at]] / before[at][tissue[at]]) for at in known])
    beside = [np.median(np.delete(ratios, at)[max(0, at - 2) : at + 2]) for at in range(len(ratios))]
    odd = np.abs(np.log(np.maximum(ratios, 1e-6) / np.maximum(beside, 1e-6))) > np.log(OTHER_SCALE)
    return bool(odd.any())
