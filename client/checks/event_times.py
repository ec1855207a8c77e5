"""Suspicions of an outcome's events beside their times: one without the other, and in another order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from client.cohort.outcomes import read_days, read_event
from client.cohort.rows import CohortRows
from client.config.site import Outcome
from client.contract.columns import Column
from client.errors import named_rows

LEAST = 3  # patients
MANY, HALF, NEARLY_ALL = 0.1, 0.5, 0.9  # of the patients concerned
MANY_FIRST, FIRST_DAYS = 0.05, 31  # of the patients, whose follow-up ends on one and the same early day


def event_time_remarks(cohort_rows: CohortRows, outcome: Outcome) -> Iterator[str]:
    """What looks wrong, each with what to do about it.

    Args:
        cohort_rows: The cohort.
        outcome: A target with an event and its times.
    """
    days = np.fmin.reduce([read_days(cohort_rows, column) for column in outcome.event_days])
    followed = np.fmax.reduce([read_days(cohort_rows, column) for column in outcome.followup_days])
    place = cohort_rows.cells(outcome.event_days[0])
    if outcome.event and not set(outcome.event_days) & set(outcome.followup_days):
        event = read_event(cohort_rows, outcome.event)
        yield from _without_each_other(event, days, followed, place.rows)
    # where follow-up ends on the last day free of the event, most events, and not all, lie after it
    late, both = days > followed + 1, int((~np.isnan(days) & ~np.isnan(followed)).sum())
    if late.sum() >= max(LEAST, NEARLY_ALL * both) or max(LEAST, MANY * both) <= late.sum() <= HALF * both:
        others = "" if late.sum() >= NEARLY_ALL * both else ", and before it in the others"
        yield (
            f"the event lies after the last follow-up in {late.sum()} of {both} patients who have both, in "
            f"{_rows(late, place.rows)}{others}; check the columns, their units, and whether they count from the same "
            "day"
        )
    yield from _many_on_one_day(cohort_rows, outcome.followup_days)


def _without_each_other(
    event: NDArray[np.float64], days: NDArray[np.float64], followed: NDArray[np.float64], rows: Sequence[int]
) -> Iterator[str]:
    """Events whose day is not known, who are in no training; and days of an event that is said not to have happened."""
    without = (event == 1) & np.isnan(days)
    if without.sum() >= max(LEAST, MANY * (event == 1).sum()):
        yield (
            f"{without.sum()} of {(event == 1).sum()} events have no day, in {_rows(without, rows)}, and count as "
            "unknown; fill the days in, or check that events and days are of the same rows"
        )
    spurious = (event == 0) & (days < followed)
    if spurious.sum() >= max(LEAST, MANY * (event == 0).sum()):
        yield (
            f"{spurious.sum()} of {(event == 0).sum()} patients without the event have a day of it, in "
            f"{_rows(spurious, rows)}; check the codes, and that events and days are of the same rows"
        )


def _many_on_one_day(cohort_rows: CohortRows, columns: Sequence[Column]) -> Iterator[str]:
    """Follow-up that ends for more patients on its first day than are lost then."""
    for column in dict.fromkeys(columns):
        values, cells = read_days(cohort_rows, column), cohort_rows.cells(column)
        known = values[~np.isnan(values)]
        first = known.min(initial=np.inf)
        if first <= FIRST_DAYS and (known == first).sum() >= max(LEAST, MANY_FIRST * len(known)):
            where = f"{cells.where} is {first:g} in {_rows(values == first, cells.rows)}"
            yield f"{where}; if that means unknown, add `missing: [{first / column.scale:g}]` to it"


def _rows(chosen: NDArray[np.bool_], rows: Sequence[int]) -> str:
    return named_rows([rows[index] for index in np.flatnonzero(chosen).tolist()])
