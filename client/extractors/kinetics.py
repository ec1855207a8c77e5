"""Enhancement kinetics (PE, SER, FTV, wash-in and wash-out) and shape of a tumour in dynamic MRI.

With S0 before contrast, S1 early and S2 late after it:

* percent enhancement PE1 = 100 (S1 - S0) / S0; signal enhancement ratio SER = (S1 - S0) / (S2 - S0), in
  mean, deviation, entropy and peak cut off at 0 and 3;
* wash-in (S1 - S0) / (S0 dt) and wash-out (S2 - S1) / (S1 dt), in 1/s, dt between the two phases;
* the functional tumour volume has PE1 >= 70 %, SER >= 0 and at least four such neighbours of 26; it is counted whole
  (`SER_Total_tumor_vol_cu_mm`) and within ranges of SER, from 0 over .9, 1, 1.3 and 1.75 to 3.

Voxels count where S0 reaches 60 % of its 95th percentile in the mask. Definitions: Hylton et al., Locally Advanced
Breast Cancer: MR Imaging for Prediction of Response to Neoadjuvant Chemotherapy, Radiology 263 (2012) 663-672. Names:
Duke's sheet of features (10.1038/s41416-018-0185-8), as far as it has them; that partial is .9-1.3 and wash-out 1.3-3
is our choice. docs/measures.md holds the maps to those of a hospital.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve, distance_transform_edt, find_objects, gaussian_filter, uniform_filter

from client.imaging.exams import Exam

VERSION = 1  # raise it when the same exam gives other values

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

SER_EDGES = (0.0, 0.9, 1.0, 1.3, 1.75, 3.0)
SER_RANGES = {f"SER_{low:g}_to_{high:g}_tumor_vol_cu_mm": (low, high) for low, high in itertools.pairwise(SER_EDGES)}
FEATURES: Mapping[str, tuple[str, ...]] = dict.fromkeys(
    (
        "Volume_cu_mm_Tumor",
        "Sphericity_tumor",
        "PE1_mean_tumor",
        "PE1_std_dev_tumor",
        "Rim_to_core_PE1_ratio",
        "WashinRate_map_mean_tumor",
        "WashoutRate_map_mean_tumor",
        "SER_map_mean_tumor",
        "SER_map_std_dev_tumor",
        "SER_map_Entropy_tumor",
        "Peak_SER_tumor",
        "SER_Total_tumor_vol_cu_mm",
        "SER_Partial_tumor_vol_cu_mm",
        "SER_Washout_tumor_vol_cu_mm",
        *SER_RANGES,
    ),
    (),
)

EARLY_SECONDS, LATE_SECONDS = 150.0, 450.0
MIN_SIGNAL = 0.6  # of the 95th percentile before contrast, for a voxel to count
MIN_PE_PERCENT, MIN_NEIGHBOURS = 70.0, 4
MIN_RISE = 0.05  # of S0: where S2 hardly differs from it, SER divides by noise
PARTIAL_SER, WASHOUT_SER, MAX_SER = 0.9, 1.3, 3.0
ENTROPY_BINS = 30
RIM_MM = 2.5
SMOOTHING_MM = 1.0


def measure(exam: Exam) -> dict[str, float | str]:
    """The values of `FEATURES`; nan without a mask, and where phases or their times are too few."""
    import SimpleITK as sitk

    if exam.mask is None:
        return dict.fromkeys(FEATURES, math.nan)
    phases = [sitk.GetArrayViewFromImage(phase) for phase in exam.phases]
    mask = sitk.GetArrayViewFromImage(exam.mask) != 0
    return dict(kinetics(phases, mask, exam.phases[0].GetSpacing()[::-1], exam.seconds))


def kinetics(
    phases: Sequence[NDArray[Any]] | NDArray[Any],
    mask: Mask,
    spacing_mm: Sequence[float],
    seconds: Sequence[float] | None,
) -> dict[str, float]:
    """The values of `FEATURES`: volumes in mm3, wash-in and wash-out in 1/s, entropy in bits over 30 bins of SER.

    Args:
        phases: Each `(D, H, W)`, the pre-contrast one first.
        mask: `(D, H, W)` the tumour, not empty.
        spacing_mm: Of a voxel along `(D, H, W)`.
        seconds: When each phase was taken, or None; without, there is no wash-in and no wash-out.
    """
    (box,) = find_objects(mask.astype(np.int8))
    mask, voxel = mask[box], float(np.prod(spacing_mm))
    values = dict.fromkeys(FEATURES, math.nan)
    values["Volume_cu_mm_Tumor"] = float(mask.sum() * voxel)
    values["Sphericity_tumor"] = sphericity(mask, spacing_mm)
    if len(phases) < 2:
        return values
    first, last = early_and_late(len(phases), seconds)
    before, early = (phases[index][box].astype(np.float64) for index in (0, first))
    valid = mask & enough_signal(before, mask)
    if not valid.any():
        return values
    rise = relative_change(before, early)
    values["PE1_mean_tumor"] = float(100 * rise[valid].mean())
    values["PE1_std_dev_tumor"] = float(100 * rise[valid].std())
    values["Rim_to_core_PE1_ratio"] = rim_to_core(rise, mask, valid, spacing_mm)
    if seconds:
        values["WashinRate_map_mean_tumor"] = float(rise[valid].mean() / (seconds[first] - seconds[0]))
    if last is None:
        return values
    late = phases[last][box].astype(np.float64)
    ser = signal_enhancement_ratio(before, early, late, valid)
    if seconds and (bright := valid & (early > 0)).any():
        fall = relative_change(early, late)[bright].mean()
        values["WashoutRate_map_mean_tumor"] = float(fall / (seconds[last] - seconds[first]))
    return values | _of_map(np.clip(ser, 0, MAX_SER)) | _volumes(functional_tumour(100 * rise, ser), ser, voxel)


def early_and_late(phases: int, seconds: Sequence[float] | None) -> tuple[int, int | None]:
    """Which of at least two phases are S1 and S2.

    S1 is the post-contrast phase nearest to 150 s after the first, and not the last of several; S2 the one of those
    after S1 that is nearest to 450 s. Without times: the first and the last post-contrast one. Of two phases, none
    is S2. Times run from the pre-contrast phase, as files say nothing certain of the injection.
    """
    if phases == 2:
        return 1, None
    if not seconds:
        return 1, phases - 1
    after = [second - seconds[0] for second in seconds]
    early = min(range(1, phases - 1), key=lambda index: abs(after[index] - EARLY_SECONDS))
    return early, min(range(early + 1, phases), key=lambda index: abs(after[index] - LATE_SECONDS))


def enough_signal(before: Array, region: Mask) -> Mask:
    """Voxels `(D, H, W)` whose signal before contrast reaches 60 % of the 95th percentile in a region."""
    return np.asarray((before >= MIN_SIGNAL * np.percentile(before[region], 95)) & (before > 0))


def percent_enhancement(before: Array, after: Array) -> Array:
    """PE `(D, H, W)` in percent; nan without signal before contrast."""
    return 100 * relative_change(before, after)


def relative_change(before: Array, after: Array) -> Array:
    """(after - before) / before; nan where there is no signal before."""
    return np.divide(after - before, before, out=np.full_like(before, np.nan), where=before > 0)


def signal_enhancement_ratio(before: Array, early: Array, late: Array, valid: Mask) -> Array:
    """SER `(D, H, W)`; nan outside `valid` and where the late signal hardly differs from the first."""
    rise = late - before
    steady = valid & (np.abs(rise) >= MIN_RISE * np.abs(before)) & (rise != 0)
    return np.divide(early - before, rise, out=np.full_like(before, np.nan), where=steady)


def functional_tumour(percent: Array, ser: Array) -> Mask:
    """Voxels `(D, H, W)` that enhance by 70 % with an SER of at least 0, and four such neighbours of 26."""
    enhancing = (percent >= MIN_PE_PERCENT) & (np.nan_to_num(ser, nan=-1.0) >= 0)
    neighbours = convolve(enhancing.astype(np.int16), np.ones((3, 3, 3), dtype=np.int16), mode="constant") - enhancing
    return np.asarray(enhancing & (neighbours >= MIN_NEIGHBOURS))


def peak(ser: Array) -> float:
    """The highest mean SER of a 3 x 3 x 3 neighbourhood about a voxel with an SER; nan without any."""
    known = ~np.isnan(ser)
    if not known.any():
        return math.nan
    total = uniform_filter(np.nan_to_num(ser), 3, mode="constant")
    return float((total[known] / uniform_filter(known.astype(np.float64), 3, mode="constant")[known]).max())


def rim_to_core(rise: Array, mask: Mask, valid: Mask, spacing_mm: Sequence[float]) -> float:
    """Mean enhancement of the outer 2.5 mm over that of the rest; nan where there is no rest."""
    depth = distance_transform_edt(np.pad(mask, 1), sampling=spacing_mm)[1:-1, 1:-1, 1:-1]
    # A voxel's centre is half a voxel deeper below the surface than the nearest outside centre says.
    rim = valid & (depth - 0.5 * min(spacing_mm) < RIM_MM)
    core = valid & ~rim
    if not rim.any() or not core.any():
        return math.nan
    return float(rise[rim].mean() / max(rise[core].mean(), 1e-3))


def sphericity(mask: Mask, spacing_mm: Sequence[float]) -> float:
    """Surface of a ball of the same volume over the tumour's own, about 1 for a ball.

    The surface is the total variation of the mask after 1 mm of smoothing, which no voxel staircase inflates.
    """
    margin = math.ceil(4 * SMOOTHING_MM / min(spacing_mm))
    smooth = gaussian_filter(np.pad(mask, margin).astype(np.float64), [SMOOTHING_MM / step for step in spacing_mm])
    slopes = np.gradient(smooth, *spacing_mm)
    voxel = float(np.prod(spacing_mm))
    surface = np.sqrt(sum(slope**2 for slope in slopes)).sum() * voxel
    return float(np.pi ** (1 / 3) * (6 * (mask.sum() * voxel)) ** (2 / 3) / surface)


def _of_map(ser: Array) -> dict[str, float]:
    known = ser[~np.isnan(ser)]
    if not known.size:
        return {}
    shares = np.histogram(known, ENTROPY_BINS, (0, MAX_SER))[0] / known.size
    return {
        "SER_map_mean_tumor": float(known.mean()),
        "SER_map_std_dev_tumor": float(known.std()),
        "SER_map_Entropy_tumor": float(-(shares[shares > 0] * np.log2(shares[shares > 0])).sum()),
        "Peak_SER_tumor": peak(ser),
    }


def _volumes(functional: Mask, ser: Array, voxel: float) -> dict[str, float]:
    """Of the functional tumour in mm3, whole and by SER; the highest range has its upper end."""
    ranges = {
        "SER_Total_tumor_vol_cu_mm": (0.0, math.inf),
        "SER_Partial_tumor_vol_cu_mm": (PARTIAL_SER, WASHOUT_SER),
        "SER_Washout_tumor_vol_cu_mm": (WASHOUT_SER, math.inf),
        **{name: (low, math.inf if high == MAX_SER else high) for name, (low, high) in SER_RANGES.items()},
    }
    return {
        name: float((functional & (ser >= low) & (ser < high)).sum() * voxel) for name, (low, high) in ranges.items()
    }
