"""Kinetic and shape features of a tumour, measured on the volume and its mask.

Percent enhancement PE1 = 100 (S1 - S0) / S0 and the signal enhancement ratio SER = (S1 - S0) / (S2 - S0), with the
first post-contrast phase as S1 and the last as S2, as Hylton et al., Locally Advanced Breast Cancer: MR Imaging for
Prediction of Response to Neoadjuvant Chemotherapy, Radiology 263 (2012) 663-672. Voxels count where the pre-contrast
signal reaches 60 % of the tumour's 95th percentile. The functional tumour volume has PE1 >= 70 %, SER >= 0 and at least
four such neighbours of 26. The names are those of Duke's sheet of radiomic features (10.1038/s41416-018-0185-8); our
choice are the SER ranges of its three volumes: total 0-3, partial .9-1.3, wash-out 1.3-3.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve, distance_transform_edt, find_objects, gaussian_filter, uniform_filter

from simulation.phantom import RIM_MM, SPACING_MM, Exam, Mask

Volume = NDArray[np.float64]

FEATURES = (
    "Volume_cu_mm_Tumor",
    "SER_Total_tumor_vol_cu_mm",
    "SER_Partial_tumor_vol_cu_mm",
    "SER_Washout_tumor_vol_cu_mm",
    "Peak_SER_tumor",
    "SER_map_mean_tumor",
    "SER_map_std_dev_tumor",
    "SER_map_Entropy_tumor",
    "WashinRate_map_mean_tumor",
    "PE1_mean_tumor",
    "PE1_std_dev_tumor",
    "Rim_to_core_PE1_ratio",
    "Sphericity_tumor",
)

_VOXEL_CU_MM = float(np.prod(SPACING_MM))
_PARTIAL_SER, _WASHOUT_SER, _LARGEST_SER = 0.9, 1.3, 3.0
_ENTROPY_BINS = 30


def measure(exam: Exam) -> dict[str, float]:
    """The features `FEATURES` of an exam; nan where the tumour leaves one undefined.

    Wash-in is in 1/s, volumes in mm3, entropy in bits over 30 bins of SER from 0 to 3.
    """
    (box,) = find_objects(exam.mask.astype(np.int8))
    mask = exam.mask[box]
    before, early, late = (exam.phases[index][box].astype(np.float64) for index in (0, 1, -1))
    valid = mask & (before >= 0.6 * np.percentile(before[mask], 95))
    enhancement = np.divide(early - before, before, out=np.zeros_like(before), where=valid & (before > 0))
    ser = signal_enhancement_ratio(before, early, late, valid)
    functional = functional_tumour(enhancement, ser)
    known = ser[~np.isnan(ser)]
    shares = np.histogram(np.clip(known, 0, _LARGEST_SER), _ENTROPY_BINS, (0, _LARGEST_SER))[0] / max(known.size, 1)
    values = (
        mask.sum() * _VOXEL_CU_MM,
        _volume(functional, ser, 0.0),
        _volume(functional, ser, _PARTIAL_SER, _WASHOUT_SER),
        _volume(functional, ser, _WASHOUT_SER),
        peak(ser),
        known.mean() if known.size else np.nan,
        known.std() if known.size else np.nan,
        -(shares[shares > 0] * np.log2(shares[shares > 0])).sum(),
        enhancement[valid].mean() / (exam.seconds[1] - exam.seconds[0]),
        100 * enhancement[valid].mean(),
        100 * enhancement[valid].std(),
        rim_to_core(enhancement, mask, valid),
        sphericity(mask),
    )
    return dict(zip(FEATURES, map(float, values), strict=True))


def signal_enhancement_ratio(before: Volume, early: Volume, late: Volume, valid: Mask) -> Volume:
    """SER `(D, H, W)`, within 0 to 3; nan outside `valid` and where the late signal hardly differs from the first."""
    rise = late - before
    steady = valid & (np.abs(rise) >= 0.05 * np.abs(before))
    ser = np.divide(early - before, rise, out=np.full_like(before, np.nan), where=steady)
    return np.asarray(np.clip(ser, 0, _LARGEST_SER))


def functional_tumour(enhancement: Volume, ser: Volume) -> Mask:
    """Voxels `(D, H, W)` that enhance by 70 % with an SER of at least 0, and four such neighbours of 26."""
    enhancing = (enhancement >= 0.7) & (np.nan_to_num(ser, nan=-1.0) >= 0)
    neighbours = convolve(enhancing.astype(np.int16), np.ones((3, 3, 3), dtype=np.int16), mode="constant") - enhancing
    return np.asarray(enhancing & (neighbours >= 4))


def peak(ser: Volume) -> float:
    """The highest mean SER of a 3 x 3 x 3 neighbourhood about a voxel with an SER; nan without any."""
    known = ~np.isnan(ser)
    if not known.any():
        return float("nan")
    total = uniform_filter(np.nan_to_num(ser), 3, mode="constant")
    return float((total[known] / uniform_filter(known.astype(np.float64), 3, mode="constant")[known]).max())


def rim_to_core(enhancement: Volume, mask: Mask, valid: Mask) -> float:
    """Mean enhancement of the outer 2.5 mm over that of the rest; nan where there is no rest."""
    depth = distance_transform_edt(np.pad(mask, 1), sampling=SPACING_MM)[1:-1, 1:-1, 1:-1]
    # A voxel's centre is half a voxel deeper below the surface than the nearest outside centre says.
    rim = valid & (depth - 0.5 < RIM_MM)
    core = valid & ~rim
    if not rim.any() or not core.any():
        return float("nan")
    return float(enhancement[rim].mean() / max(enhancement[core].mean(), 1e-3))


def sphericity(mask: Mask) -> float:
    """Surface of a ball of the same volume over the tumour's own, about 1 for a ball.

    The surface is the total variation of the mask after 1 mm of smoothing, which no voxel staircase inflates.
    """
    smooth = gaussian_filter(np.pad(mask, 4).astype(np.float64), [1 / step for step in SPACING_MM])
    slopes = np.gradient(smooth, *SPACING_MM)
    surface = np.sqrt(sum(slope**2 for slope in slopes)).sum() * _VOXEL_CU_MM
    volume = mask.sum() * _VOXEL_CU_MM
    return float(np.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / surface)


def _volume(functional: Mask, ser: Volume, low: float, high: float = np.inf) -> float:
    return float((functional & (ser >= low) & (ser < high)).sum() * _VOXEL_CU_MM)
