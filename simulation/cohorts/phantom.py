"""Phantom of a tumour in contrast-enhanced MRI, from six latents of kinetics and shape.

Early enhancement at 90 s is e^{.30 wash_in} times a heterogeneity of mean 1 times a rim profile of mean 1; at 450 s
it is e^{.22 wash_out} times less, and linear between. The radius is e^{.35 size} times that of the protocol, 9 mm in
the breast and 6 mm in the brain, lobulated by spiculation. Volumes are `(phases, D, H, W)`: `(4, 32, 64, 64)` with
voxels of `(2, 1, 1)` mm of the breast, `(1, 40, 40, 40)` with voxels of 1 mm about a metastasis in the brain.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import gaussian_filter
from scipy.special import expit

Volume = NDArray[np.float32]
Mask = NDArray[np.bool_]

RIM_MM = 2.5

_EARLY_SECONDS, _LATE_SECONDS = 90.0, 450.0  # between them, enhancement is linear in time
_UPTAKE_SECONDS = 35.0
_UNIT = 400.0  # stored integers for one unit of signal
_CLEARANCE_MM = 1.5  # the least distance from a tumour's mean radius to the volume's edge


@dataclass(frozen=True)
class Protocol:
    """What is imaged, and when.

    Attributes:
        shape: `(D, H, W)` voxels.
        spacing_mm: Of a voxel along `(D, H, W)`.
        seconds: When each phase is taken, after injection.
        radius_mm: Of a tumour whose size latent is 0.
        radius_range_mm: The smallest and the largest radius.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    seconds: tuple[float, ...]
    radius_mm: float
    radius_range_mm: tuple[float, float]


BREAST = Protocol((32, 64, 64), (2.0, 1.0, 1.0), (0.0, 90.0, 270.0, 450.0), 9.0, (4.0, 26.0))
BRAIN = Protocol((40, 40, 40), (1.0, 1.0, 1.0), (90.0,), 6.0, (2.5, 16.0))
SPACING_MM = BREAST.spacing_mm


@dataclass(frozen=True)
class Scanner:
    """What a site's machine does to the image.

    Attributes:
        gain: Multiplies the signal.
        bias: Standard deviation of a smooth multiplicative field.
        blur_mm: Standard deviation of the point spread.
        noise: Standard deviation of the noise, where tissue has signal .55.
        delay_s: By how much every post-contrast phase comes late.
    """

    gain: float = 1.0
    bias: float = 0.0
    blur_mm: float = 0.0
    noise: float = 0.02
    delay_s: float = 0.0


@dataclass(frozen=True)
class Exam:
    """One examination.

    Attributes:
        phases: `(P, D, H, W)` int16.
        mask: `(D, H, W)` the tumour.
        seconds: `(P,)` after injection.
    """

    phases: NDArray[np.int16]
    mask: Mask
    seconds: tuple[float, ...]


def acquire(z: NDArray[np.float64], scanner: Scanner, rng: np.random.Generator, protocol: Protocol = BREAST) -> Exam:
    """Draws the surroundings of a tumour with latents `z` `(6,)` and scans them."""
    wash_in, wash_out, rim, heterogeneity, size, spiculation = (float(value) for value in z)
    depth = _tumour_depth(size, spiculation, rng, protocol)
    mask = depth > 0
    tissue = 0.55 + 0.15 * smooth_field(rng, 4.0, protocol)
    tissue[smooth_field(rng, 6.0, protocol) > 1.0] = 0.25  # fat; in the brain, fluid
    tissue[mask] = 0.6
    texture = np.exp((0.08 + 0.55 * expit(heterogeneity)) * smooth_field(rng, 3.0, protocol)[mask])
    profile = np.where(depth[mask] < RIM_MM, np.exp(0.35 * rim), 1.0)
    early = np.exp(0.30 * wash_in) * texture / texture.mean() * profile
    early /= profile.mean()
    background = 0.12 * np.exp(0.3 * rng.standard_normal())
    field = scanner.gain * np.exp(scanner.bias * smooth_field(rng, 20.0, protocol)) if scanner.bias else scanner.gain
    seconds = tuple(second + scanner.delay_s * (second > 0) for second in protocol.seconds)
    phases = np.empty((len(seconds), *protocol.shape), dtype=np.int16)
    for index, second in enumerate(seconds):
        enhancement = np.full(protocol.shape, background * second / _LATE_SECONDS, dtype=np.float32)
        enhancement[mask] = early * _curve(second, np.exp(-0.22 * wash_out))
        signal = tissue * (1 + enhancement) * field
        if scanner.blur_mm:
            signal = gaussian_filter(signal, [scanner.blur_mm / step for step in protocol.spacing_mm])
        signal += scanner.gain * scanner.noise * rng.standard_normal(protocol.shape, dtype=np.float32)
        phases[index] = np.clip(np.rint(_UNIT * signal), 0, 32767)
    return Exam(phases, mask, seconds)


