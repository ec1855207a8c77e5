"""Phantom of `receptors_brain_metastasis`: several lesions of a patient, all of one kind, and where they lie.

Kinds: `texture`, `shape`, `position` (in which lobes the lesions lie, and on which side), and `interaction`, in which
each receptor is the exclusive or of an aspect of the texture and of the position.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from shared_models.task import Table
from simulation.phantoms.labels import noisy_coin
from simulation.phantoms.lesions import Aspects, Lesion, Look, draw_aspects, draw_lesion
from simulation.phantoms.patients import Arrays, Grid, table_inputs, task_table, with_distance
from simulation.phantoms.waves import Array, Axes, Waves, draw_waves, isotropic

TARGETS = ("er", "pr", "her2")
GRID = Grid((16, 16, 16), (2.0, 2.0, 2.0))
MAX_LESIONS = 4
HEMISPHERES = ("left", "right")
# By whether they lie in the first set of regions and in the second.
REGIONS = {
    (False, False): ("temporal", "deep"),
    (False, True): ("parietal", "brainstem"),
    (True, False): ("occipital", "cerebellum"),
    (True, True): ("frontal",),
}
_LOOK = Look(texture=1.0, layout=0.0, grain_mm=6.0)
_OFF_CENTRE_MM = 0.7


@dataclass(frozen=True)
class Place:
    """Where a patient's lesions lie: on one side, and in one of the four groups of `REGIONS`."""

    right: bool
    first: bool
    second: bool


# The coins of ER, PR and HER2 that lesions and their place show.
KINDS: Mapping[str, Callable[[Aspects, Place], tuple[bool, bool, bool]]] = {
    "texture": lambda a, _: (a.coarse, a.upright, a.islands),
    "shape": lambda a, _: (a.lobes, a.long, a.spicules),
    "position": lambda _, p: (p.first, p.right, p.second),
    "interaction": lambda a, p: (a.islands ^ p.right, a.upright ^ p.first, a.islands ^ p.second),
}


@dataclass(frozen=True)
class Metastasis:
    """A lesion.

    Attributes:
        lesion: Its form and texture.
        hemisphere: One of `HEMISPHERES`.
        region: One of those in `REGIONS`.
        brightness: Where brain is about 1.
        contrast: Standard deviation of the brightness within it.
        tissue: Of the brain around it.
        noise: Standard deviation of a voxel's.
    """

    lesion: Lesion
    hemisphere: str
    region: str
    brightness: float
    contrast: float
    tissue: Waves
    noise: float

    def image(self, axes: Axes, rng: np.random.Generator) -> Array:
        """The image `(D, H, W)`; the lesion's middle is the origin of the axes."""
        pattern, inside = self.lesion.pattern(axes)
        around = 0.8 + 0.12 * self.tissue.on(axes)
        bright = self.brightness * (1 + self.contrast * pattern)
        return np.asarray(around + inside * (bright - around) + self.noise * rng.standard_normal(inside.shape))


@dataclass(frozen=True)
class Patient:
    """A patient's lesions and receptors."""

    lesions: tuple[Metastasis, ...]
    truth: Mapping[str, float]


def draw_patient(rng: np.random.Generator, kind: str, ceiling: float = 1.0, radius_mm: float = 9.0) -> Patient:
    """A patient whose outcomes have this ceiling; `radius_mm` is the median of the lesions'."""
    aspects, place = draw_aspects(rng), Place(*(bool(coin) for coin in rng.integers(0, 2, 3)))
    coins = KINDS[kind](aspects, place)
    truth = {name: float(noisy_coin(rng, coin, ceiling)) for name, coin in zip(TARGETS, coins, strict=True)}
    # what says nothing of a receptor differs from lesion to lesion
    count = int(rng.integers(1, MAX_LESIONS + 1))
    return Patient(tuple(_draw_lesion(rng, kind, aspects, place, radius_mm) for _ in range(count)), truth)


def _draw_lesion(rng: np.random.Generator, kind: str, aspects: Aspects, place: Place, radius_mm: float) -> Metastasis:
    lesion = draw_lesion(rng, _own(rng, kind, aspects), _LOOK, radius_mm * np.exp(rng.uniform(-0.25, 0.25)))
    if kind not in ("position", "interaction"):
        place = Place(*(bool(coin) for coin in rng.integers(0, 2, 3)))
    return Metastasis(
        lesion,
        HEMISPHERES[place.right],
        str(rng.choice(REGIONS[place.first, place.second])),
        brightness=1.6 * np.exp(0.1 * rng.normal()),
        contrast=0.4 * np.exp(0.1 * rng.normal()),
        tissue=draw_waves(rng, isotropic(rng, 24), 20.0, 1.0, 1.0),
        noise=float(rng.uniform(0.03, 0.06)),
    )


def _own(rng: np.random.Generator, kind: str, aspects: Aspects) -> Aspects:
    """A lesion's aspects: the patient's where they carry the outcome, its own elsewhere."""
    shared = {
        "texture": ("coarse", "upright", "islands"),
        "shape": ("lobes", "long", "spicules"),
        "position": (),
        "interaction": ("upright", "islands"),
    }[kind]
    return dataclasses.replace(draw_aspects(rng), **{name: getattr(aspects, name) for name in shared})


def draw_arrays(
    kind: str, patients: int, seed: int, ceiling: float = 1.0, grid: Grid = GRID, radius_mm: float = 9.0
) -> Arrays:
    """Lesions with the distance to the surface, `brain_mri (L, 2, D, H, W)`, their positions, and the outcomes.

    The rows are lesions; `group` says which patient's.
    """
    images, places, truths, group = [], [], [], []
    for number, stream in enumerate(np.random.SeedSequence(seed).spawn(patients)):
        rng = np.random.default_rng(stream)
        patient = draw_patient(rng, kind, ceiling, radius_mm)
        for one in patient.lesions:
            deep, high, wide = (axis - rng.normal(0, _OFF_CENTRE_MM) for axis in grid.axes())
            axes = (deep, high, wide)
            images.append(with_distance(one.image(axes, rng), one.lesion.surface.distance_mm(axes)))
            places.append({"hemisphere": one.hemisphere, "region": one.region})
            truths.append(patient.truth)
            group.append(number)
    table: Table = task_table("receptors_brain_metastasis", "anatomical_position")
    return Arrays(
        {"brain_mri": np.array(images, dtype=np.float32), "anatomical_position": table_inputs(table, places)},
        {name: np.array([one[name] for one in truths], dtype=np.float32) for name in TARGETS},
        np.array(group),
    )
