"""A breast tumour in four-phase DCE-MRI, drawn from six latents, by its kinetics and its shape.

Early enhancement at 90 s is e^{.30 wash_in} times a heterogeneity of mean 1 times a rim profile of mean 1; at 450 s
it is e^{.22 wash_out} times less, and linear between. The radius is 9 e^{.35 size} mm, lobulated by spiculation.
Volumes are `(4, 32, 64, 64)` with voxels of `(2, 1, 1)` mm, in the order depth, height, width.
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

SHAPE = (32, 64, 64)
SPACING_MM = (2.0, 1.0, 1.0)
PHASE_SECONDS = (0.0, 90.0, 270.0, 450.0)
RIM_MM = 2.5

_UPTAKE_SECONDS = 35.0
_UNIT = 400.0  # stored integers for one unit of signal
_CLEARANCE_MM = 1.5  # the least distance from a tumour's mean radius to the volume's edge


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

    @property
    def seconds(self) -> tuple[float, ...]:
        """When each of the four phases is taken."""
        return (0.0, *(second + self.delay_s for second in PHASE_SECONDS[1:]))


@dataclass(frozen=True)
class Exam:
    """One examination.

    Attributes:
        phases: `(4, 32, 64, 64)` int16.
        mask: `(32, 64, 64)` the tumour.
        seconds: `(4,)` after injection.
    """

    phases: NDArray[np.int16]
    mask: Mask
    seconds: tuple[float, ...]


def acquire(z: NDArray[np.float64], scanner: Scanner, rng: np.random.Generator) -> Exam:
    """Draws the breast of a patient with latents `z` `(6,)` and scans it."""
    wash_in, wash_out, rim, heterogeneity, size, spiculation = (float(value) for value in z)
    depth = _tumour_depth(size, spiculation, rng)
    mask = depth > 0
    tissue = 0.55 + 0.15 * smooth_field(rng, 4.0)
    tissue[smooth_field(rng, 6.0) > 1.0] = 0.25  # fat
    tissue[mask] = 0.6
    texture = np.exp((0.08 + 0.55 * expit(heterogeneity)) * smooth_field(rng, 3.0)[mask])
    profile = np.where(depth[mask] < RIM_MM, np.exp(0.35 * rim), 1.0)
    early = np.exp(0.30 * wash_in) * texture / texture.mean() * profile
    early /= profile.mean()
    background = 0.12 * np.exp(0.3 * rng.standard_normal())
    field = scanner.gain * np.exp(scanner.bias * smooth_field(rng, 20.0)) if scanner.bias else scanner.gain
    phases = np.empty((len(PHASE_SECONDS), *SHAPE), dtype=np.int16)
    for index, second in enumerate(scanner.seconds):
        enhancement = np.full(SHAPE, background * second / PHASE_SECONDS[-1], dtype=np.float32)
        enhancement[mask] = early * _curve(second, np.exp(-0.22 * wash_out))
        signal = tissue * (1 + enhancement) * field
        if scanner.blur_mm:
            signal = gaussian_filter(signal, [scanner.blur_mm / step for step in SPACING_MM])
        signal += scanner.gain * scanner.noise * rng.standard_normal(SHAPE, dtype=np.float32)
        phases[index] = np.clip(np.rint(_UNIT * signal), 0, 32767)
    return Exam(phases, mask, scanner.seconds)


def _curve(second: float, late: float) -> float:
    """Enhancement over time, 1 at 90 s and `late` at 450 s; exponential uptake before, linear after."""
    first, last = PHASE_SECONDS[1], PHASE_SECONDS[-1]
    if second <= first:
        return float(-np.expm1(-second / _UPTAKE_SECONDS) / -np.expm1(-first / _UPTAKE_SECONDS))
    return max(1 + (late - 1) * (second - first) / (last - first), 0.0)


def _tumour_depth(size: float, spiculation: float, rng: np.random.Generator) -> Volume:
    """How deep each voxel lies under the tumour's surface along its radius, in mm; negative outside."""
    radius = float(np.clip(9 * np.exp(0.35 * size), 4, 26))
    half = np.array(SHAPE) * SPACING_MM / 2
    reach = np.clip(half - _CLEARANCE_MM - radius, 0, 6)
    centre = half - 0.5 * np.array(SPACING_MM) + rng.uniform(-1, 1, 3) * reach
    axes = [np.arange(n) * step - c for n, step, c in zip(SHAPE, SPACING_MM, centre, strict=True)]
    z, y, x = np.meshgrid(*(axis.astype(np.float32) for axis in axes), indexing="ij", sparse=True)
    distance = np.sqrt(z**2 + y**2 + x**2) + np.float32(1e-3)
    lobes = np.zeros(SHAPE, dtype=np.float32)
    for _ in range(5):
        a, b, c = (direction := rng.standard_normal(3)) / np.linalg.norm(direction) * rng.uniform(3, 7)
        projection = (np.float32(a) * z + np.float32(b) * y + np.float32(c) * x) / distance
        lobes += np.cos(projection + np.float32(rng.uniform(0, 2 * np.pi)))
    amplitude = 0.03 + 0.22 * float(expit(spiculation))
    depth: Volume = radius * np.exp(np.float32(amplitude / np.sqrt(2.5)) * lobes) - distance
    return depth


def smooth_field(rng: np.random.Generator, sigma_mm: float) -> Volume:
    """A Gaussian random field `(32, 64, 64)` of mean 0 and deviation 1: white noise under a Gaussian of `sigma_mm`."""
    spectrum = fft.rfftn(rng.standard_normal(SHAPE, dtype=np.float32)) * _gaussian_gain(sigma_mm)
    field: Volume = fft.irfftn(spectrum, s=SHAPE)
    return (field - field.mean()) / field.std()


@lru_cache(maxsize=8)
def _gaussian_gain(sigma_mm: float) -> Volume:
    # The Fourier transform (32, 64, 33) of a Gaussian of unit area.
    depth, height = (fft.fftfreq(count, step) for count, step in zip(SHAPE[:2], SPACING_MM[:2], strict=True))
    width = fft.rfftfreq(SHAPE[2], SPACING_MM[2])
    squared = depth[:, None, None] ** 2 + height[:, None] ** 2 + width**2
    return np.exp(-2 * (np.pi * sigma_mm) ** 2 * squared).astype(np.float32)
