"""Suspicions of an outcome's events beside their times: one without the other, and in another order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from client.checks.feature_column import FEW
from client.checks.suspicion import Suspicion, suspicion
from client.checks.two_groups import TwoGroups, two_groups
from client.cohort.outcomes import read_days, read_event
from client.cohort.rows import CohortRows
from client.config.site import Outcome
from client.contract.columns import Column
from client.errors import named_rows

LEAST = 3  # patients
VALLEY = 0.8  # of the values about either group, between them; many patients who are lost early are no group
CUT_SHARE = 0.2  # of the patients, whose follow-up ends on one and the same last day
EARLY = 0.2  # of a patient's follow-up
MOSTLY = 0.8  # of the patients, of whom most have an event only where the disease has spread already
MONTHS_APART, YEARS_APART = 15.0, 400.0  # factors between times in other units and days; weeks are too near
MANY, HALF, NEARLY_ALL = 0.1, 0.5, 0.9  # of the patients concerned
MANY_FIRST, FIRST_DAYS = 0.05, 31  # of the patients, whose follow-up ends on one and the same early day


def event_time_warnings(cohort_rows: CohortRows, outcome: Outcome) -> Iterator[Suspicion]:
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
        text = (
            f"the event lies after the last follow-up in {late.sum()} of {both} patients who have both, in "
            f"{_rows(late, place.rows)}{others}; check the columns, their units, and whether they count from the same "
            "day"
        )
        yield suspicion(text, late)
    yield from map(Suspicion, _early_events(days, followed))
    yield from map(Suspicion, _mostly_events(cohort_rows, outcome))
    yield from _months_among_days(cohort_rows, outcome)
    yield from _many_on_one_day(cohort_rows, outcome.followup_days)


def _without_each_other(
    event: NDArray[np.float64], days: NDArray[np.float64], followed: NDArray[np.float64], rows: Sequence[int]
) -> Iterator[Suspicion]:
    """Events whose day is not known, who are in no training; and days of an event that is said not to have happened."""
    without = (event == 1) & np.isnan(days)
    if without.sum() >= max(LEAST, MANY * (event == 1).sum()):
        text = (
            f"{without.sum()} of {(event == 1).sum()} events have no day, in {_rows(without, rows)}, and count as "
            "unknown; fill the days in, or check that events and days are of the same rows"
        )
        yield suspicion(text, without)
    spurious = (event == 0) & (days < followed)
    if spurious.sum() >= max(LEAST, MANY * (event == 0).sum()):
        text = (
            f"{spurious.sum()} of {(event == 0).sum()} patients without the event have a day of it, in "
            f"{_rows(spurious, rows)}; check the codes, and that events and days are of the same rows"
        )
        yield suspicion(text, spurious)


def _early_events(days: NDArray[np.float64], followed: NDArray[np.float64]) -> Iterator[str]:
    """Events all of which lie at the very beginning of their patients' follow-up, as weeks among days."""
    both = days <= followed
    if both.sum() >= 2 * FEW and (days[both] < EARLY * followed[both]).all():
        yield (
            f"all {both.sum()} events lie in the first fifth of their patients' follow-up; check that both are in the "
            "same unit, and `scale`"
        )


def _mostly_events(cohort_rows: CohortRows, outcome: Outcome) -> Iterator[str]:
    """An event that most patients have, as where it is coded 1 that a patient is alive."""
    event = read_event(cohort_rows, outcome.event) if outcome.event else np.zeros(0)
    known = event[~np.isnan(event)]
    if len(known) >= 2 * FEW and MOSTLY * len(known) < known.sum() < len(known):
        yield (
            f"{known.sum():.0f} of {len(known)} patients have the event: is 1 the code of those who are alive, or free "
            "of it? Then exchange the `codes`"
        )


def _months_among_days(cohort_rows: CohortRows, outcome: Outcome) -> Iterator[Suspicion]:
    """Times in two groups that are as far apart as months and days, or weeks and days."""
    event = read_event(cohort_rows, outcome.event) if outcome.event else np.zeros(len(cohort_rows.keys))
    for column in dict.fromkeys((*outcome.event_days, *outcome.followup_days)):
        values, cells = read_days(cohort_rows, column), cohort_rows.cells(column)
        positive = values > 0
        if groups := in_two_units(values[positive], event[positive] == 1):
            low = positive & (values < 10**groups.limit)
            few = values > 10**groups.limit if groups.few_are_high else low
            text = (
                f"{cells.where} has two groups of times, about {10**groups.low:.3g} and {10**groups.high:.3g}: "
                f"{_rows(few, cells.rows)} may be in another unit, as months among days; check them"
            )
            yield suspicion(text, few)


def in_two_units(times: NDArray[np.float64], event: NDArray[np.bool_]) -> TwoGroups | None:
    """Two groups of times as far apart as two units, with events in the earlier one.

    Patients who are lost after days or weeks, of whom a cohort may have many, have no event; those whose times are in
    months have as many as the others.

    Args:
        times: `(N,)` above 0.
        event: `(N,)` whether each ends with the event.
    """
    groups = two_groups(np.log10(np.sort(times)))
    if groups is None or groups.valley >= VALLEY or not event[times < 10**groups.limit].any():
        return None
    return groups if MONTHS_APART < 10 ** (groups.high - groups.low) < YEARS_APART else None


def _many_on_one_day(cohort_rows: CohortRows, columns: Sequence[Column]) -> Iterator[Suspicion]:
    """Follow-up that ends for more patients on its first day than are lost then, or for many on its last."""
    for column in dict.fromkeys(columns):
        values, cells = read_days(cohort_rows, column), cohort_rows.cells(column)
        known = values[~np.isnan(values)]
        first = known.min(initial=np.inf)
        if first <= FIRST_DAYS and (known == first).sum() >= max(LEAST, MANY_FIRST * len(known)):
            where = f"{cells.where} is {first:g} in {_rows(values == first, cells.rows)}"
            text = f"{where}; if that means unknown, add `missing: [{first / column.scale:g}]` to it"
            yield suspicion(text, values == first)
        last = known.max(initial=0.0)
        if len(known) >= 2 * FEW and (known == last).sum() >= CUT_SHARE * len(known) and not column.since:
            text = (
                f"{cells.where} ends at {last:g} days for {(known == last).sum()} of {len(known)} patients: was "
                "follow-up cut off there? If it continues, give all of it"
            )
            yield suspicion(text, values == last)


def _rows(chosen: NDArray[np.bool_], rows: Sequence[int]) -> str:
    return named_rows([rows[index] for index in np.flatnonzero(chosen).tolist()])
