"""Suspicions of a column of an outcome's times or dates alone: values that mean unknown, and rounded days."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from client.checks.date_columns import dates_of
from client.checks.feature_column import FEW, Values
from client.checks.frequent_values import spikes
from client.checks.rewritten import cut_short, rewritten
from client.checks.suspicion import Suspicion, suspicion
from client.cohort.outcomes import read_days
from client.cohort.rows import CohortRows
from client.contract.cells import Cells
from client.contract.columns import Column
from client.errors import named_rows

FIRST_DAYS = 31  # what is frequent by then is judged beside the other times
_NINES = re.compile("999+")
_STEPS = {7: "weeks", 28: "months", 30: "months", 91: "quarters", 182: "half years", 365: "years"}
LEAST_STEP_DAYS, CLOSE_PAIRS = 6, 20  # and pairs of times nearer to each other that there would be by chance
ALONE = 0.9  # of the patients, of whom so many have a time of their own where days are known


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
            yield from _rounded(values, counts, cells)
        texts = filter(None, (*rewritten(values, counts), cut_short(values, counts)))
        yield from (Suspicion(f"{cells.where} {text}") for text in texts)


def _unknown(values: Values, often: Sequence[float]) -> Iterator[float]:
    """The highest time where it is of nines, and others that stand out; follow-up may end on one and the same day."""
    if len(values) and _NINES.fullmatch(f"{values[-1]:.10g}"):
        yield float(values[-1])
    yield from (value for value in often if FIRST_DAYS < value < values[-1])


def _rounded(values: Values, counts: NDArray[np.int64], cells: Cells) -> Iterator[Suspicion]:
    """Days that lie on steps, as those of weeks, months or years that were turned to days."""
    patients = int(counts.sum())
    if len(values) < 3 or patients < 2 * FEW:
        return
    step = float(np.diff(values).min())
    close = patients * (patients - 1) * step / np.ptp(values)
    in_units = any((values % days == 0).all() for days in _STEPS)
    if step >= LEAST_STEP_DAYS and (in_units or (close > CLOSE_PAIRS and len(values) < ALONE * patients)):
        unit = next((f"whole {_STEPS[days]}, " for days in sorted(_STEPS, reverse=True) if 0 <= step - days <= 1), "")
        where = f"{cells.where} holds {unit}times that lie {step:g} days apart or more, or on the same day"
        yield Suspicion(f"{where}: another unit, turned to days? Give the days, if they are known")
