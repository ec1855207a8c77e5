"""Phantom of `receptors_dce_mri`: one phase of a breast tumour; ER, PR, HER2 and Ki-67 each from its own aspect.

Kinds: `texture`, `shape`, `rim` (where the bright part lies), and `interaction`, in which each receptor is the
exclusive or of two aspects of which neither says anything alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from simulation.phantoms.labels import ki67_percent, noisy_coin, noisy_number
from simulation.phantoms.lesions import Aspects, Lesion, Look, draw_aspects, draw_lesion
from simulation.phantoms.patients import Arrays, Grid, with_distance
from simulation.phantoms.waves import Array, Axes, Waves, draw_waves, isotropic

COINS = ("er", "pr", "her2")
NUMBER = "ki67_percent"
GRID = Grid((16, 32, 32), (3.0, 3.0, 3.0))
_OFF_CENTRE_MM = 1.5


@dataclass(frozen=True)
class Kind:
    """What carries the outcomes.

    Attributes:
        look: How strongly the image shows the aspects.
        shown: The coins of ER, PR and HER2 and the number of Ki-67 that a lesion's aspects show.
    """

    look: Look
    shown: Callable[[Aspects], tuple[bool, bool, bool, float]]


KINDS: Mapping[str, Kind] = {
    "texture": Kind(Look(1.0, 0.0, 11.0), lambda a: (a.upright, a.islands, a.coarse, a.layers)),
    "shape": Kind(Look(1.0, 0.0, 11.0), lambda a: (a.lobes, a.long, a.spicules, a.flat)),
    "rim": Kind(Look(0.4, 1.0, 11.0), lambda a: (a.rim, a.shell, a.poles, a.cross)),
    "interaction": Kind(
        Look(0.7, 1.0, 11.0),
        lambda a: (a.rim ^ a.upright, a.upright ^ a.long, a.long ^ a.rim, a.cross * (-1) ** a.rim),
    ),
}


@dataclass(frozen=True)
class Tumour:
    """A patient of this phantom.

    Attributes:
        lesion: Its tumour.
        truth: Target to label.
        brightness: Of the tumour, where tissue is about 1.
        contrast: Standard deviation of the brightness within the tumour.
        tissue: Of the breast around it.
        noise: Standard deviation of a voxel's.
    """

    lesion: Lesion
    truth: Mapping[str, float]
    brightness: float
    contrast: float
    tissue: Waves
    noise: float

    def image(self, axes: Axes, rng: np.random.Generator) -> Array:
        """The image `(D, H, W)`; the lesion's middle is the origin of the axes."""
        pattern, inside = self.lesion.pattern(axes)
        tumour = self.brightness * (1 + self.contrast * pattern)
        around = background(self.tissue.on(axes))
        return np.asarray(around + inside * (tumour - around) + self.noise * rng.standard_normal(inside.shape))


def background(waves: Array) -> Array:
    """Breast: bands of gland in fat."""
    return np.asarray(0.55 + 0.2 * np.tanh(2 * waves))


def draw_tumour(rng: np.random.Generator, kind: str, ceiling: float = 1.0, radius_mm: float = 18.0) -> Tumour:
    """A patient whose outcomes have this ceiling; `radius_mm` is the median of the tumours'."""
    chosen, aspects = KINDS[kind], draw_aspects(rng)
    *coins, number = chosen.shown(aspects)
    truth = {name: float(noisy_coin(rng, coin, ceiling)) for name, coin in zip(COINS, coins, strict=True)}
    truth[NUMBER] = float(ki67_percent(noisy_number(rng, number, ceiling)))
    radius = radius_mm * np.exp(rng.uniform(-0.2, 0.2))
    return Tumour(
        draw_lesion(rng, aspects, chosen.look, radius),
        truth,
        brightness=1.3 * np.exp(0.1 * rng.normal()),
        contrast=0.55 * np.exp(0.1 * rng.normal()),
        tissue=draw_waves(rng, isotropic(rng, 24), 30.0, 1.5, 1.0),
        noise=float(rng.uniform(0.03, 0.06)),
    )


def draw_arrays(
    kind: str, patients: int, seed: int, ceiling: float = 1.0, grid: Grid = GRID, radius_mm: float = 18.0
) -> Arrays:
    """Patients' images with the distance to the tumour's surface, `dce_mri (N, 2, D, H, W)`, and their outcomes."""
    rows, images = [], []
    for stream in np.random.SeedSequence(seed).spawn(patients):
        rng = np.random.default_rng(stream)
        tumour = draw_tumour(rng, kind, ceiling, radius_mm)
        deep, high, wide = (axis - rng.normal(0, _OFF_CENTRE_MM) for axis in grid.axes())
        axes = (deep, high, wide)
        images.append(with_distance(tumour.image(axes, rng), tumour.lesion.surface.distance_mm(axes)))
        rows.append(tumour.truth)
    truth = {name: np.array([row[name] for row in rows], dtype=np.float32) for name in (*COINS, NUMBER)}
    return Arrays({"dce_mri": np.array(images, dtype=np.float32)}, truth, np.arange(patients))
