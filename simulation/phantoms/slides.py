"""Phantom of `subtype_histology`: tiles of a slide and fifty genes, each with a coin; Basal or Her2 depends on them.

Kinds: `image`, `genes`, `additive` (the more of the two, the likelier), `interaction` (their exclusive or), and `few`
(the image's coin shows in two of sixteen tiles only). In the image, nuclei are few and large instead of many and small:
they cover equal areas, and colours are the same. PAM50 is one of two in either group, by a coin that nothing shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from simulation.cohorts.ceiling import Ceiling, expected_auc
from simulation.phantoms.labels import coin_probability
from simulation.phantoms.patients import Arrays, Grid, table_inputs, task_table
from simulation.phantoms.waves import Array

TARGET = "basal_or_her2"
PAM50 = {False: ("LumA", "LumB"), True: ("Her2", "Basal")}
CLASSES = (*PAM50[False], *PAM50[True])
TILES, SIDE = 16, 64
GRID = Grid((TILES, SIDE, SIDE), (1.0, 1.0, 1.0))
FEW = 2  # tiles that show the coin
_LATTICES, _KEPT = {False: 7, True: 3}, 0.7  # nuclei lie about a lattice of so many squared places, most of them taken
_COVERED = 0.28  # of a tile, by nuclei if they did not overlap
_SIGNAL, _PROGRAMMES = 1.6, 3  # of a gene, in standard deviations of its noise; other things that move genes together


@dataclass(frozen=True)
class Coins:
    """What the image shows, and what the genes do."""

    image: bool
    genes: bool


# P(Basal or Her2) of the coins.
KINDS: Mapping[str, Callable[[Coins, float], float]] = {
    "image": lambda coins, c: coin_probability(coins.image, c),
    "genes": lambda coins, c: coin_probability(coins.genes, c),
    "additive": lambda coins, c: (1 - c, 0.5, c)[coins.image + coins.genes],
    "interaction": lambda coins, c: coin_probability(coins.image ^ coins.genes, c),
    "few": lambda coins, c: coin_probability(coins.image, c),
}


@dataclass(frozen=True)
class Patient:
    """A patient.

    Attributes:
        tiles: `(T, side, side, 3)` red, green and blue in 0 to 1.
        genes: Gene to its expression.
        group: Whether Basal or Her2.
        subtype: One of `CLASSES`.
    """

    tiles: Array
    genes: Mapping[str, float]
    group: bool
    subtype: str


def draw_patient(rng: np.random.Generator, kind: str, ceiling: float = 1.0) -> Patient:
    """A patient whose group has this ceiling; under `additive`, where both coins agree."""
    coins = Coins(*(bool(coin) for coin in rng.integers(0, 2, 2)))
    group = bool(rng.random() < KINDS[kind](coins, ceiling))
    showing = rng.permutation(TILES) < (FEW if kind == "few" else TILES)
    stain = rng.normal(size=3) * 0.025
    tiles = np.stack([_draw_tile(rng, coins.image and bool(shows), stain) for shows in showing])
    return Patient(tiles, _draw_genes(rng, coins.genes), group, str(rng.choice(PAM50[group])))


def _draw_tile(rng: np.random.Generator, large: bool, stain: Array) -> Array:
    """A tile `(side, side, 3)`: violet nuclei in rose tissue, both a little off for this slide."""
    cells = _LATTICES[large]
    taken = rng.permutation(cells**2)[: round(_KEPT * cells**2)]
    places = np.column_stack(np.divmod(taken, cells)) + rng.uniform(0.3, 0.7, 2)
    centres = (places + rng.normal(0, 0.1, places.shape)) * SIDE / cells
    angles = rng.uniform(0, np.pi, len(centres))
    ratio = np.exp(rng.normal(0.3, 0.2, len(centres)))
    areas = np.exp(0.25 * rng.normal(size=len(centres)))
    areas *= _COVERED * SIDE**2 / areas.sum()
    half_length, half_width = np.sqrt(areas * ratio / np.pi), np.sqrt(areas / ratio / np.pi)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    down, right = (axis[..., None] + 0.5 - centre for axis, centre in zip((rows, columns), centres.T, strict=True))
    along = (down * np.sin(angles) + right * np.cos(angles)) / half_length
    across = (right * np.sin(angles) - down * np.cos(angles)) / half_width
    edges = (1 - np.sqrt(along**2 + across**2)) * np.sqrt(half_length * half_width)
    nuclei = np.clip(edges + 0.5, 0, 1).max(axis=-1)[..., None]
    darkness = rng.uniform(0.85, 1.15)
    violet, rose = np.array([0.42, 0.31, 0.62]) + stain, np.array([0.9, 0.68, 0.81]) + stain
    fibres = 0.05 * np.sin(rng.uniform(0, 2 * np.pi) + (rows * rng.normal() + columns * rng.normal()) / 4)[..., None]
    tile = (rose + fibres) * (1 - nuclei) + violet * darkness * nuclei + 0.03 * rng.standard_normal((SIDE, SIDE, 1))
    return np.asarray(np.clip(tile, 0, 1))


@cache
def gene_names() -> tuple[str, ...]:
    """The genes of the task."""
    return tuple(feature.name for feature in task_table("subtype_histology", "expression").features)


@cache
def _programmes() -> Array:
    """How the genes go with the coin and with other programmes `(1 + programmes, genes)`: signs at random, once."""
    rng = np.random.default_rng(20_240_601)
    return np.asarray(rng.choice([-1.0, 1.0], (1 + _PROGRAMMES, len(gene_names()))))


def _draw_genes(rng: np.random.Generator, coin: bool) -> dict[str, float]:
    signal, others = (_SIGNAL / 2) * (1 if coin else -1), rng.normal(size=_PROGRAMMES)
    values = signal * _programmes()[0] + 0.5 * others @ _programmes()[1:] + rng.normal(size=len(gene_names()))
    return dict(zip(gene_names(), map(float, values), strict=True))


def draw_arrays(kind: str, patients: int, seed: int, ceiling: float = 1.0, grid: Grid = GRID) -> Arrays:
    """Patients' `tiles (N, 3, T, H, W)`, as many and as fine as the grid wants, `expression`, and the outcomes.

    PAM50 is a position in `CLASSES`.
    """
    streams = np.random.SeedSequence(seed).spawn(patients)
    phantoms = [draw_patient(np.random.default_rng(stream), kind, ceiling) for stream in streams]
    truth = {
        TARGET: np.array([one.group for one in phantoms], dtype=np.float32),
        "pam50": np.array([CLASSES.index(one.subtype) for one in phantoms], dtype=np.float32),
    }
    table = task_table("subtype_histology", "expression")
    inputs = {
        "tiles": np.array([_on_grid(one.tiles, grid) for one in phantoms], dtype=np.float32),
        "expression": table_inputs(table, [one.genes for one in phantoms]),
    }
    return Arrays(inputs, truth, np.arange(patients))


def _on_grid(tiles: Array, grid: Grid) -> Array:
    """Tiles `(3, T, H, W)`, the means of squares of pixels."""
    count, high, wide = grid.shape
    blocks = tiles[:count].reshape(count, high, SIDE // high, wide, SIDE // wide, 3)
    return np.asarray(blocks.mean(axis=(2, 4)).transpose(3, 0, 1, 2))


def best_auc(kind: str, ceiling: float = 1.0) -> Ceiling:
    """The exact best AUC, over the four equally likely pairs of coins."""
    pairs = [Coins(image, genes) for image in (False, True) for genes in (False, True)]
    risks = np.array([KINDS[kind](pair, ceiling) for pair in pairs])
    return Ceiling(expected_auc(risks, risks), 0.0)
