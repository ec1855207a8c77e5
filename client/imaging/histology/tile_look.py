"""Look of histology tiles in a few numbers each, and what looks wrong in those of a patient."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from client.imaging.steps import BLOCK, steps

GLASS, INK_BLACK = 225, 25  # grey values above and below which a pixel is no tissue, in all colours
COLOURLESS = 4.0  # mean distance of a tile's highest and lowest colour, of 255
MOSTLY, MUCH = 0.9, 0.5  # of a tile's pixels, or of a patient's tiles
GREENER, GREEN_SHARE = 15, 0.05  # than red and blue, which neither stain ever is; and of a tile's pixels
REDDER = (10.0, 5.0)  # of 255: red over blue in the darkest tissue, where nuclei are blue, and in light tissue at most
ONE_DYE = 0.012  # of the second direction of the colours' absorbances over the first; two dyes have 0.1
FEW_GREYS = 12  # different values of green
BLURRED = 0.265  # a straight slope has 0.25
BLOCKY = 1.6
MIN_TISSUE, MIN_SIDE = 0.02, 32  # of a tile's pixels, and pixels along a side, below which nothing is said
MAX_LOOKED = 65_536  # pixels that are examined for colours
DIGEST_BYTES = 6  # a 64-bit float holds them

Pixels = NDArray[np.uint8]


class TileLook(NamedTuple):
    """What is remembered of a tile; NaN where it is too small, or shows too little tissue.

    Attributes:
        rows: Its height.
        columns: Its width.
        digest: Of its pixels; 0 where all are the same, as of glass.
        colour: Mean distance of the highest and the lowest of the three colours.
        glass: Share of pixels that are nearly white.
        black: Share of pixels that are nearly black.
        green: Share of pixels in which green is the brightest.
        red_absorbed: Mean absorbance of red in tissue.
        green_absorbed: Of green.
        blue_absorbed: Of blue.
        redness_dark: How much red exceeds blue in the darkest tenth of the tissue.
        redness_light: And in the lighter half.
        dyes: How much a second dye adds to a first in the colours, 0 where there is one only.
        greys: How many different values of green there are.
        sharpness: Steps from pixel to pixel over those across four.
        blocks: Steps at every eighth row and column over those at the others.
    """

    rows: float
    columns: float
    digest: float
    colour: float = np.nan
    glass: float = np.nan
    black: float = np.nan
    green: float = np.nan
    red_absorbed: float = np.nan
    green_absorbed: float = np.nan
    blue_absorbed: float = np.nan
    redness_dark: float = np.nan
    redness_light: float = np.nan
    dyes: float = np.nan
    greys: float = np.nan
    sharpness: float = np.nan
    blocks: float = np.nan

    @property
    def absorbed(self) -> tuple[float, float, float]:
        """Mean absorbance in tissue of red, green and blue."""
        return self.red_absorbed, self.green_absorbed, self.blue_absorbed


def tile_look(pixels: Pixels) -> TileLook:
    """The look of a tile `(H, W, 3)`."""
    rows, columns, _ = pixels.shape
    flat = bool(pixels.min() == pixels.max())
    hashed = hashlib.blake2b(pixels.tobytes(), digest_size=DIGEST_BYTES).digest()
    look = TileLook(rows, columns, 0 if flat else int.from_bytes(hashed, "little"))
    if min(rows, columns) < MIN_SIDE:
        return look
    few = pixels.reshape(-1, 3)[:: max(1, rows * columns // MAX_LOOKED)].astype(np.float32)
    lowest, highest = few.min(axis=1), few.max(axis=1)
    green = few[:, 1] > GREENER + np.maximum(few[:, 0], few[:, 2])
    look = look._replace(
        colour=float((highest - lowest).mean()),
        glass=float((lowest > GLASS).mean()),
        black=float((highest < INK_BLACK).mean()),
        green=float(green.mean()),
    )
    tissue = few[(lowest <= GLASS) & (highest >= INK_BLACK)]
    if len(tissue) < MIN_TISSUE * len(few):
        return look
    sharpness, blocks = steps(_middle(pixels)[None, ..., 1])
    return look._replace(**_absorbance(tissue), sharpness=sharpness, blocks=blocks)


def _absorbance(tissue: NDArray[np.float32]) -> dict[str, float]:
    absorbed = -np.log((tissue + 1) / 256)
    red, green, blue = absorbed.mean(axis=0).tolist()
    dark, redness = absorbed.sum(axis=1), tissue[:, 0] - tissue[:, 2]
    middle, darkest = np.percentile(dark, [50, 90])
    strengths = np.linalg.svd(absorbed.T @ absorbed, compute_uv=False)  # the squares of those of the colours
    return {
        **{"red_absorbed": red, "green_absorbed": green, "blue_absorbed": blue},
        "redness_dark": float(np.median(redness[dark >= darkest])),
        "redness_light": float(np.median(redness[dark <= middle])),
        "dyes": float(np.sqrt(strengths[1] / strengths[0])) if strengths[0] else np.nan,
        "greys": float(len(np.unique(tissue[:, 1]))),
    }


def _middle(pixels: Pixels) -> Pixels:
    """A part in the middle that begins with a block of 8 by 8 pixels."""
    side = int(MAX_LOOKED**0.5)
    first = [max(0, (length - side) // 2) // BLOCK * BLOCK for length in pixels.shape[:2]]
    return pixels[first[0] : first[0] + side, first[1] : first[1] + side]


def _share(looks: Sequence[TileLook], seems: Callable[[TileLook], Any]) -> float:
    return float(np.mean([bool(seems(look)) for look in looks]))


def tile_remarks(looks: Sequence[TileLook]) -> list[str]:
    """What looks wrong in a patient's tiles, the first thing only: one fault has many signs."""
    for remark, seems, least in _REMARKS:
        share = _share(looks, seems)
        if share > 0 and share >= least:
            return [remark]
    return []


