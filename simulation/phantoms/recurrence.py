"""Phantom of `recurrence_mri`: four phases of a breast MRI with a tumour anywhere in it, and clinical tables.

Kinds: `texture`, `shape`, `kinetics` (wash-out against a steady rise, of equal mean), `position` (near the chest wall
or near the skin), and `interaction` (the exclusive or of a coin of the texture and of positive nodes).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulation.phantoms.anatomy import BILATERAL, ONE_BREAST, Anatomy, Field, draw_anatomy
from simulation.phantoms.labels import noisy_coin
from simulation.phantoms.lesions import Aspects, Lesion, Look, draw_aspects, draw_lesion
from simulation.phantoms.patients import Arrays, Grid, stacked_tables, with_distance
from simulation.phantoms.waves import Array, Axes

TARGET = "recurrence"
GRID = Grid((16, 32, 32), (4.0, 2.0, 2.0))
FIELDS = {"one_breast": ONE_BREAST, "bilateral": BILATERAL}
# Uptake in the three phases after the contrast agent, over the mean of the three.
_CURVES = {False: np.array([0.75, 1.0, 1.25]), True: np.array([1.25, 1.0, 0.75])}
_LOOK = Look(texture=1.0, layout=0.0, grain_mm=12.0, shares=(0.8, 0.1, 0.1))
_OFF_CENTRE_MM = 2.0
_HORIZON_DAYS = 1826


@dataclass(frozen=True)
class Coins:
    """What neither texture nor shape shows."""

    wash_out: bool
    deep: bool
    nodes: bool


KINDS: Mapping[str, Callable[[Aspects, Coins], bool]] = {
    "texture": lambda a, _: a.coarse,
    "shape": lambda a, _: a.spicules,
    "kinetics": lambda _, c: c.wash_out,
    "position": lambda _, c: c.deep,
    "interaction": lambda a, c: a.islands ^ c.nodes,
}


@dataclass(frozen=True)
class Patient:
    """A patient.

    Attributes:
        anatomy: The breasts and what is around them.
        lesion: The tumour.
        centre_mm: Of the tumour `(3,)`, along (D, H, W) from the middle of the exam.
        uptake: Of the tumour in the three later phases `(3,)`, over its brightness before.
        contrast: Standard deviation of the uptake within the tumour, over its mean.
        noise: Standard deviation of a voxel's.
        clinical: Feature to value; nodes, receptors and others.
        genomic: Gene to expression.
        recurs: Whether the tumour recurs within five years.
        days: Until it did, or until the last contact.
    """

    anatomy: Anatomy
    lesion: Lesion
    centre_mm: Array
    uptake: Array
    contrast: float
    noise: float
    clinical: Mapping[str, float | str]
    genomic: Mapping[str, float | str]
    recurs: bool
    days: int

    def phases(self, axes: Axes, rng: np.random.Generator) -> Array:
        """The four images `(4, D, H, W)`; the origin of the axes is the middle of the exam."""
        images = self.anatomy.phases(axes)
        window, near = self.window(axes)
        pattern, inside = self.lesion.pattern(near)
        texture = np.maximum(1 + self.contrast * pattern, 0)
        before = 0.5 + 0.05 * pattern
        for phase, uptake in enumerate((0.0, *self.uptake)):
            around = images[phase][window]
            images[phase][window] = around + inside * (before * (1 + uptake * texture) - around)
        return np.asarray(images + self.noise * rng.standard_normal(images.shape))

    def mask(self, axes: Axes) -> NDArray[np.uint8]:
        """Whether a voxel `(D, H, W)` lies in the tumour."""
        mask = np.zeros([len(axis) for axis in axes], dtype=np.uint8)
        window, near = self.window(axes)
        mask[window] = self.lesion.surface.depth(near)[0] > 0
        return mask

    def window(self, axes: Axes) -> tuple[tuple[slice, slice, slice], Axes]:
        """Which voxels are near the tumour, and their positions from its middle."""
        reach = self.lesion.surface.reach_mm() + 2 * np.array([axis[1] - axis[0] for axis in axes])
        ends = [
            np.searchsorted(axis, (middle - far, middle + far))
            for axis, middle, far in zip(axes, self.centre_mm, reach, strict=True)
        ]
        deep, high, wide = (slice(int(first), int(last)) for first, last in ends)
        near = [
            axis[part] - middle for axis, part, middle in zip(axes, (deep, high, wide), self.centre_mm, strict=True)
        ]
        return (deep, high, wide), (near[0], near[1], near[2])


def draw_patient(
    rng: np.random.Generator, kind: str, ceiling: float = 1.0, field: Field = ONE_BREAST, radius_mm: float = 17.0
) -> Patient:
    """A patient whose outcome has this ceiling; `radius_mm` is the median of the tumours'."""
    aspects, coins = draw_aspects(rng), Coins(*(bool(coin) for coin in rng.integers(0, 2, 3)))
    recurs = bool(noisy_coin(rng, KINDS[kind](aspects, coins), ceiling))
    lesion = draw_lesion(rng, aspects, _LOOK, radius_mm * np.exp(rng.uniform(-0.2, 0.2)))
    anatomy = draw_anatomy(rng, field)
    return Patient(
        anatomy,
        lesion,
        centre_mm=anatomy.draw_place(rng, lesion.surface.radius_mm, coins.deep if kind == "position" else None),
        uptake=1.1 * np.exp(0.12 * rng.normal()) * _CURVES[coins.wash_out],
        contrast=0.65 * np.exp(0.1 * rng.normal()),
        noise=float(rng.uniform(0.02, 0.04)),
        clinical=_draw_clinical(rng, coins.nodes, lesion.surface.radius_mm),
        genomic={name: float(rng.normal()) for name in ("HER2", "BRCA1", "ESR1", "PGR")},
        recurs=recurs,
        days=int(rng.uniform(120, _HORIZON_DAYS - 30) if recurs else rng.uniform(_HORIZON_DAYS + 30, 4000)),
    )


