"""Suspicions of a column of an outcome's times or dates alone: values that mean unknown, and rounded days."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from client.checks.date_columns import dates_of
from client.checks.feature_column import FEW, Values
from client.checks.frequent_values import spikes
from client.checks.suspicion import Suspicion, suspicion
from client.cohort.outcomes import read_days
from client.cohort.rows import CohortRows
from client.contract.cells import Cells
from client.contract.columns import Column
from client.errors import named_rows

FIRST_DAYS = 31  # what is frequent by then is judged beside the other times
_NINES = re.compile("999+")
_ROUNDED = {7: "weeks", 30: "months", 365: "years"}


def time_column_warnings(cohort_rows: CohortRows, columns: Sequence[Column]) -> Iterator[Suspicion]:
    """What looks wrong in each column, with what to do about it.

    Args:
        cohort_rows: The cohort.
        columns: Those of an outcome's times.

    Raises:
        SiteError: If a cell cannot be read.
    """
    for column in dict.fromkeys(columns):
        cells = cohort_rows.cells(column)
        if cells.since is not None:
            for dates in (cells, cells.since):
                yield from (one.after(f"{column.column} ") for one in dates_of(dates, column.date))
            continue
        written = np.round(read_days(cohort_rows, column) / column.scale, 6)
        values, counts = np.unique(written[~np.isnan(written)], return_counts=True)
        for value in _unknown(values, [*spikes(values, counts)]):
            there = written == value
            rows = named_rows([cells.rows[index] for index in np.flatnonzero(there)])
            text = f"{cells.where} is {value:g} in {rows}; if that means unknown, add `missing: [{value:g}]` to it"
            yield suspicion(text, there)
        if column.scale == 1.0:
            yield from _rounded(values, cells)


def _unknown(values: Values, often: Sequence[float]) -> Iterator[float]:
    """The highest time where it is of nines, and others that stand out; follow-up may end on one and the same day."""
    if len(values) and _NINES.fullmatch(f"{values[-1]:.10g}"):
        yield float(values[-1])
    yield from (value for value in often if FIRST_DAYS < value < values[-1])


def _rounded(values: Values, cells: Cells) -> Iterator[Suspicion]:
    """Days that are whole weeks, months of 30 days or years: another unit, turned to days."""
    for days, unit in _ROUNDED.items():
        if len(values) >= 2 * FEW and (values % days == 0).all():
            yield Suspicion(f"{cells.where} holds whole {unit} of {days} days: give the days, if they are known")
