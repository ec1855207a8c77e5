"""Dates of a column, judged as a whole: one way of writing, no two-digit guess that leads into the future."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import date, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from client.contract.cells import Cells
from client.contract.columns import Column
from client.tables.bad_cells import bad_cells

_EXCEL_DAY_0, _EXCEL_DAY = date(1899, 12, 30), re.compile(r"\d{5}(?:[.,]\d+)?")
# Excel, SQL servers and SAS write an empty date as the first of their days; no patient is that old.
_FIRST_DAY = date(1900, 1, 2)
_EPOCHS_APART_DAYS = 1462  # Excel's day 0 of 1900 and that of 1904, as older Macs wrote


def days_between(cells: Cells, column: Column) -> NDArray[np.float64]:
    """Days from the dates of `cells.since` to those of `cells`, `(N,)`, NaN where one is missing.

    Raises:
        SiteError: If dates cannot be read, are written in several ways, lie before 1900 or in the future, or if a
            difference is negative and the column has no `range` that says what of it counts.
    """
    assert cells.since is not None
    late, early = _days(cells, column.date), _days(cells.since, column.date)
    kinds = {_kind(text, column.date) for part in (cells, cells.since) for text in part.texts if text}
    if len(kinds) > 1:
        one, other = (next(_kind(t, column.date) for t in part.texts if t) for part in (cells, cells.since))
        raise bad_cells(
            cells,
            [index for index, text in enumerate(cells.texts) if text],
            "dates are written in two ways",
            f"{other}, as in {cells.since.where}, and not {one}: they may count from another day",
            "write both columns as dates, in one way",
        )
    days = late - early
    if column.range is None and len(bad := np.flatnonzero(days < 0)):
        apart = f", about {_EPOCHS_APART_DAYS} days: they count from 1900 and 1904" if _epochs_apart(days) else ""
        raise bad_cells(
            cells,
            bad.tolist(),
            "a date lies before the one from which days are counted",
            f"dates from {cells.since.where} on{apart}",
            "correct the dates; or, if the column may lie before, give it a `range` of the values that count",
        )
    return np.asarray(days)


def as_day(text: str, form: str) -> float:
    """A date as days since the year 1, or NaN: in the form given, or as a date cell or a day number of Excel."""
    with suppress(ValueError):
        return float(datetime.strptime(text, form).toordinal())
    with suppress(ValueError):
        return float(datetime.fromisoformat(text).toordinal())
    # five digits: 1927 to 2173
    return float(_EXCEL_DAY_0.toordinal() + int(text[:5])) if _EXCEL_DAY.fullmatch(text) else math.nan


def _kind(text: str, form: str) -> str:
    """How a date that can be read is written."""
    if _EXCEL_DAY.fullmatch(text):
        return "day numbers"
    with suppress(ValueError):
        datetime.strptime(text, form)
        return "date cells" if form.startswith("%Y") else f"texts as {form}"  # a year that is first is unambiguous
    return "date cells"


def _days(cells: Cells, form: str) -> NDArray[np.float64]:
    values = np.array([as_day(text, form) if text else math.nan for text in cells.texts])
    known = [index for index, text in enumerate(cells.texts) if text]
    if bad := [index for index in known if math.isnan(values[index])]:
        expected = f"dates {'as 2020-12-31' if form == 'iso' else f'as {form}'}, or date cells"
        fix = "correct the cells, list a word for unknown under `missing`, or give the form as `date`, as %d.%m.%Y"
        raise bad_cells(cells, bad, "a date cannot be read", expected, fix)
    _check_one_kind(cells, known, form)
    first, last = _FIRST_DAY.toordinal(), (date.today() + timedelta(days=1)).toordinal()  # the sun rises earlier there
    if len(bad := np.flatnonzero((values < first) | (values > last)).tolist()):
        expected, fix = "dates from 1900 to today", "correct the cells, or list a date for unknown under `missing`"
        if two_digit_years(form):
            expected += "; of two digits, 69 to 99 are 1969 to 1999, and 00 to 68 are 2000 to 2068"
            fix = "write years with four digits, and set `date` to match"
        raise bad_cells(cells, bad, "a date lies in the future, or before 1900", expected, fix)
    return values


def _check_one_kind(cells: Cells, known: Sequence[int], form: str) -> None:
    """Refuses texts beside date cells: Excel makes dates of what it can read, perhaps with day and month swapped."""
    rows: dict[str, list[int]] = {}
    for index in known:
        rows.setdefault(_kind(cells.texts[index], form), []).append(index)
    if len(rows) > 1:
        rare, often = sorted(rows, key=lambda kind: len(rows[kind]))[:2]
        raise bad_cells(
            cells,
            rows[rare],
            "dates are written in two ways",
            f"{often}, as in {len(rows[often])} other rows; Excel may have swapped day and month in its date cells",
            "import the file again with the column as text, or write all dates in one way",
        )


def _epochs_apart(days: NDArray[np.float64]) -> bool:
    known = days[~np.isnan(days)]
    return bool(np.all(known < 0) and abs(np.median(known) + _EPOCHS_APART_DAYS) < _EPOCHS_APART_DAYS / 4)


def two_digit_years(form: str) -> bool:
    """Whether years are written so that 20 may be 1920 or 2020."""
    return "%y" in form