def _curve(second: float, late: float) -> float:
    """Enhancement over time, 1 at 90 s and `late` at 450 s; exponential uptake before, linear after."""
    if second <= _EARLY_SECONDS:
        return float(-np.expm1(-second / _UPTAKE_SECONDS) / -np.expm1(-_EARLY_SECONDS / _UPTAKE_SECONDS))
    return max(1 + (late - 1) * (second - _EARLY_SECONDS) / (_LATE_SECONDS - _EARLY_SECONDS), 0.0)


def _tumour_depth(size: float, spiculation: float, rng: np.random.Generator, protocol: Protocol) -> Volume:
    """How deep each voxel lies under the tumour's surface along its radius, in mm; negative outside."""
    shape, spacing = protocol.shape, protocol.spacing_mm
    radius = float(np.clip(protocol.radius_mm * np.exp(0.35 * size), *protocol.radius_range_mm))
    half = np.array(shape) * spacing / 2
    reach = np.clip(half - _CLEARANCE_MM - radius, 0, 6)
    centre = half - 0.5 * np.array(spacing) + rng.uniform(-1, 1, 3) * reach
    axes = [np.arange(n) * step - c for n, step, c in zip(shape, spacing, centre, strict=True)]
    z, y, x = np.meshgrid(*(axis.astype(np.float32) for axis in axes), indexing="ij", sparse=True)
    distance = np.sqrt(z**2 + y**2 + x**2) + np.float32(1e-3)
    lobes = np.zeros(shape, dtype=np.float32)
    for _ in range(5):
        a, b, c = (direction := rng.standard_normal(3)) / np.linalg.norm(direction) * rng.uniform(3, 7)
        projection = (np.float32(a) * z + np.float32(b) * y + np.float32(c) * x) / distance
        lobes += np.cos(projection + np.float32(rng.uniform(0, 2 * np.pi)))
    amplitude = 0.03 + 0.22 * float(expit(spiculation))
    depth: Volume = radius * np.exp(np.float32(amplitude / np.sqrt(2.5)) * lobes) - distance
    return depth


def smooth_field(rng: np.random.Generator, sigma_mm: float, protocol: Protocol = BREAST) -> Volume:
    """A Gaussian random field `(D, H, W)` of mean 0 and deviation 1: white noise under a Gaussian of `sigma_mm`."""
    shape = protocol.shape
    spectrum = fft.rfftn(rng.standard_normal(shape, dtype=np.float32)) * _gaussian_gain(sigma_mm, protocol)
    field: Volume = fft.irfftn(spectrum, s=shape)
    return (field - field.mean()) / field.std()


@lru_cache(maxsize=8)
def _gaussian_gain(sigma_mm: float, protocol: Protocol) -> Volume:
    # The Fourier transform (D, H, W // 2 + 1) of a Gaussian of unit area.
    (*sizes, columns), (*steps, step) = protocol.shape, protocol.spacing_mm
    depth, height = (fft.fftfreq(count, gap) for count, gap in zip(sizes, steps, strict=True))
    squared = depth[:, None, None] ** 2 + height[:, None] ** 2 + fft.rfftfreq(columns, step) ** 2
    return np.exp(-2 * (np.pi * sigma_mm) ** 2 * squared).astype(np.float32)
