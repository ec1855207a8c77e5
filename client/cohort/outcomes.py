"""Target values and missing labels of a study, from the site's outcome columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from client.cohort.rows import CohortRows
from client.config.site import Outcome
from client.contract.columns import Column
from client.errors import ExitCode, SiteError, named_rows
from client.tables.values import categories, mask_out_of_range, numbers

if TYPE_CHECKING:
    from shared_models.targets import Target


def read_truth(cohort_rows: CohortRows, name: str, target: Target) -> NDArray[np.float32]:
    """The truth of one target: `(N,)`, or `(N, 2)` for a time to event; NaN where unknown or not mapped.

    Where it stands with the lesions or views, a patient is positive if one of them is.

    Raises:
        SiteError: If a cell cannot be read, the outcome is of another kind than the target, or a patient has two.
    """
    from shared_models.targets import Binary, TimeToEvent

    outcome = cohort_rows.site.targets.get(name)
    if outcome is None:
        shape = (len(cohort_rows.patients), 2) if isinstance(target, TimeToEvent) else (len(cohort_rows.patients),)
        return np.full(shape, np.nan, dtype=np.float32)
    rows = _of_rows(cohort_rows, name, outcome, target)
    starts = np.flatnonzero(np.diff(cohort_rows.owner, prepend=-1))
    most, least = (reduce.reduceat(rows, starts, axis=0) for reduce in (np.fmax, np.fmin))
    differ = np.flatnonzero(
        (most != least).reshape(len(most), -1).any(axis=1) & ~np.isnan(most).reshape(len(most), -1)[:, 0]
    )
    if len(differ) and not isinstance(target, Binary):
        row = cohort_rows.row_numbers[starts[differ[0]]]
        raise SiteError(
            what="a patient has two outcomes",
            where=f"targets.{name}",
            found=f"rows that differ for {len(differ)} patients, the first from row {row} on",
            expected="the same in all rows of a patient",
            fix="correct the rows, or take the outcome from a table with a row a patient",
            public="an outcome of the site cannot be read",
        )
    return np.asarray(most, dtype=np.float32)


def _of_rows(cohort_rows: CohortRows, name: str, outcome: Outcome, target: Target) -> NDArray[np.float64]:
    """The truth of each row, `(R,)` or `(R, 2)`."""
    from shared_models.targets import Binary, Categorical, Regression, TimeToEvent

    if isinstance(target, TimeToEvent):
        return _days_and_event(cohort_rows, name, outcome)
    if outcome.label is None:
        if not isinstance(target, Binary) or target.horizon_days is None:
            raise _wrong_kind(name, "an event with its time", "a `label` column")
        return _by_horizon(_days_and_event(cohort_rows, name, outcome), target.horizon_days)
    cells = cohort_rows.cells(outcome.label)
    if isinstance(target, Categorical):
        return categories(cells, outcome.label, target.classes)
    if isinstance(target, Regression):
        return mask_out_of_range(numbers(cells, outcome.label), outcome.label)[0]
    return read_event(cohort_rows, outcome.label)


def _days_and_event(cohort_rows: CohortRows, name: str, outcome: Outcome) -> NDArray[np.float64]:
    """`(N, 2)`: the earliest day of the event or the latest day free of it, and which of the two it is."""
    if outcome.event is None:
        raise _wrong_kind(
            name,
            "a `label` column, without times",
            "`event`, `event_days` and `followup_days`, because the study learns time to event",
            "map the columns with times; if there are none, leave the target out, or ask the center for a study of the "
            'label: outcome = "binary"',
        )
    event = read_event(cohort_rows, outcome.event)
    event_days = np.fmin.reduce([read_days(cohort_rows, column) for column in outcome.event_days])
    followup_days = np.fmax.reduce([read_days(cohort_rows, column) for column in outcome.followup_days])
    days = np.where(event == 1, event_days, followup_days)
    truth = np.stack([days, event], axis=1)
    truth[np.isnan(truth).any(axis=1)] = np.nan
    return truth


def _by_horizon(truth: NDArray[np.float64], horizon_days: float) -> NDArray[np.float64]:
    """1 for an event by the horizon, 0 for follow-up to it without one, NaN for earlier censoring."""
    days, event = truth.T
    label = np.where(days >= horizon_days, 0.0, np.nan)
    return np.where((event == 1) & (days <= horizon_days), 1.0, label)


def read_event(cohort_rows: CohortRows, column: Column) -> NDArray[np.float64]:
    """`(R,)`: one column of yes and no, 1 and 0; NaN where missing.

    Raises:
        SiteError: If a cell cannot be read, or is neither.
    """
    cells = cohort_rows.cells(column)
    values = numbers(cells, column)
    bad = np.flatnonzero(~np.isnan(values) & (values != 0) & (values != 1))
    if len(bad):
        texts = ", ".join(sorted({cells.texts[i] for i in bad})[:5])
        raise SiteError(
            what="an outcome is neither 0 nor 1",
            where=cells.where,
            found=f"{texts} in {named_rows([cells.rows[i] for i in bad])}",
            expected="0 or 1, after `codes`",
            fix="give the column `codes` to 0 and 1, or list other codes under `missing`",
            public="an outcome of the site cannot be read",
        )
    return values


def read_days(cohort_rows: CohortRows, column: Column) -> NDArray[np.float64]:
    """`(R,)`: one column of times, in days from day 0; NaN where missing.

    Raises:
        SiteError: If a cell cannot be read, or lies before day 0.
    """
    cells = cohort_rows.cells(column)
    values = mask_out_of_range(numbers(cells, column), column)[0]
    bad = np.flatnonzero(values < 0)
    if len(bad):
        raise SiteError(
            what="a time lies before day 0",
            where=cells.where,
            found=f"negative days in {named_rows([cells.rows[i] for i in bad])}",
            expected="days from the diagnosis on",
            fix="correct the dates, or give the column a `range` from 0 to take such values as missing",
            public="an outcome of the site cannot be read",
        )
    return values


def _wrong_kind(
    name: str,
    found: str,
    expected: str,
    fix: str = "map the target to the columns that the study needs, or leave it out",
) -> SiteError:
    return SiteError(
        "an outcome is of another kind than the study's target",
        where=f"targets.{name}",
        found=found,
        expected=expected,
        fix=fix,
        public="the site's settings do not fit the study",
        exit_code=ExitCode.STUDY,
    )
