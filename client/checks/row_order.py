"""Suspicions of the order of a file's rows: columns moved by a row, cells dragged or filled down, rows pasted.

A spreadsheet's accidents leave traces from row to row that no chance leaves: what goes together is a row apart, or
the same values follow each other twice.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from client.checks.feature_column import FEW, FeatureColumn, Values
from client.checks.last_rows import last_rows
from client.checks.suspicion import Suspicion, suspicion

MAX_COLUMNS, MAX_ROWS = 40, 2000  # of a table, that are compared row by row
MAX_MOVED = 3  # rows
FARTHEST = 60  # rows, within which a repeated pattern returns
CERTAIN = 6.0  # standard errors of a correlation a few rows apart, among thousands that are tried
STRONG, WEAK = 0.4, 1 / 3  # that correlation, and the one in the same row as its share
DRAGGED = 8  # steps of one size from row to row
PART = 0.5  # of a file, beyond which a pattern is the column's own
FILLED, BY_CHANCE = 0.25, 0.08  # neighbours with the same number, and how many there would be by chance
PASTED_BY_CHANCE = 1e-4
LONGEST_PASTED = 20
EVEN = 1e-9  # between the steps of numbers that a program counted
WIDEST = 60  # columns of a table of findings; a block that is pasted in a table of genes shows in whole rows

Order = NDArray[np.int64]


def row_order_warnings(columns: Sequence[FeatureColumn], owner: Order) -> list[Suspicion]:
    """What the rows' order gives away, each with what to do about it.

    Args:
        columns: The features of all of the site's tables, each of the cohort's R rows.
        owner: `(R,)` the patient of each row: what is the patient's stands in each of her rows.
    """
    tables: dict[int, list[FeatureColumn]] = defaultdict(list)
    for one in columns:
        if one.varies:
            tables[id(one.cells.rows)].append(one)
    orders = {key: _order(group[0]) for key, group in tables.items()}
    warnings = list(_moved([group[:MAX_COLUMNS] for group in tables.values()], list(orders.values())))
    for key, group in tables.items():
        if len(orders[key]) < 2 * FEW:
            continue
        order = orders[key]
        first_of_patient = order[np.diff(owner[order], prepend=-1) != 0]
        for one in group:
            in_file, of_patients = (rows[~np.isnan(one.values[rows])] for rows in (order, first_of_patient))
            warnings += [*_dragged(one, in_file), *_filled_down(one, of_patients)]
            warnings += last_rows(one.feature.name, one.cells, one.values)
        warnings += _pasted(group, orders[key]) if len(group) <= WIDEST else []
    return warnings


def _order(one: FeatureColumn) -> Order:
    """The cohort's rows in the order of the file, each row of the file once."""
    rows = np.array(one.cells.rows)
    _, first = np.unique(rows, return_index=True)
    return first[rows[first] > 0]


def _moved(tables: Sequence[Sequence[FeatureColumn]], orders: Sequence[Order]) -> Iterator[Suspicion]:
    """Two features that go together a few rows apart, and not in the same row."""
    for number, (group, order) in enumerate(zip(tables, orders, strict=True)):
        order = order[:MAX_ROWS]
        others = [*group, *(one for table in tables[:number] for one in table)]
        if len(order) < 2 * FEW:
            continue
        ranked = np.stack([_ranks(one.values[order]) for one in others], axis=1)
        here = ranked.T @ ranked[:, : len(group)]
        apart = max((_farthest(ranked, here, len(group), step) for step in _steps()), key=lambda one: one[0])
        strength, other, one, step = apart
        if strength and not _periodic(ranked[:, other], ranked[:, one], step, strength):
            first, second = group[one], others[other]
            moved = "a row" if abs(step) == 1 else f"{abs(step)} rows"
            yield Suspicion(
                f"{first.feature.name} and {second.feature.name} go together {moved} apart in the file, and not in the "
                f"same row (correlation of ranks {strength:.2f}): was a column moved? Compare the rows of "
                f"{first.cells.where} and {second.cells.where} with their source"
            )


def _steps() -> list[int]:
    return [step for size in range(1, MAX_MOVED + 1) for step in (size, -size)]


def _farthest(ranked: Values, here: Values, width: int, step: int) -> tuple[float, int, int, int]:
    """The strongest correlation between rows that are `step` apart: its size, both columns and the step; 0 if none."""
    ahead, behind = (ranked[step:], ranked[:-step]) if step > 0 else (ranked[:step], ranked[-step:])
    there = ahead.T @ behind[:, :width]
    limit = max(STRONG, math.tanh(CERTAIN / math.sqrt(max(len(ahead) - 3, 1))))
    suspect = np.where((np.abs(there) > limit) & (np.abs(here) < WEAK * np.abs(there)), np.abs(there), 0.0)
    other, one = np.unravel_index(int(suspect.argmax()), suspect.shape)
    return float(suspect[other, one]), int(other), int(one), step


def _periodic(other: Values, one: Values, step: int, strength: float) -> bool:
    """Whether two columns go together at other distances, too, as where a pattern is repeated."""
    around = [apart for size in range(1, FARTHEST + 1) for apart in (step + size, step - size) if apart]
    pairs = [(other[apart:], one[:-apart]) if apart > 0 else (other[:apart], one[-apart:]) for apart in around]
    return any(abs(float(ahead @ behind)) > strength / 2 for ahead, behind in pairs if len(ahead) > FEW)


