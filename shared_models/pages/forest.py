"""Forest plot: a row for each site or subgroup with its numbers, its estimate and interval, and rows of sums."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from shared_models.pages.drawing import COLOUR, HOLLOW, INK, MARKER, NAVY, SOFT, WIDTH_INCHES, Role

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

ROW_INCHES = 0.235
LEFT, RIGHT = 0.46, 0.79  # of the axes, in widths of the figure
CHANCE, LAST_SHARE = 0.5, 1.02  # of an AUC, and where its axis ends: a mark at 1 is whole


@dataclass(frozen=True)
class Line:
    """A row of a forest plot.

    Attributes:
        label: What it is of.
        cells: Numbers between label and axes.
        value: The estimate, or None.
        ends: Its interval, or None.
        estimate: The same as text, at the right edge; or why there is none.
        kind: `heading` of rows; `one` site; `sum` of several; `spread`, where a new one may lie.
        role: Of the site, which gives colour and marker.
    """

    label: str
    cells: Sequence[str] = ()
    value: float | None = None
    ends: tuple[float, float] | None = None
    estimate: str = ""
    kind: Literal["heading", "one", "sum", "spread"] = "one"
    role: Role | None = None


def draw_forest(
    lines: Sequence[Line],
    headings: Sequence[str],
    axis: str,
    chance: float | None = CHANCE,
    right: str = "",
) -> Drawing:
    """Draws the rows from the top.

    Args:
        lines: The rows.
        headings: Of the label and of the cells.
        axis: What the axis shows.
        chance: Where a dashed line lies; None for none.
        right: Heading of the estimates' text.
    """
    from matplotlib.figure import Figure as Drawing

    height = ROW_INCHES * (len(lines) + 1) + 0.55
    drawing = Drawing(figsize=(WIDTH_INCHES, height))
    axes = drawing.add_axes((LEFT, 0.52 / height, RIGHT - LEFT, 1 - 0.55 / height))
    low, high = _limits(lines, chance)
    axes.set(xlim=(low, high), ylim=(len(lines) - 0.4, -1.4), xlabel=axis, yticks=[])
    axes.locator_params(axis="x", nbins=7)
    axes.grid(False)
    axes.spines["left"].set_visible(False)
    if chance is not None:
        axes.plot([chance, chance], [-0.5, len(lines) - 0.4], color=HOLLOW, linestyle=(0, (4, 3)), linewidth=0.9)
    _text_row(axes, -1, headings, right, weight="bold", colour=SOFT)
    for row, line in enumerate(lines):
        _draw_line(axes, row, line, low)
    return drawing


def _limits(lines: Sequence[Line], chance: float | None) -> tuple[float, float]:
    values = [x for line in lines for x in (line.value, *(line.ends or ())) if x is not None and math.isfinite(x)]
    values += [chance] if chance is not None else []
    low, high = min(values, default=0.0), max(values, default=1.0)
    first, last = math.floor(10 * low - 0.2) / 10, math.ceil(10 * high + 0.2) / 10
    return first, min(last, LAST_SHARE) if chance == CHANCE else last


def _draw_line(axes: Axes, row: int, line: Line, low: float) -> None:
    bold = "bold" if line.kind in ("heading", "sum") else "normal"
    indent = 0.0 if line.kind in ("heading", "sum") else 0.014
    if line.value is None and line.kind == "one":
        _text_row(axes, row, [line.label, *line.cells], "", bold, indent=indent)
        axes.text(
            0.5,
            row,
            line.estimate,
            transform=axes.get_yaxis_transform(),
            ha="center",
            va="center_baseline",
            fontsize=9,
            fontstyle="italic",
            color=SOFT,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},  # over the line of chance
        )
        return
    _text_row(axes, row, [line.label, *line.cells], line.estimate, bold, indent=indent)
    colour = COLOUR[line.role] if line.role else NAVY
    if line.kind == "spread" and line.ends:
        axes.barh(row, line.ends[1] - line.ends[0], 0.32, line.ends[0], color="#b9c4cd")
        axes.plot(line.ends, [row, row], "|", color=INK, markersize=8)
    elif line.kind == "sum" and line.ends and line.value is not None:
        xs = [line.ends[0], line.value, line.ends[1], line.value]
        axes.fill(xs, [row, row - 0.3, row, row + 0.3], color=colour, linewidth=0)
    elif line.value is not None:
        if line.ends:
            axes.plot(line.ends, [row, row], color=colour)
        marker = MARKER[line.role] if line.role else "s"
        axes.plot([line.value], [row], marker, color=colour, markersize=5.5)


def _text_row(
    axes: Axes,
    row: int,
    cells: Sequence[str],
    right: str,
    weight: str = "normal",
    colour: str = INK,
    indent: float = 0.0,
) -> None:
    from matplotlib.transforms import blended_transform_factory

    assert axes.figure is not None
    place = blended_transform_factory(axes.figure.transFigure, axes.transData)
    look: dict[str, Any] = {
        "transform": place,
        "va": "center_baseline",
        "fontsize": 9.5,
        "fontweight": weight,
        "color": colour,
    }
    axes.text(0.005 + indent, row, cells[0], ha="left", **look)
    for index, cell in enumerate(reversed(cells[1:])):
        axes.text(LEFT - 0.02 - 0.085 * index, row, cell, ha="right", **look)
    axes.text(0.995, row, right, ha="right", **look)
