"""Signal of an exam's phases: cut off, coarse, negative, of exchanged bytes, or with its grey values evened out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.imaging.steps import steps

NEGATIVE_SHARE = 0.05  # of the voxels; interpolation makes a few at edges
FAR_BELOW, FAR_SHARE = 0.2, 1e-4  # of the 99th percentile, below 0, and of the voxels: interpolation makes none
CUT_OFF_SHARE, CUT_OFF_LEAST = 1e-3, 50  # of the voxels, and how many, that have the highest value
FEW_VALUES = (8, 32)  # of a phase: fewer are a drawing, more an image
NOISE, NOISE_SLICES = 0.8, 8  # of the difference of voxels half an image apart; and slices that are examined
PERCENTILES = (50, 75, 90, 99, 99.9)
SAME = 2e-3  # between those of two phases, as a share
SAME_MEAN = (
    1e-4  # likewise of the means of all voxels: a tumour of 6 mm that alone takes up contrast changes them by more
)
BYTE, FEW_RESIDUES, WIDE = 256, 16, 4096  # remainders of whole numbers, and their range, that exchanged bytes leave
BLOCKY, PLANES = 1.6, 3  # as of tiles; and slices in the middle that are examined


def signal_remark(phases: Sequence[NDArray[Any]], sampled: Sequence[NDArray[np.float64]]) -> str:
    """What looks wrong, the first thing only; empty where nothing does.

    Args:
        phases: Arrays of all voxels.
        sampled: Some voxels of each, flat.
    """
    if any(map(_is_negative, sampled)):
        return "signal is negative, as after a standardisation or a subtraction; give the images as they were measured"
    if any(map(_has_exchanged_bytes, sampled)):
        return (
            "a phase's two bytes are exchanged, or its values lost some bits; export it with the header it belongs to"
        )
    if any(map(_is_noise, phases)):
        return "a phase looks like noise; check the order of its bytes, and how many of its bits are stored"
    values = [len(np.unique(few)) for few in sampled]
    if any(FEW_VALUES[0] <= count < FEW_VALUES[1] for count in values):
        return f"a phase has fewer than {FEW_VALUES[1]} grey values; export the originals"
    if min(values) >= FEW_VALUES[1] and any(map(_is_cut_off, phases, sampled)):
        return "many voxels of a phase have its highest value, as where grey values were cut off; export the originals"
    levels = np.array([np.percentile(few, PERCENTILES) for few in sampled])
    if len(levels) > 1 and np.allclose(levels, levels[0], rtol=SAME, atol=0) and levels[0, 0] > 0:
        return "all phases have the same share of each grey value, as after an equalisation; export the originals"
    means = [float(phase.mean(dtype=np.float64)) for phase in phases]
    if len(means) > 1 and np.ptp(means) < SAME_MEAN * abs(means[0]):
        return "all phases have the same mean, as after a standardisation of each; export the originals"
    if _has_blocks(phases[0]):
        return "slices consist of blocks of 8 by 8, as after a strong lossy compression; export the originals"
    return ""


def _has_exchanged_bytes(few: NDArray[np.float64]) -> bool:
    """Whether whole numbers, of some unit, have a second byte that varies and a first that hardly does."""
    values = np.unique(few)
    if len(values) < FEW_VALUES[1]:
        return False
    counts = values / np.diff(values).min()
    whole = np.round(counts)
    if whole[-1] - whole[0] < WIDE or np.abs(counts - whole).max() > 0.01:
        return False
    return 1 < len(np.unique(whole % BYTE)) < FEW_RESIDUES


def _has_blocks(phase: NDArray[Any]) -> bool:
    middle = max(0, len(phase) // 2 - PLANES // 2)
    return steps(phase[middle : middle + PLANES])[1] > BLOCKY


def _is_noise(phase: NDArray[Any]) -> bool:
    """Whether neighbouring voxels of a row differ as much as voxels far apart."""
    rows = phase[:: max(1, len(phase) // NOISE_SLICES)].astype(np.float32)
    far = np.abs(rows - np.roll(rows, rows.shape[1] // 2, axis=1)).mean()
    return bool(far > 0 and np.abs(np.diff(rows, axis=2)).mean() > NOISE * far)


def _is_negative(few: NDArray[np.float64]) -> bool:
    """Whether many voxels are below 0, or some are far below, as where numbers overflowed."""
    below = few < -FAR_BELOW * float(np.percentile(few, 99))
    return bool((few < 0).mean() > NEGATIVE_SHARE or below.mean() > FAR_SHARE)


def _is_cut_off(phase: NDArray[Any], sampled: NDArray[np.float64]) -> bool:
    high = sampled.max()
    if high <= np.median(sampled) or (sampled == high).mean() < CUT_OFF_SHARE / 2:
        return False
    count = int((phase == phase.max()).sum())
    return count >= max(CUT_OFF_LEAST, CUT_OFF_SHARE * phase.size)
