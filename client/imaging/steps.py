"""Steps of grey values from pixel to pixel: how sharp an image is, and whether it consists of blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK, FAR = 8, 4  # pixels
MANY = 256  # of the lines beside each other in which steps are measured


def steps(planes: NDArray[Any]) -> tuple[float, float]:
    """Sharpness, and blocks of 8 by 8 pixels as a JPEG file's, of planes `(N, H, W)`.

    NaN where nothing varies, or a plane is too small.

    Returns:
        Steps from pixel to pixel over those across four: a straight slope has 0.25, noise 1.
        Steps at every eighth row and column over the others: a JPEG file of quality 50 has about 1.1.
    """
    if min(planes.shape[1:]) <= BLOCK:
        return np.nan, np.nan
    next_, far, edges, others = 0.0, 0.0, 0.0, 0.0
    for lines in (np.moveaxis(planes, 0, 2), np.moveaxis(planes, 0, 2).swapaxes(0, 1)):
        few = lines[:, :: max(1, lines.shape[1] * lines.shape[2] // MANY)].astype(np.float32)
        change = np.abs(np.diff(few, axis=0)).mean(axis=(1, 2))
        at_edge = np.arange(1, len(change) + 1) % BLOCK == 0
        next_, far = next_ + float(change.mean()), far + float(np.abs(few[FAR:] - few[:-FAR]).mean())
        edges, others = edges + float(change[at_edge].mean()), others + float(change[~at_edge].mean())
    return (next_ / far if far else np.nan), (edges / others if others else np.nan)
