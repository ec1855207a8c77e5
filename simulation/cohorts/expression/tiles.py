"""Synthetic tile of a stained slide, from two latents: density and size of its nuclei.

The tissue takes up eosin unevenly, the nuclei haematoxylin; a stain of optical density c dims each colour by
10^(-c v), v being the stain's vector (Ruifrok and Johnston 2001, Anal Quant Cytol Histol 23:291-299).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Tile = NDArray[np.uint8]

PIXELS = 64  # on a side; about a micrometre each
NUCLEI, DENSITY_ON_LOG = 16.0, 0.35  # expected in a tile, and how its logarithm grows with the density latent
RADIUS_PX, SIZE_ON_LOG = 3.2, 0.18  # of a nucleus, and how its logarithm grows with the size latent
_MAX_NUCLEI = 60

_HAEMATOXYLIN = np.array([0.65, 0.70, 0.29])  # red, green, blue
_EOSIN = np.array([0.07, 0.99, 0.11])


@dataclass(frozen=True)
class Stain:
    """What a site's laboratory and slide scanner do.

    Attributes:
        haematoxylin: Multiplies its optical density.
        eosin: Multiplies its optical density.
        blur_px: Standard deviation of the scanner's point spread.
        noise: Standard deviation of the noise, where white is 1.
    """

    haematoxylin: float = 1.0
    eosin: float = 1.0
    blur_px: float = 0.5
    noise: float = 0.01


def draw_tile(density: float, size: float, stain: Stain, rng: np.random.Generator) -> Tile:
    """A tile `(64, 64, 3)`, red, green, blue, of tissue with these latents."""
    texture = gaussian_filter(rng.standard_normal((PIXELS, PIXELS)), 4.0)
    eosin = 0.25 * np.exp(0.25 * texture / texture.std())
    haematoxylin = np.full((PIXELS, PIXELS), 0.04)
    for _ in range(min(rng.poisson(NUCLEI * np.exp(DENSITY_ON_LOG * density)), _MAX_NUCLEI)):
        inside = _nucleus(RADIUS_PX * np.exp(SIZE_ON_LOG * size + 0.12 * rng.standard_normal()), rng)
        haematoxylin = np.maximum(haematoxylin, rng.uniform(0.6, 0.9) * inside)
    depth = stain.haematoxylin * haematoxylin[..., None] * _HAEMATOXYLIN + stain.eosin * eosin[..., None] * _EOSIN
    light = gaussian_filter(10**-depth, [stain.blur_px, stain.blur_px, 0])
    light += stain.noise * rng.standard_normal(light.shape)
    return np.clip(np.rint(255 * light), 0, 255).astype(np.uint8)


def _nucleus(radius_px: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """An ellipse `(64, 64)` of that mean radius somewhere in the tile, 1 inside, 0 outside, its edge 1 pixel wide."""
    row, column = rng.uniform(0, PIXELS, 2)
    angle, longer = rng.uniform(0, np.pi), np.exp(0.15 * rng.standard_normal())
    y, x = np.ogrid[:PIXELS, :PIXELS]
    along = np.cos(angle) * (x - column) + np.sin(angle) * (y - row)
    across = np.cos(angle) * (y - row) - np.sin(angle) * (x - column)
    distance = np.sqrt((along / longer) ** 2 + (across * longer) ** 2)
    return np.asarray(np.clip(radius_px - distance + 0.5, 0, 1))
