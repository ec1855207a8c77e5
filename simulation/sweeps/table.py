"""Table of a sweep: a row a point, over its seeds, beside the first; in a terminal and as two CSV files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from shared_models.atomic_files import write_atomically
from shared_models.pages.drawing import table_text
from simulation.sweeps.plan import BEST_IS_CHANCE, Point
from simulation.sweeps.trial import Outcome

if TYPE_CHECKING:
    from rich.console import Console

SWEEP, RUNS = "sweep.csv", "runs.csv"
LEVEL = 0.95
Number = float | None


@dataclass(frozen=True)
class Row:
    """A point over its seeds.

    Attributes:
        point: The point.
        values: On validation patients, by seed; of the runs that have one.
        ends: Of the 95 % interval of their mean (Student's t): what other seeds would give, on the same patients.
        difference: From the first point, of the seeds of both.
        difference_ends: Of its 95 % interval (Student's t, paired by seed).
        targets: Mean of each target.
        seconds: Mean of a run.
        failures: Why runs have no value.
    """

    point: Point
    values: Mapping[int, float]
    ends: tuple[Number, Number]
    difference: Number
    difference_ends: tuple[Number, Number]
    targets: Mapping[str, Number]
    seconds: float
    failures: tuple[str, ...]

    @property
    def value(self) -> Number:
        """Mean over seeds."""
        return fmean(self.values.values()) if self.values else None


def rows_of(outcomes: Sequence[Outcome]) -> list[Row]:
    """A row for each point, in the order of their first runs."""
    by_point: dict[tuple[object, ...], list[Outcome]] = {}
    for outcome in outcomes:
        point = outcome.trial.point  # not by its label, which has four digits of a number
        by_point.setdefault((point.training, *point.settings.items()), []).append(outcome)
    rows: list[Row] = []
    for runs in by_point.values():
        values = {one.trial.seed: one.value for one in runs if one.value is not None}
        first = rows[0].values if rows else {}
        differences = [values[seed] - first[seed] for seed in values if seed in first]
        names = dict.fromkeys(name for one in runs for name in one.targets)
        by_target = {name: [v for one in runs if (v := one.targets.get(name)) is not None] for name in names}
        rows.append(
            Row(
                point=runs[0].trial.point,
                values=values,
                ends=t_interval(list(values.values())),
                difference=fmean(differences) if differences else None,
                difference_ends=t_interval(differences),
                targets={name: fmean(each) if each else None for name, each in by_target.items()},
                seconds=fmean(one.seconds for one in runs),
                failures=tuple(one.failure or "no value on validation patients" for one in runs if one.value is None),
            )
        )
    return rows


def t_interval(values: Sequence[float]) -> tuple[Number, Number]:
    """Student's t interval of a mean; none of fewer than two values.

    Example:
        >>> [round(end, 3) for end in t_interval([1.0, 2.0, 3.0])]
        [-0.484, 4.484]
    """
    from scipy.stats import t

    if len(values) < 2:
        return None, None
    reach = float(t.ppf((1 + LEVEL) / 2, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return fmean(values) - reach, fmean(values) + reach


def best_of(rows: Sequence[Row]) -> Row | None:
    """The row with the highest mean."""
    valued = [row for row in rows if row.value is not None]
    return max(valued, key=lambda row: row.value or 0.0, default=None)


def write_tables(outcomes: Sequence[Outcome], folder: Path) -> None:
    """Writes `sweep.csv`, a row a point, and `runs.csv`, a row a run."""
    rows = rows_of(outcomes)
    keys = list(dict.fromkeys(key for row in rows for key in row.point.settings))
    targets = list(dict.fromkeys(name for row in rows for name in row.targets))
    head = ["training", *keys]
    points = [
        [
            *_varied(row.point, keys),
            len(row.values),
            len(row.failures),
            *map(_digits, (row.value, *row.ends, row.difference, *row.difference_ends)),
            *(_digits(row.targets.get(name)) for name in targets),
            round(row.seconds, 1),
        ]
        for row in rows
    ]
    numbers = ["runs", "failed", "value", "low", "high", "difference", "difference_low", "difference_high"]
    write_atomically(folder / SWEEP, table_text([*head, *numbers, *targets, "seconds"], points))
    runs = [
        [
            *_varied(one.trial.point, keys),
            one.trial.seed,
            one.value,
            *(one.targets.get(name) for name in targets),
            one.rounds,
            one.seconds,
            one.failure,
        ]
        for one in outcomes
    ]
    write_atomically(
        folder / RUNS, table_text([*head, "seed", "value", *targets, "rounds", "seconds", "failure"], runs)
    )


def print_rows(outcomes: Sequence[Outcome], folder: Path, console: Console) -> None:
    """Prints the table; a long name breaks, a number never."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    rows = rows_of(outcomes)
    seeds = max((len(row.values) + len(row.failures) for row in rows), default=0)
    title = f"validation patients: mean of {seeds} seeds (95 % over seeds); difference from the first row, by seed"
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("settings", overflow="fold", min_width=24)
    for heading in ("runs", "value", "difference", "seconds"):
        table.add_column(heading, justify="right", no_wrap=True)
    best = best_of(rows)
    for row in rows:
        runs = str(len(row.values)) + (f" of {len(row.values) + len(row.failures)}" if row.failures else "")
        difference = "" if row is rows[0] else with_interval(row.difference, *row.difference_ends, signed=True)
        style = "bold" if row is best and len(rows) > 1 else None
        cells = (Text(row.point.label), runs, with_interval(row.value, *row.ends), difference, f"{row.seconds:.1f}")
        table.add_row(*cells, style=style)
    console.print(table)
    for reason in dict.fromkeys(reason for row in rows for reason in row.failures):
        console.print(f"without a value: {reason}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    if best and len(rows) > 1:
        sentence = f"Highest: {best.point.label}. No test patient was scored, and {BEST_IS_CHANCE}: run it as a study."
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)
    console.print(f"{folder / SWEEP}, {RUNS} and figures/", soft_wrap=True, highlight=False, markup=False)


def with_interval(value: Number, low: Number, high: Number, signed: bool = False) -> str:
    """A value with its interval, three decimals.

    Example:
        >>> [with_interval(0.71234, 0.7, 0.72), with_interval(0.01, None, None, True)]
        ['0.712 (0.700,0.720)', '+0.010']
    """
    if value is None:
        return "-"
    value = round(value, 3) + 0.0  # no -0.000
    text = f"{value:+.3f}" if signed else f"{value:.3f}"
    return text if low is None or high is None else f"{text} ({low:.3f},{high:.3f})"


def _varied(point: Point, keys: Sequence[str]) -> list[object]:
    return [point.training, *(point.settings.get(key) for key in keys)]


def _digits(value: Number) -> Number:
    return None if value is None else round(value, 6)
