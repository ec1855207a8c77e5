"""Breasts on a chest, as an MRI shows them lying face down: fat and gland, chest wall, air, before and after contrast.

Axes are (D, H, W): towards the head, the back, and the patient's left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulation.phantoms.waves import Array, Axes, Waves, draw_waves, isotropic


@dataclass(frozen=True)
class Field:
    """An exam's field of view.

    Attributes:
        shape: Voxels along (D, H, W), of the smallest exam and of the largest.
        spacing_mm: Their sizes, likewise.
        breasts_mm: Middles of the breasts along W.
    """

    shape: tuple[tuple[int, int, int], tuple[int, int, int]]
    spacing_mm: tuple[tuple[float, float, float], tuple[float, float, float]]
    breasts_mm: tuple[float, ...]


ONE_BREAST = Field(((44, 60, 60), (52, 68, 68)), ((3.0, 2.2, 2.2), (3.4, 2.6, 2.6)), (0.0,))
BILATERAL = Field(((60, 256, 352), (160, 320, 448)), ((1.0, 0.75, 0.75), (2.2, 0.95, 0.95)), (-82.0, 82.0))


@dataclass(frozen=True)
class Anatomy:
    """A patient in an exam.

    Attributes:
        middles_mm: `(B, 3)` where the middle of each breast's base lies on the chest wall.
        half_axes_mm: `(B, 3)` of each breast, half an ellipsoid.
        tissue: Of gland and fat.
        slow: Of brightness over the whole exam: the coil.
        enhancement: Of gland in the last phase, over its brightness before.
    """

    middles_mm: Array
    half_axes_mm: Array
    tissue: Waves
    slow: Waves
    enhancement: float

    def phases(self, axes: Axes) -> Array:
        """The four images without a tumour `(4, D, H, W)`."""
        tissue = np.tanh(3 * self.tissue.on(axes))
        breast, chest = self._shares(axes)
        gland = breast * (1 + tissue) / 2
        before = 0.25 * breast + 0.3 * gland + 0.42 * chest * (1 + 0.1 * tissue)
        coil = np.exp(0.15 * self.slow.on(axes))
        rise = self.enhancement * 0.5 * gland + 0.15 * chest
        return np.stack([coil * (before + share * rise) for share in (0.0, 0.4, 0.75, 1.0)])

    def draw_place(self, rng: np.random.Generator, radius_mm: float, deep: bool | None) -> Array:
        """The middle of a tumour `(3,)` in one of the breasts.

        Args:
            rng: Where chance comes from.
            radius_mm: Of the tumour.
            deep: Near the chest wall instead of near the skin; None for anywhere.
        """
        breast = int(rng.integers(len(self.middles_mm)))
        middle, half = self.middles_mm[breast], self.half_axes_mm[breast]
        room = np.maximum(half - radius_mm, 5.0)
        if deep is None:
            towards_skin = float(rng.uniform(0.1, 0.9))
        else:
            towards_skin = float(rng.uniform(0.05, 0.15) if deep else rng.uniform(0.8, 0.9))
        across = 0.7 * np.sqrt(1 - towards_skin**2) * np.sqrt(rng.uniform()) * room
        angle = rng.uniform(0, 2 * np.pi)
        depth = radius_mm + towards_skin * max(half[1] - 2 * radius_mm, 5.0)
        return np.asarray(middle + np.array([across[0] * np.cos(angle), -depth, across[2] * np.sin(angle)]))

    def _shares(self, axes: Axes) -> tuple[Array, Array]:
        """How much of each voxel is breast and how much chest, both `(D, H, W)`."""
        deep, high, wide = np.meshgrid(*axes, indexing="ij", sparse=True)
        edge = float(axes[1][1] - axes[1][0])
        breast = np.zeros([len(axis) for axis in axes])
        for middle, half in zip(self.middles_mm, self.half_axes_mm, strict=True):
            parts = [((a - m) / h) ** 2 for a, m, h in zip((deep, high, wide), middle, half, strict=True)]
            out = np.sqrt(parts[0] + parts[1] + parts[2])
            breast = np.maximum(breast, np.clip(0.5 + (1 - out) * half.min() / edge, 0, 1))
        chest = np.clip(0.5 + (high - self.middles_mm[0, 1]) / edge, 0, 1) + 0 * breast
        return breast * (1 - chest), chest


def draw_anatomy(rng: np.random.Generator, field: Field) -> Anatomy:
    """Breasts in the middle of a field of view, give or take some."""
    count = len(field.breasts_mm)
    half = np.array([62.0, 78.0, 62.0]) * np.exp(rng.uniform(-0.12, 0.12, 3))
    base = np.array([rng.normal(0, 4), 38 + rng.normal(0, 5), rng.normal(0, 4)])
    middles = base + np.array([[0.0, 0.0, wide] for wide in field.breasts_mm])
    return Anatomy(
        middles,
        half * np.exp(rng.uniform(-0.04, 0.04, (count, 3))),
        draw_waves(rng, isotropic(rng, 24), 28.0, 1.5, 1.0),
        draw_waves(rng, isotropic(rng, 6), 260.0, 0.5, 1.0),
        enhancement=float(rng.uniform(0.2, 0.7)),
    )


def draw_grid(rng: np.random.Generator, field: Field) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
    """Voxels of an exam along (D, H, W) and their size in mm, within what the field allows."""
    low, high = field.shape
    shape = [int(rng.integers(first, last + 1)) for first, last in zip(low, high, strict=True)]
    finest, coarsest = field.spacing_mm
    spacing = [round(float(rng.uniform(first, last)), 3) for first, last in zip(finest, coarsest, strict=True)]
    return (shape[0], shape[1], shape[2]), (spacing[0], spacing[1], spacing[2])