def _is_exchanged(look: TileLook) -> bool:
    dark, light = REDDER
    return look.redness_dark > dark and look.redness_light < light


def _is_other_stain(look: TileLook) -> bool:
    red, green, blue = look.absorbed
    return green < max(red, blue)


_REMARKS: tuple[tuple[str, Callable[[TileLook], Any], float], ...] = (
    ("a tile is black; delete it, and check how the slide was cut", lambda look: look.black > MOSTLY, 0.0),
    (
        "most tiles show glass and no tissue; choose tiles with tissue",
        lambda look: look.glass > MOSTLY,
        MUCH,
    ),
    (
        "a tile has no colours; check that it is of the stained slide, and no mask",
        lambda look: look.colour < COLOURLESS and look.glass <= MOSTLY,
        0.0,
    ),
    (
        "a part of a tile is green, as no tissue is in haematoxylin and eosin; is it ink, or inverted?",
        lambda look: look.green > GREEN_SHARE,
        0.0,
    ),
    (
        "green is not what the tiles absorb most, as haematoxylin and eosin do; is it another stain?",
        _is_other_stain,
        MUCH,
    ),
    (
        "the darkest tissue is red, as where red and blue were exchanged; check the order of colours",
        _is_exchanged,
        MUCH,
    ),
    (
        "tiles show one dye alone, as where stains were separated; give the slide's own colours",
        lambda look: look.dyes < ONE_DYE,
        MUCH,
    ),
    (
        f"tiles have fewer than {FEW_GREYS} grey values; cut them again from the slide",
        lambda look: look.greys < FEW_GREYS,
        MUCH,
    ),
    (
        "tiles are blurred, or were enlarged; cut them at the slide's own resolution",
        lambda look: look.sharpness < BLURRED,
        MUCH,
    ),
    (
        "tiles show the blocks of a strong JPEG compression; cut them again from the slide",
        lambda look: look.blocks > BLOCKY,
        MUCH,
    ),
)
