"""Suspicions of a table as a whole: columns that stand for others, a patient twice, a column sorted alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from client.checks.feature_column import FEW, FeatureColumn, Values
from client.checks.suspicion import Suspicion, suspicion
from client.onboarding.vocabulary import LENGTHS, meanings, words

BY_CHANCE = 1e-3  # patients who are expected to have the values of another one by chance
BEGIN = 100  # rows that are examined first: they rule most columns out
MANY = 60  # columns, from which a table is a matrix
DIGITS = 5e-6  # of a number that is written with six digits
TRIED, LARGEST_LOGARITHM, WHOLE = 40, 30.0, 0.05  # values that are tried, and how near to whole numbers chance comes


def whole_table_warnings(columns: Sequence[FeatureColumn], patients: Sequence[str]) -> list[Suspicion]:
    """What looks wrong in a table's columns beside each other, each with what to do about it.

    Args:
        columns: The features.
        patients: Of the R rows.
    """
    parts = (_same(columns), _other_things(columns), _sorted_alone(columns, patients), _logged_counts(columns))
    return [Suspicion(text) for part in parts for text in part] + _rows_twice(columns, patients)


def _same(columns: Sequence[FeatureColumn]) -> Iterator[str]:
    """Features that have the same values for every patient."""
    first: dict[bytes, str] = {}
    begin = [one.values[:BEGIN].tobytes() for one in columns]
    often = Counter(begin)
    for one, few in zip(columns, begin, strict=True):
        if often[few] > 1 and len(one.known) >= FEW and one.varies:
            other = first.setdefault(one.values.tobytes(), one.feature.name)
            if other != one.feature.name:
                yield f"{one.feature.name} and {other} are the same for every patient; check their columns"


def _other_things(columns: Sequence[FeatureColumn]) -> Iterator[str]:
    """Features that are read from a column whose name is that of another thing, or of another unit."""
    read_by = {one.feature.name: one.column.column for one in columns}
    for one in columns:
        name, column = one.feature.name, one.column.column
        meant, named = meanings(name), meanings(column)
        units, own = (set(words(text)) & LENGTHS for text in (column, name))
        if column != name and column in read_by and read_by[column] != column:
            yield f"{name} is read from {column!r}, which is another feature's name; check both columns"
        elif meant and named and not meant & named:
            yield f"{name} is read from {column!r}, a name of {' or '.join(sorted(named))}; check the column"
        elif units and own and not units & own and one.column.scale == 1.0 and one.column.codes is None:
            yield f"{name} is read from {column!r} without `scale`, though the names say {min(own)} and {min(units)}"


def _logged_counts(columns: Sequence[FeatureColumn]) -> Iterator[str]:
    """Findings that are the logarithms of whole numbers, as of a receptor's amount; a matrix of genes often is."""
    for one in columns if len(columns) <= MANY else ():
        values = one.distinct[0]
        few = values[values % 1 != 0][:TRIED]
        if one.feature.categories or len(few) < TRIED or values[0] < 0 or values[-1] > LARGEST_LOGARITHM:
            continue
        decimals = max((len(text.rpartition(one.cells.decimal)[2]) for text in one.cells.texts[:BEGIN]), default=0)
        for name, base in (("natural", math.e), ("binary", 2.0), ("decimal", 10.0)):
            counts = base**few
            rounding = counts * math.log(base) * np.maximum(10.0**-decimals, DIGITS * few)
            sharp = rounding < WHOLE
            whole = np.round(counts)
            several = len(np.unique(whole[sharp])) >= FEW  # numbers near 0 are all nearly the logarithm of 1
            if several and (np.abs(counts - whole) < rounding + 1e-9)[sharp].all():
                yield (
                    f"{one.feature.name} is the {name} logarithm of whole numbers; if the study means these, give them"
                )
                break