def _ranks(values: Values) -> Values:
    """Ranks of mean 0 and length 1, of which products are correlations; 0 where a value is missing."""
    known = ~np.isnan(values)
    ranks = np.zeros(len(values))
    ranks[known] = rankdata(values[known])
    ranks[known] -= ranks[known].mean() if known.any() else 0.0
    length = float(np.sqrt((ranks**2).sum()))
    return ranks / length if length > 0 else ranks


def _dragged(one: FeatureColumn, in_file: Order) -> Iterator[Suspicion]:
    """A number that rises by the same from row to row, as where a spreadsheet continued a series."""
    steps = np.diff(one.values[in_file])
    same = (np.abs(np.diff(steps)) < 1e-9) & (np.abs(steps[1:]) > 1e-9)
    if one.feature.categories or same.sum() < DRAGGED - 1:
        return
    ends = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]))).reshape(-1, 2)
    runs = [in_file[start : end + 2] for start, end in ends.tolist() if end - start >= DRAGGED - 1]
    if sum(map(len, runs)) > PART * len(in_file):
        return
    for there in runs:
        first, last = (one.cells.rows[row] for row in (there[0], there[-1]))
        step = one.values[there[1]] - one.values[there[0]]
        text = f"{one.feature.name} changes by {step:g} from row to row in rows {first} to {last}"
        yield suspicion(f"{text}: was a cell dragged? Compare them with their source", there.tolist())


def _filled_down(one: FeatureColumn, in_file: Order) -> Iterator[Suspicion]:
    """Numbers that repeat that of the row above far more often than chance does, though the column is not sorted."""
    values = one.values[in_file]
    if one.feature.categories or len(values) < 2 * FEW:
        return
    steps = np.diff(values)
    equal, turns = steps == 0, np.diff(np.sign(steps[steps != 0])) != 0
    if equal.mean() < FILLED or turns.sum() < FEW / 2:
        return
    _, counts = np.unique(values, return_counts=True)
    if float(((counts / len(values)) ** 2).sum()) < BY_CHANCE:
        again = in_file[1:][equal]
        rows = one.rows(np.isin(np.arange(len(one.values)), again))
        text = (
            f"{one.feature.name} repeats the row above in {rows}: was it filled down where it is not known? Then empty "
            "these cells"
        )
        yield suspicion(text, again.tolist())


def _pasted(columns: Sequence[FeatureColumn], order: Order) -> list[Suspicion]:
    """Values that follow each other in the same order twice, as where rows were pasted over others."""
    there: set[int] = set()
    names = []
    for one in columns:
        values = one.values[order]
        length = _unlikely_length(values)
        rows = _repeated(values, length) if length else []
        if 0 < len(rows) <= PART * len(order) or (rows and _recycled(values[~np.isnan(values)])):
            names.append(one.feature.name)
            there.update(order[rows].tolist())
    if not names:
        return []
    rows = sorted(there)
    text = (
        f"{', '.join(names[:5])}{' and others' if len(names) > 5 else ''}: the same values follow each other twice, in "
        f"{columns[0].rows(np.isin(np.arange(len(columns[0].values)), rows))}: were rows pasted over others? Compare "
        "them with their source"
    )
    return [suspicion(text, rows)]


def _recycled(values: Values) -> bool:
    """Whether a column is its own beginning again, once or more often, as R fills a table from a shorter column.

    What begins again after a few rows is a design: left and right in turn, or the views of each patient.
    """
    again = (start for start in range(1, len(values) // 2 + 1) if values[start] == values[0])
    start = next((start for start in again if np.array_equal(values[start:], values[:-start])), 0)
    return start >= LONGEST_PASTED and float(np.ptp(np.diff(values[:start]))) > EVEN


def _unlikely_length(values: Values) -> int:
    """How many values in a row are hardly ever repeated by chance; 0 where only very many are."""
    known = values[~np.isnan(values)]
    if len(known) < 2 * FEW:
        return 0
    _, counts = np.unique(known, return_counts=True)
    match = float(((counts / len(known)) ** 2).sum())
    length = math.ceil(math.log(len(known) ** 2 / PASTED_BY_CHANCE) / -math.log(match)) if match < 1 else LONGEST_PASTED
    return max(length, 4) if length < min(LONGEST_PASTED, len(known) // 4) else 0


def _repeated(values: Values, length: int) -> list[int]:
    """The rows of runs of that length, none of one value or of equal steps, that occur twice and do not overlap."""
    if len(values) <= 2 * length:
        return []
    windows = np.lib.stride_tricks.sliding_window_view(values, length)
    odd = np.arange(1, 2 * length, 2, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    sums = np.zeros(len(windows), dtype=np.uint64)  # the same for the same values
    for step, factor in enumerate(odd):
        sums += np.ascontiguousarray(values[step : step + len(windows)]).view(np.uint64) * factor
    _, group, count = np.unique(sums, return_inverse=True, return_counts=True)
    places = np.flatnonzero(count[group] > 1)
    steps = np.diff(windows[places], axis=1)
    uneven = ~np.isnan(windows[places]).any(axis=1) & (np.ptp(steps, axis=1) > 0) & ((steps != 0).mean(axis=1) > 0.5)
    seen: dict[bytes, list[int]] = defaultdict(list)
    for place in places[uneven].tolist():
        seen[windows[place].tobytes()].append(place)
    starts = {p for same in seen.values() for pair in pairwise(same) if pair[1] - pair[0] >= length for p in pair}
    return sorted({start + step for start in starts for step in range(length)})
