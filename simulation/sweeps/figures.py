"""Figures of a sweep: the points with their intervals, and the value over each number that varies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shared_models.pages.drawing import BLUE, HOLLOW, ORANGE, canvas, draw
from shared_models.pages.elements import Figure
from shared_models.pages.forest import Line, draw_forest
from simulation.sweeps.table import Row, with_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

FIGURES = "figures"
AXIS = "value on validation patients"
MAX_LINES, MAX_POINTS = 6, 60
COLOURS = (BLUE, ORANGE, "#2e7d4f", "#7a4fa3", "#a07a12", "#4f7f8f")


def write_figures(rows: Sequence[Row], folder: Path) -> None:
    """Writes `figures/points` and for each number that varies `figures/over-KEY`, each as SVG, PDF and CSV."""
    valued = [row for row in rows if row.value is not None]
    if not valued:
        return
    for figure in (_points(valued[:MAX_POINTS]), *(_over(key, valued) for key in numeric_keys(valued))):
        draw(figure).save(folder / FIGURES)


def numeric_keys(rows: Sequence[Row]) -> list[str]:
    """Settings with three different numbers or more."""
    keys = dict.fromkeys(key for row in rows for key in row.point.settings)
    return [key for key in keys if len({x for row in rows if (x := number_of(row, key)) is not None}) > 2]


def number_of(row: Row, key: str) -> float | None:
    """A setting's value where it is a number."""
    value = row.point.settings.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _points(rows: Sequence[Row]) -> Figure:
    lines = [
        Line(
            label=row.point.label[:70],
            value=row.value,
            ends=None if row.ends[0] is None or row.ends[1] is None else (row.ends[0], row.ends[1]),
            estimate=with_interval(row.value, *row.ends),
            role="internal",
        )
        for row in rows
    ]
    return Figure(
        name="points",
        draw=lambda: draw_forest(lines, ("settings",), AXIS, chance=None, right="mean (95 % over seeds)"),
        alt="Value of each point on validation patients, with its interval over seeds",
        caption="Mean over seeds with Student's t interval.",
        columns=("settings", "value", "low", "high"),
        values=[(row.point.label, row.value, *row.ends) for row in rows],
    )


def _over(key: str, rows: Sequence[Row]) -> Figure:
    """A line for each combination of the other settings; what does not have the number is a dashed level."""
    lines: dict[str, list[Row]] = {}
    varied = [row for row in rows if number_of(row, key) is not None]
    for row in varied:
        rest = ", ".join(f"{k}={v}" for k, v in row.point.settings.items() if k != key)
        lines.setdefault(", ".join(filter(None, [row.point.training, rest])), []).append(row)
    levels = [row for row in rows if number_of(row, key) is None]
    few = len(lines) <= MAX_LINES
    return Figure(
        name=f"over-{key}",
        draw=lambda: _draw_over(key, lines if few else {"": varied}, levels[:MAX_LINES], few),
        alt=f"Value on validation patients over {key}",
        caption="Mean over seeds with Student's t interval; dashed: settings without this number.",
        columns=(key, "settings", "value", "low", "high"),
        values=[(number_of(row, key), row.point.label, row.value, *row.ends) for row in rows],
    )


def _draw_over(key: str, lines: dict[str, list[Row]], levels: Sequence[Row], joined: bool) -> Drawing:
    drawing, (axes,) = canvas(3.4)
    numbers = [x for rows in lines.values() for row in rows if (x := number_of(row, key)) is not None]
    for colour, (label, rows) in zip(COLOURS, lines.items(), strict=False):
        there = sorted((number_of(row, key) or 0.0, row.value or 0.0, row.ends) for row in rows)
        xs, ys = [x for x, _, _ in there], [y for _, y, _ in there]
        axes.plot(xs, ys, color=colour, marker="o", markersize=4, linestyle="-" if joined else "none", label=label)
        for x, _, (low, high) in there:
            if low is not None and high is not None:
                axes.plot([x, x], [low, high], color=colour, linewidth=1.0)
    for number, row in enumerate(levels):
        style = (0, (5, 1 + number))
        axes.axhline(row.value or 0.0, color=HOLLOW, linestyle=style, linewidth=1.1, label=row.point.label)
    axes.set(xlabel=key, ylabel=AXIS)
    if 0 < 9 * min(numbers) < max(numbers):
        axes.set_xscale("log")
    if axes.get_legend_handles_labels()[1] != [""]:
        axes.legend(loc="best")
    return drawing
