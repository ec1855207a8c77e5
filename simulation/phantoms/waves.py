"""Random textures as sums of plane waves: a spectrum in mm, whatever grid it is seen on.

Shinozuka and Deodatis 1996 (10.1115/1.3101883): waves with random phases, whose vectors follow a spectrum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Axes = tuple[Array, Array, Array]  # positions of voxels along (D, H, W), in mm


@dataclass(frozen=True)
class Waves:
    """A sum of plane waves.

    Attributes:
        vectors: `(K, 3)` along (D, H, W), radians per mm.
        phases: `(K,)` radians.
        amplitudes: `(K,)`; the variance of the sum over space is half the sum of their squares.
    """

    vectors: Array
    phases: Array
    amplitudes: Array

    def __add__(self, other: Waves) -> Waves:
        pairs = zip(
            (self.vectors, self.phases, self.amplitudes), (other.vectors, other.phases, other.amplitudes), strict=True
        )
        return Waves(*(np.concatenate(pair) for pair in pairs))

    def on(self, axes: Axes) -> Array:
        """Values `(D, H, W)` at the voxels' positions."""
        # e^{i(a+b+c)} factorises, so the sum over waves is one product of matrices
        deep, high, wide = (np.exp(1j * np.outer(axis, k)) for axis, k in zip(axes, self.vectors.T, strict=True))
        deep = deep * (self.amplitudes * np.exp(1j * self.phases))
        planes = (deep[:, None, :] * high[None, :, :]).reshape(-1, len(self.phases))
        return np.asarray((planes @ wide.T).real.reshape([len(axis) for axis in axes]))


def isotropic(rng: np.random.Generator, count: int) -> Array:
    """Directions `(count, 3)` uniform on the sphere."""
    directions = rng.normal(size=(count, 3))
    return np.asarray(directions / np.linalg.norm(directions, axis=1, keepdims=True))


def about(rng: np.random.Generator, axis: Sequence[float], count: int, spread: float) -> Array:
    """Directions `(count, 3)` about an axis; `spread` is about their angle to it, in radians."""
    directions = np.asarray(axis) + spread * rng.normal(size=(count, 3))
    return np.asarray(directions / np.linalg.norm(directions, axis=1, keepdims=True))


def draw_waves(
    rng: np.random.Generator, directions: Array, wavelength_mm: float, octaves: float, variance: float
) -> Waves:
    """Waves along `directions` `(K, 3)`, of one variance together.

    Args:
        rng: Where chance comes from.
        directions: Of unit length.
        wavelength_mm: The middle of the band, on a logarithmic scale.
        octaves: Width of the band.
        variance: Of the sum over space.
    """
    count = len(directions)
    lengths = wavelength_mm * 2.0 ** (octaves * rng.uniform(-0.5, 0.5, count))
    vectors = 2 * np.pi * directions / lengths[:, None]
    return Waves(vectors, rng.uniform(0, 2 * np.pi, count), np.full(count, np.sqrt(2 * variance / count)))
