"""Suspicions of an outcome's times as a whole: months for days, days for months, columns in two units."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from client.checks.codes import code_warnings
from client.checks.column_warnings import column_warnings
from client.checks.event_times import event_time_warnings
from client.checks.feature_column import FEW, FeatureColumn
from client.checks.last_rows import last_rows
from client.checks.suspicion import Suspicion, suspicion
from client.checks.time_columns import time_column_warnings
from client.cohort.outcomes import read_days, read_event, read_truth
from client.cohort.rows import CohortRows
from client.config.site import Outcome
from client.contract.columns import Column
from client.onboarding.outcome_words import TIMES_DAYS, speaks_of_death, speaks_of_recurrence
from client.onboarding.vocabulary import words
from client.tables.values import mask_out_of_range, numbers
from shared_models.features import Feature
from shared_models.metrics.censoring import at_horizon
from shared_models.targets import Binary, Regression, Target, TimeToEvent

DAYS_A_MONTH, DAYS_A_YEAR = 30.44, 365.25
SHORTEST_STUDY_DAYS = 730.0  # the longest follow-up of a cohort with outcomes is longer
MONTHS_AT_MOST, MANY_MONTHS = 200.0, 400.0  # of a follow-up in months; beyond, it may be in weeks, or is
LONGEST_FOLLOW_UP_DAYS = 45 * DAYS_A_YEAR
UNITS_APART = 15.0  # between the medians of two columns of times
_SURVIVAL = frozenset({"os", "overall", "survival", "dss", "bcss", "death"})  # endpoints whose event is a death


def outcome_warnings(cohort_rows: CohortRows, name: str, target: Target) -> list[Suspicion]:
    """What looks wrong in the times of an outcome, each with what to do about it.

    Args:
        cohort_rows: The cohort.
        name: The target.
        target: Its kind.

    Raises:
        SiteError: If the outcome cannot be read.
    """
    outcome = cohort_rows.site.targets.get(name)
    if outcome is None:
        return []
    coded = [column for column in (outcome.label, outcome.event) if column]
    of_codes = [Suspicion(text) for column in coded for text in code_warnings(name, column)]
    patients, rows = cohort_rows.of_patients()  # an outcome that stands at each lesion or view counts once
    of_rows = _of_times(patients, name, target)
    for column in coded:
        cells = patients.cells(column)
        texts, place = np.unique(cells.texts, return_inverse=True)
        unknown = texts[place] == ""
        if column is outcome.event:
            unknown |= _followed_briefly(patients, column, outcome)
        of_rows += last_rows(name, cells, np.where(unknown, np.nan, place))
    return of_codes + [Suspicion(one.text, tuple(rows[list(one.rows)].tolist())) for one in of_rows]


def _followed_briefly(cohort_rows: CohortRows, event_column: Column, outcome: Outcome) -> NDArray[np.bool_]:
    """Patients without the event who are followed for a shorter time than half of the events took, as the latest."""
    event = read_event(cohort_rows, event_column) == 1
    days = np.fmin.reduce([read_days(cohort_rows, column) for column in outcome.event_days])[event]
    followed = np.fmax.reduce([read_days(cohort_rows, column) for column in outcome.followup_days])
    known = days[~np.isnan(days)]
    return ~event & (followed < np.median(known)) if len(known) else np.zeros(len(event), dtype=bool)


def _of_times(cohort_rows: CohortRows, name: str, target: Target) -> list[Suspicion]:
    outcome = cohort_rows.site.targets.get(name)
    if outcome and outcome.label and isinstance(target, Regression):
        return [*map(Suspicion, _two_numbers(name, cohort_rows)), *_of_number(name, cohort_rows, outcome.label)]
    if outcome is None or outcome.label is not None or not isinstance(target, Binary | TimeToEvent):
        return []
    truth = read_truth(cohort_rows, name, TimeToEvent())
    days = truth[~np.isnan(truth[:, 0]), 0]
    if len(days) < FEW:
        return []
    horizon = target.horizon_days if isinstance(target, Binary) else None
    columns = (*outcome.event_days, *outcome.followup_days)
    warnings = [*map(Suspicion, _unit(days, horizon)), *time_column_warnings(cohort_rows, columns)]
    warnings += map(Suspicion, _two_units(cohort_rows, outcome.event_days, outcome.followup_days))
    warnings += map(Suspicion, _unit_in_name(columns))
    warnings += map(Suspicion, _of_death(name, outcome))
    warnings += event_time_warnings(cohort_rows, outcome)
    warnings += map(Suspicion, _not_to_horizon(truth, target)) if isinstance(target, TimeToEvent) else ()
    return [warning.after(f"{name}: ") for warning in warnings]


def _two_numbers(name: str, cohort_rows: CohortRows) -> list[str]:
    values = np.unique(read_truth(cohort_rows, name, Regression()))
    values = values[~np.isnan(values)]
    if len(values) != 2:
        return []
    shown = f"{values[0]:g} and {values[1]:g}"
    return [f"{name} has two values, {shown}, and no `codes`: of a class, give it some, to 0 and 1"]


def _of_number(name: str, cohort_rows: CohortRows, column: Column) -> list[Suspicion]:
    """What looks wrong in a continuous outcome's column, as in a feature's."""
    cells = cohort_rows.cells(column)
    values, outside = mask_out_of_range(numbers(cells, column), column)
    warnings = column_warnings([FeatureColumn(Feature(name), column, cells, values)])
    if outside:
        there = np.isnan(values) & np.array([bool(text) for text in cells.texts])
        text = f"{name}: {outside} values are out of range and count as unknown; correct them, or `scale` and `range`"
        warnings.append(suspicion(text, there))
    return warnings


def _unit(days: NDArray[np.floating], horizon_days: float | None) -> list[str]:
    longest = float(days.max())
    if longest > LONGEST_FOLLOW_UP_DAYS:
        return [f"the longest follow-up is {longest:,.0f} days, {longest / DAYS_A_YEAR:.0f} years; check `scale`"]
    if longest >= max(SHORTEST_STUDY_DAYS, horizon_days or 0.0):
        return []
    until = f", below the horizon of {horizon_days:g} days" if horizon_days and longest < horizon_days else ""
    unit, scale = (
        ("years", f"{DAYS_A_YEAR:g}") if longest < 30 and np.any(days % 1) else ("months", f"{DAYS_A_MONTH:g}")
    )
    if longest > MONTHS_AT_MOST:
        unit, scale = (
            ("weeks", "7") if longest > MANY_MONTHS else ("months or weeks", f"{DAYS_A_MONTH:g}` or `scale: 7")
        )
    ask = f"is it in {unit}? Then set `scale: {scale}`" if longest < SHORTEST_STUDY_DAYS else "check its unit"
    return [f"the longest follow-up is {longest:,.0f} days{until}; {ask}"]


def _not_to_horizon(truth: NDArray[np.floating], target: TimeToEvent) -> list[str]:
    """Follow-up that ends just before the horizon, as where a registry cuts it at five years of 365 days."""
    days, event = truth[~np.isnan(truth[:, 0])].astype(np.float64).T
    if days.max() < 0.9 * target.horizon_days or at_horizon(days, event == 1, target.horizon_days).free.any():
        return []
    ends = f"all follow-up ends before the horizon of {target.horizon_days:g} days, after {days.max():g} at most"
    return [f"{ends}: there is no AUC at the horizon here, and a study with a smaller `horizon-days` has one"]


def _unit_in_name(columns: Sequence[Column]) -> list[str]:
    """Columns that are named by months or years, and are not scaled to days."""
    remarks = []
    for column in dict.fromkeys(columns):
        days = {TIMES_DAYS[word] for word in words(column.column) if len(word) > 2 and word in TIMES_DAYS}
        if len(days) == 1 and not column.since and days != {1.0} and column.scale == 1.0:
            remarks.append(f"column {column.column!r} is read as days; by its name, set `scale: {min(days):g}`")
    return remarks


def _of_death(name: str, outcome: Outcome) -> list[str]:
    """Columns of deaths for the event of another outcome, by their names."""
    if not speaks_of_recurrence(name) or _SURVIVAL & set(words(outcome.endpoint)):
        return []
    event = [outcome.event.column] if outcome.event and speaks_of_death(outcome.event.column) else []
    days = [column.column for column in outcome.event_days]
    of_death = [*event, *(days if all(map(speaks_of_death, days)) else [])]
    return [
        f"the event is read from {column!r}, by its name a column of deaths; if deaths are the event, add "
        "`endpoint: OS`"
        for column in dict.fromkeys(of_death)
    ]


def _two_units(cohort_rows: CohortRows, first: Sequence[Column], second: Sequence[Column]) -> list[str]:
    """Columns of times whose medians are so far apart that one may be in months and the other in days."""
    medians = {}
    for column in (*first, *second):
        values = read_days(cohort_rows, column)
        known = values[values > 0]
        if len(known) >= FEW:
            medians[cohort_rows.cells(column).where] = float(np.median(known))
    if len(medians) < 2:
        return []
    low, high = min(medians, key=medians.__getitem__), max(medians, key=medians.__getitem__)
    if medians[high] < UNITS_APART * medians[low]:
        return []
    return [f"the median of {high} is {medians[high] / medians[low]:.0f} times that of {low}; check `scale` of both"]