def _draw_clinical(rng: np.random.Generator, nodes: bool, radius_mm: float) -> dict[str, float | str]:
    signs = ("negative", "positive")
    return {
        "age_years": float(np.clip(rng.normal(56, 11), 25, 90)),
        "size_mm": float(2 * radius_mm * np.exp(0.15 * rng.normal())),
        "nodes": signs[nodes],
        **{name: signs[rng.integers(2)] for name in ("er", "pr", "her2")},
    }


def draw_arrays(
    kind: str, patients: int, seed: int, ceiling: float = 1.0, grid: Grid = GRID, distance: bool = False
) -> Arrays:
    """Patients' `mri (N, 4, D, H, W)` about the tumour, `clinical` and `genomic`, and whether the tumour recurs.

    Args:
        kind: One of `KINDS`.
        patients: How many.
        seed: Equal seeds draw equal patients.
        ceiling: The best AUC.
        grid: Of the image; its middle is near the tumour's.
        distance: Whether a fifth channel holds the distance to the tumour's surface in mm, positive inside.
    """
    images, phantoms = [], []
    for stream in np.random.SeedSequence(seed).spawn(patients):
        rng = np.random.default_rng(stream)
        one = draw_patient(rng, kind, ceiling)
        deep, high, wide = (
            a + c for a, c in zip(grid.axes(), one.centre_mm + rng.normal(0, _OFF_CENTRE_MM, 3), strict=True)
        )
        axes = (deep, high, wide)
        near = tuple(axis - middle for axis, middle in zip(axes, one.centre_mm, strict=True))
        channels = with_distance(one.phases(axes, rng), one.lesion.surface.distance_mm((near[0], near[1], near[2])))
        images.append(channels if distance else channels[:-1])
        phantoms.append(one)
    tables = {"clinical": [one.clinical for one in phantoms], "genomic": [one.genomic for one in phantoms]}
    return Arrays(
        {"mri": np.array(images, dtype=np.float32), **stacked_tables("recurrence_mri", tables)},
        {TARGET: np.array([one.recurs for one in phantoms], dtype=np.float32)},
        np.arange(patients),
    )
