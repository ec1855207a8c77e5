"""Figures of one study beside stored pictures of them: they show the same marks in the same places.

The pictures are without text, so that no font matters, and marks may lie a little off, so that no release of the
drawing library does. Where a change is meant: run it with
`UPDATE_GOLDEN=1`, and look at the new pictures.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure as Drawing
from matplotlib.text import Text
from PIL import Image
from scipy.ndimage import maximum_filter

from tests.server.report.made_study import page_and_figures

GOLDEN = Path(__file__).with_name("golden")
DPI, BLOCK = 60, 3
TOLERANCE = 0.05
"""Ink of a block of pixels, of 1, that the other picture lacks there and next to it; the palest band has 0.08."""


def picture(drawing: Drawing) -> Image.Image:
    """The drawing in gray, without its text."""
    texts = [text for text in drawing.findobj(Text) if text.get_visible()]
    for text in texts:
        text.set_visible(False)
    drawing.savefig(written := io.BytesIO(), format="png", dpi=DPI, facecolor="white")
    for text in texts:
        text.set_visible(True)
    return Image.open(written).convert("L")


def ink(image: Image.Image) -> np.ndarray:
    """How dark each block of pixels is, (rows, columns) in [0, 1]."""
    dark = 1 - np.asarray(image, dtype=np.float64) / 255
    rows, columns = (size // BLOCK for size in dark.shape)
    return dark[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK).mean(axis=(1, 3))


def difference(one: Image.Image, other: Image.Image) -> float:
    """The most ink that either picture has where the other has less, there and in the blocks next to it."""
    if one.size != other.size:
        return 1.0
    first, second = ink(one), ink(other)
    return float(max((a - maximum_filter(b, 3)).max() for a, b in ((first, second), (second, first))))


def marks(drawing: Drawing) -> Iterator[Artist]:
    """Of each axes the last of each kind; dotted lines, of shares that may be the same, lie over one another."""
    for axes in drawing.axes:
        lines = [line for line in axes.lines if len(line.get_xdata()) and line.get_linestyle() not in ("None", ":")]
        points = [line for line in axes.lines if len(line.get_xdata()) and line.get_marker() not in ("None", "", None)]
        for kind in (lines, points, list(axes.collections), list(axes.patches)):
            yield from kind[-1:]


def test_figures_are_those_of_the_stored_pictures() -> None:
    pictures = {one.figure.name: picture(one.drawing) for one in page_and_figures()[1]}
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        for file in GOLDEN.glob("*.png"):
            file.unlink()
        for name, image in pictures.items():
            image.save(GOLDEN / f"{name}.png", optimize=True)
    assert pictures.keys() == {file.stem for file in GOLDEN.glob("*.png")}
    differ = {
        name: difference(image, Image.open(GOLDEN / f"{name}.png").convert("L")) for name, image in pictures.items()
    }
    assert max(differ.values()) < TOLERANCE, {name: round(value, 2) for name, value in differ.items() if value > 0.05}


def test_a_figure_that_loses_a_line_its_points_or_its_bars_is_another() -> None:
    unseen, tried = [], 0
    for one in page_and_figures()[1]:
        whole = picture(one.drawing)
        for mark in marks(one.drawing):
            mark.set_visible(False)
            tried += 1
            if difference(whole, picture(one.drawing)) < TOLERANCE:
                unseen.append((one.figure.name, repr(mark)))
            mark.set_visible(True)
    assert tried > 30
    assert not unseen
