"""Suspicions of a column of dates: years of two digits, one date for all, days and months swapped, calendars."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import numpy as np

from client.checks.feature_column import FEW, FeatureColumn
from client.checks.suspicion import Suspicion, suspicion
from client.tables.dates import as_day, two_digit_years

OTHER_CALENDAR_DAYS = 2 * 365.0  # from which an interval that hardly varies is an error of the year
HARDLY = 0.1
MANY_SAME = 0.2  # of the patients


def date_columns(one: FeatureColumn) -> Iterator[Suspicion]:
    """What looks wrong in the dates of a feature that counts days."""
    if one.cells.since is None:
        return
    yield from map(Suspicion, _of_the_dates(one))
    counted = (one.known - one.column.offset) / one.column.scale
    same = one.written == 0
    if len(counted) >= FEW and same.sum() >= max(3, MANY_SAME * len(counted)):
        text = f"counts no day in {one.rows(same)}: was one date copied to the other where it was not known?"
        yield suspicion(text, same)


def _of_the_dates(one: FeatureColumn) -> Iterator[str]:
    assert one.cells.since is not None
    if two_digit_years(one.column.date):
        yield "has years of two digits: 69 to 99 are read as 1969 to 1999, 00 to 68 as 2000 to 2068; write four"
    for cells in (one.cells, one.cells.since):
        days = [as_day(text, one.column.date) for text in cells.texts if text]
        of_month = {date.fromordinal(int(day)).day for day in days}
        if len(days) >= FEW and len(set(days)) == 1:
            yield f"has one and the same date for every patient in {cells.where}; check that it is the right column"
        if len(days) >= FEW and max(of_month) <= 12 and len(of_month) > 3:
            yield f"has no date after the 12th of a month in {cells.where}; day and month may be swapped: check `date`"
        if len(days) >= FEW and len(of_month) == 1 and len(set(days)) > 1:
            yield f"has only dates of one day of the month in {cells.where}, as where the day is not known"
    counted = (one.known - one.column.offset) / one.column.scale
    if len(counted) >= FEW and counted[0] > OTHER_CALENDAR_DAYS and np.ptp(counted) < HARDLY * counted[0]:
        years = f"{counted.mean() / 365.25:.1f} years"
        yield f"counts about {years} for every patient; check the years of both dates, and their calendar"
