"""Suspicions of a column of dates: years of two digits, one date for all, days and months swapped, calendars."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import numpy as np
from numpy.typing import NDArray

from client.checks.feature_column import FEW, FeatureColumn, Values
from client.checks.frequent_values import CODE_SHARE, LEAST, TIMES
from client.checks.suspicion import Suspicion, suspicion
from client.contract.cells import Cells
from client.errors import named_rows
from client.tables.dates import as_day, two_digit_years

OTHER_CALENDAR_DAYS = 2 * 365.0  # from which an interval that hardly varies is an error of the year
HARDLY = 0.1
MANY_SAME = 0.2  # of the patients
LATE = 0.9  # of all dates are before the days about an export
DAYS_A_YEAR = 365
OF_MONTH, OF_YEAR = 0.15, 0.05  # of the dates, on one day of the month, or on one day of all years: by chance .03, .003


def date_columns(one: FeatureColumn) -> Iterator[Suspicion]:
    """What looks wrong in the dates of a feature that counts days."""
    if one.cells.since is None:
        return
    if two_digit_years(one.column.date):
        yield Suspicion(
            "has years of two digits: 69 to 99 are read as 1969 to 1999, 00 to 68 as 2000 to 2068; write four"
        )
    for cells in (one.cells, one.cells.since):
        days = days_of(cells, one.column.date)
        if len(days) >= FEW and (days == days[0]).all():
            text = f"has one and the same date for every patient in {cells.where}; check that it is the right column"
            yield Suspicion(text)
        yield from dates_of(cells, one.column.date)
    counted = (one.known - one.column.offset) / one.column.scale
    if len(counted) >= FEW and counted[0] > OTHER_CALENDAR_DAYS and np.ptp(counted) < HARDLY * counted[0]:
        years = f"{counted.mean() / 365.25:.1f} years"
        text = f"counts about {years} for every patient; check the years of both dates, and their calendar"
        yield Suspicion(text)
    same = one.written == 0
    if len(counted) >= FEW and same.sum() >= max(3, MANY_SAME * len(counted)):
        text = f"counts no day in {one.rows(same)}: was one date copied to the other where it was not known?"
        yield suspicion(text, same)


def days_of(cells: Cells, form: str) -> Values:
    """The dates that there are as days since the year 1, ascending."""
    return np.sort([as_day(text, form) for text in cells.texts if text])


def dates_of(cells: Cells, form: str) -> Iterator[Suspicion]:
    """What looks wrong in a column of dates alone: days and months swapped, days not known, one that means unknown."""
    days = days_of(cells, form)
    if len(days) < FEW:
        return
    values, counts = np.unique(days, return_counts=True)
    of_month = {date.fromordinal(int(day)).day for day in values}
    if max(of_month) <= 12 and len(of_month) > 3:
        yield Suspicion(
            f"has no date after the 12th of a month in {cells.where}; day and month may be swapped: check `date`"
        )
    if len(of_month) == 1 and len(values) > 1:
        yield Suspicion(f"has only dates of one day of the month in {cells.where}, as where the day is not known")
    yield from map(Suspicion, _same_day_of_many(values, counts, cells.where) if len(of_month) > 1 else ())
    at = int(counts.argmax())
    # many are last seen on the day of an export, which is among the last ones
    early = values[at] < np.quantile(days[days != values[at]], LATE) if len(values) > FEW else False
    alone = at == len(values) - 1 and len(values) > FEW and values[at] - values[at - 1] > DAYS_A_YEAR
    if (early or alone) and _stands_out(counts, len(days), CODE_SHARE):
        text = date.fromordinal(int(values[at])).isoformat()
        there = np.array([bool(cell) and as_day(cell, form) == values[at] for cell in cells.texts])
        rows = named_rows([cells.rows[index] for index in np.flatnonzero(there)])
        yield suspicion(
            f"has the date {text} in {rows}, far more often than any other, in {cells.where}; if it means unknown, "
            "list it under `missing`",
            there,
        )


def _same_day_of_many(values: Values, counts: NDArray[np.int64], where: str) -> Iterator[str]:
    """Dates of different months or years on one day, which stands for a day that is not known, or for the month."""
    dates = [date.fromordinal(int(day)) for day in values]
    named = (
        (OF_MONTH, [f"day {one.day} of a month" for one in dates]),
        (OF_YEAR, [f"{one.day} {one:%B} of a year" for one in dates]),
    )
    for share, names in named:
        name, group = np.unique(names, return_inverse=True)
        often = np.bincount(group, weights=counts).astype(np.int64)
        at = int(often.argmax())
        several = np.count_nonzero(group == at) > 2  # of one date alone the date itself is named
        if several and _stands_out(often, int(counts.sum()), share):
            yield f"has {name[at]} in {often[at]} of {counts.sum()} dates in {where}, as where the day is not known"
            return


def _stands_out(counts: NDArray[np.int64], total: int, share: float) -> bool:
    """Whether one of several is far more frequent than the next, and than a share of all."""
    most, *others = np.sort(counts)[::-1].tolist()
    return most >= max(LEAST, share * total) and most > TIMES * max(others, default=0)
