"""Macenko stain normalisation of histology tiles.

Macenko 2009 (10.1109/ISBI.2009.5193250): light is absorbed in proportion to the amounts of haematoxylin and eosin
(Beer-Lambert); their two colours are the extreme directions of a tile's absorbances, and are replaced by a reference.
The reference is the one of the authors' code, which others took over. MONAI's transform is not used: of the two
colours it takes for haematoxylin the one that absorbs less red, although its reference has it the other way round, and
nuclei come out pink (MONAI 1.6; held in the tests).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

REFERENCE = np.array([[0.5626, 0.2159], [0.7201, 0.8012], [0.4062, 0.5581]])  # RGB by haematoxylin and eosin
REFERENCE_MAX = np.array([1.9705, 1.0308])  # the 99th percentile of their amounts
LIGHT = 240.0  # what glass lets through, of 255
TISSUE = 0.15  # absorbance, in every colour, above which there is tissue
EXTREMES = (1, 99)  # percentiles of the angle
MIN_TISSUE = 0.01  # of a tile's pixels
MIN_ANGLE = np.radians(5)  # between two stains; the reference's are 22 degrees apart

Tile = NDArray[np.float32]


def macenko(tile: Tile) -> Tile:
    """A tile `(3, H, W)` in 0 to 1, with the stains of the reference.

    A tile without two stains, as one of glass, ink or a single colour, has nothing to be normalised by: it stays.
    """
    absorbed = -np.log(np.minimum(tile.reshape(3, -1).astype(float) * 255 + 1, LIGHT) / LIGHT)
    stains = _stains(absorbed[:, (absorbed > TISSUE).all(axis=0)], absorbed.shape[1])
    if stains is None:
        return tile
    amounts = np.linalg.lstsq(stains, absorbed, rcond=None)[0]
    most = np.percentile(amounts, 99, axis=1)
    if not (most > TISSUE).all():
        return tile
    normalised = LIGHT / 255 * np.exp(-REFERENCE @ (amounts * (REFERENCE_MAX / most)[:, None]))
    return np.clip(normalised, 0, 1).reshape(tile.shape).astype(np.float32)


def _stains(tissue: NDArray[np.float64], pixels: int) -> NDArray[np.float64] | None:
    """The colours `(3, 2)` of haematoxylin and eosin in absorbances `(3, P)`, each of length 1; None if not two."""
    if tissue.shape[1] < max(2, MIN_TISSUE * pixels):
        return None
    plane = np.linalg.eigh(np.cov(tissue))[1][:, 1:]
    points = plane.T @ tissue
    middle = points.mean(axis=1)  # angles from here: the axes' own signs are arbitrary
    across = np.array([-middle[1], middle[0]])
    angles = np.percentile(np.arctan2(across @ points, middle @ points), EXTREMES)
    if np.ptp(angles) < MIN_ANGLE:
        return None
    axes = np.stack([middle, across]) / np.hypot(*middle)
    stains = plane @ axes.T @ np.stack([np.cos(angles), np.sin(angles)])
    redness = stains[0] / np.maximum(
        stains[2], 1e-6
    )  # haematoxylin is blue: it takes out more of the red than of the blue
    return stains if redness[0] > redness[1] else stains[:, ::-1]