def _sorted_alone(columns: Sequence[FeatureColumn], patients: Sequence[str]) -> Iterator[str]:
    """Values that rise, or fall, from row to row of a file that is sorted by its patients."""
    rows_of, in_file = None, np.zeros(0, dtype=np.int64)
    for one in columns:
        if one.cells.rows is not rows_of:
            rows_of, rows = one.cells.rows, np.array(one.cells.rows)
            in_file = np.argsort(rows, kind="stable")
            in_file = in_file[rows[in_file] > 0]
        begin = np.diff(one.values[in_file[:BEGIN]])
        if (begin > 0).any() and (begin < 0).any():
            continue
        order = in_file[~np.isnan(one.values[in_file])]
        steps = np.diff(one.values[order])
        if (steps != 0).sum() < FEW or not ((steps >= 0).all() or (steps <= 0).all()):
            continue
        there = [patients[index] for index in order.tolist()]
        if there == sorted(there) or there == sorted(there, key=lambda text: (len(text), text)):
            kind = "rises" if steps.max() > 0 else "falls"
            yield f"{one.feature.name} {kind} from row to row, and so do the identifiers: was the column sorted alone?"


def _rows_twice(columns: Sequence[FeatureColumn], patients: Sequence[str]) -> list[Suspicion]:
    """Rows that hold the same values: of different patients, more than chance explains, or all of the file's."""
    varied = [one.values for one in columns if one.varies]
    if len(varied) < 2:
        return []
    odd = np.arange(1, 2 * len(varied), 2, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    sums = np.zeros(len(patients), dtype=np.uint64)  # the same for the same rows
    for one, factor in zip(varied, odd, strict=True):
        sums += np.ascontiguousarray(one).view(np.uint64) * factor
    _, group, count = np.unique(sums, return_inverse=True, return_counts=True)
    if (count == 1).all():
        return []
    return [*_all_twice(columns, patients, group), *_patients_twice(columns, patients, varied, count[group] > 1)]


def _all_twice(
    columns: Sequence[FeatureColumn], patients: Sequence[str], group: NDArray[np.int64]
) -> Iterator[Suspicion]:
    """A table of lesions or views in which each row of a patient has a double, as of a file that was joined twice."""
    rows = next((one.cells.rows for one in columns if len(set(one.cells.rows)) == len(one.cells.rows)), None)
    if rows is None or len(rows) < 2 * FEW or len(set(patients)) == len(patients):
        return
    often = Counter(zip(patients, group.tolist(), strict=True))
    if all(count % 2 == 0 for count in often.values()):
        yield Suspicion(
            "each row of each patient is there twice, or more often, with the same values: was a table joined, or a "
            "file appended, twice? Then take one of each"
        )


def _patients_twice(
    columns: Sequence[FeatureColumn], patients: Sequence[str], varied: Sequence[Values], again: NDArray[np.bool_]
) -> list[Suspicion]:
    """Different patients with the same values in all features."""
    values = np.stack(varied, axis=1)
    groups: dict[bytes, list[int]] = {}
    for index in np.flatnonzero(again).tolist():
        groups.setdefault(values[index].tobytes(), []).append(index)
    pairs, twins = [], []
    for rows in groups.values():
        if len({patients[row] for row in rows}) > 1 and _expected_twins(values, rows) < BY_CHANCE:
            pairs.append(" and ".join(map(str, _places(columns, rows)[:4])))
            twins += rows
    if not pairs:
        return []
    more = f", and {len(pairs) - 5} more such groups" if len(pairs) > 5 else ""
    text = (
        f"rows {'; '.join(pairs[:5])}{more} hold the same values in all {len(varied)} features: one patient under two "
        "identifiers, who may be trained on and tested; delete one of the rows, or correct its values"
    )
    return [suspicion(text, twins)]


def _expected_twins(values: np.ndarray, rows: Sequence[int]) -> float:
    """How many patients would, by chance, agree with these rows as they agree with each other.

    Features hang together: of those who agree with them in most, chance decides on the rest alone.
    """
    known = ~np.isnan(values[rows[0]])
    agree = values[:, known] == values[rows[0], known]
    shares = (agree.sum(axis=0) - (len(rows) - 1)) / len(values)  # one of them is a patient like the others
    surprise = -np.log(shares)
    nearness = agree @ surprise
    nearness[list(rows)] = -1.0
    nearest = int(nearness.argmax())
    as_near = int((nearness >= nearness[nearest]).sum())
    return len(values) * as_near * float(np.exp(-surprise[~agree[nearest]].sum())) if known.any() else math.inf


def _places(columns: Sequence[FeatureColumn], rows: Sequence[int]) -> list[int]:
    """The positions of the cohort's rows in the file of the first column that has them."""
    return [next((one.cells.rows[row] for one in columns if one.cells.rows[row]), 0) for row in rows]
