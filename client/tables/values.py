"""Column values: text cells to numbers and categories, with every invalid cell in one message."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime

import numpy as np
from numpy.typing import NDArray

from client.contract.cells import Cells, Decimal
from client.contract.columns import Column
from client.errors import ExitCode, SiteError, named_rows

_EXCEL_DAY_0, _EXCEL_DAY = date(1899, 12, 30), re.compile(r"\d{5}(?:[.,]\d+)?")
LARGEST = 1e30  # of a study's numbers, which are 32-bit floats
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")


def normal_code(code: str | int | float, decimal: Decimal = ".") -> str:
    """One spelling of a code: `1`, `1.0`, `01` and `"1"` are the same, as are `TRUE` and `true`."""
    text = " ".join(str(code).split())
    number = as_number(text, decimal)
    if math.isfinite(number) and abs(number) < 1e15:
        return str(int(number)) if number.is_integer() else repr(number)
    return text.lower() if text.lower() in {"true", "false"} else text


def as_number(text: str, decimal: Decimal = ".") -> float:
    """The number that a text is, or NaN. `nan`, `1_000` and `1.234,5` are no numbers."""
    if decimal == ",":
        text = "?" if "." in text else text.replace(",", ".")
    return float(text) if _NUMBER.fullmatch(text) else math.nan


def without_missing(texts: Iterable[str], missing: Iterable[str | int | float], decimal: Decimal) -> tuple[str, ...]:
    """The texts with missing codes emptied."""
    codes = {normal_code(code) for code in missing}
    return tuple("" if normal_code(text, decimal) in codes else text for text in texts) if codes else tuple(texts)


def numbers(cells: Cells, column: Column) -> NDArray[np.float64]:
    """The column in the study's unit, `(N,)`, NaN where missing.

    Raises:
        SiteError: If a cell is no number or date, or a code that the YAML does not list.
    """
    if cells.since is not None:
        days = _days(cells, column.date) - _days(cells.since, column.date)
        return days * column.scale + column.offset
    codes = _number_codes(cells, column)
    values = np.full(len(cells.texts), np.nan)
    bad = []
    for index, text in enumerate(cells.texts):
        if not text:
            continue
        if codes is None:
            values[index] = as_number(text, cells.decimal) * column.scale + column.offset
        else:
            values[index] = codes.get(normal_code(text, cells.decimal), math.nan)
        if not abs(values[index]) < LARGEST:  # nor is NaN
            bad.append(index)
    if bad and codes is not None:
        raise _unknown_code(cells, bad, codes)
    if bad:
        raise _bad_cells(cells, bad, "a number cannot be read", _expected_number(cells), _number_fix(cells, bad))
    return values


def as_day(text: str, form: str) -> float:
    """A date as days since the year 1, or NaN: in the form given, or as a date cell or a day number of Excel."""
    with suppress(ValueError):
        return float(datetime.strptime(text, form).toordinal())
    with suppress(ValueError):
        return float(datetime.fromisoformat(text).toordinal())
    # five digits: 1927 to 2173
    return float(_EXCEL_DAY_0.toordinal() + int(text[:5])) if _EXCEL_DAY.fullmatch(text) else math.nan


def _days(cells: Cells, form: str) -> NDArray[np.float64]:
    values = np.array([as_day(text, form) if text else math.nan for text in cells.texts])
    bad = [index for index, text in enumerate(cells.texts) if text and math.isnan(values[index])]
    if bad:
        expected = f"dates {'as 2020-12-31' if form == 'iso' else f'as {form}'}, or date cells"
        fix = "correct the cells, list a word for unknown under `missing`, or give the form as `date`, as %d.%m.%Y"
        raise _bad_cells(cells, bad, "a date cannot be read", expected, fix)
    return values


def categories(cells: Cells, column: Column, names: Sequence[str]) -> NDArray[np.float64]:
    """The index of each cell's category in `names`, `(N,)`, NaN where missing.

    Raises:
        SiteError: If a cell holds a code that the YAML does not list, or a category that the study does not.
    """
    order = {normal_code(name): float(index) for index, name in enumerate(names)}
    codes = None if column.codes is None else {normal_code(key): normal_code(to) for key, to in column.codes.items()}
    values = np.full(len(cells.texts), np.nan)
    unknown, outside = [], []
    for index, text in enumerate(cells.texts):
        if not text:
            continue
        code = normal_code(text, cells.decimal)
        category = code if codes is None else codes.get(code)
        if category is None:
            unknown.append(index)
        elif category not in order:
            outside.append(index)
        else:
            values[index] = order[category]
    if unknown:
        raise _unknown_code(cells, unknown, codes or {})
    if outside:
        fix = "map the codes to these categories with `codes`, or list them under `missing`"
        raise _bad_cells(cells, outside, "a category is not the study's", f"one of {', '.join(names)}", fix)
    return values


def text_categories(column: Column) -> tuple[str, ...]:
    """The categories that a column's codes lead to, in their order; none where they lead to numbers."""
    texts = tuple(dict.fromkeys(normal_code(to) for to in (column.codes or {}).values()))
    return texts if any(math.isnan(as_number(text)) for text in texts) else ()


def mask_out_of_range(values: NDArray[np.float64], column: Column) -> tuple[NDArray[np.float64], int]:
    """`values` with those outside the column's range missing, and how many those were.

    One value in the wrong unit would move every site's mean and deviation, so it does not leave the site.
    """
    if column.range is None:
        return values, 0
    outside = (values < column.range[0]) | (values > column.range[1])
    return np.where(outside, np.nan, values), int(outside.sum())


def _number_codes(cells: Cells, column: Column) -> dict[str, float] | None:
    if column.codes is None:
        return None
    codes = {normal_code(key): as_number(normal_code(to)) for key, to in column.codes.items()}
    texts = [str(to) for to in column.codes.values() if math.isnan(as_number(normal_code(to)))]
    if texts:
        raise SiteError(
            what="codes give a category where the study has a number",
            where=cells.where,
            found=f"codes to {', '.join(texts[:5])}",
            expected="codes to numbers",
            fix="ask the center whether the study lists it as name{a|b}, or map the codes to numbers",
            public="the site's settings do not fit the study",
            exit_code=ExitCode.SITE_CONFIG,
        )
    return codes


def _unknown_code(cells: Cells, bad: Sequence[int], codes: Mapping[str, object]) -> SiteError:
    expected = f"one of the codes {', '.join(map(repr, codes))}"
    fix = "add the code under `codes`, or under `missing` if it means unknown"
    return _bad_cells(cells, bad, "unmapped code", expected, fix)


def _expected_number(cells: Cells) -> str:
    return f"numbers with {cells.decimal!r} as the decimal sign"


def _number_fix(cells: Cells, bad: Sequence[int]) -> str:
    other: Decimal = "," if cells.decimal == "." else "."
    if all(math.isfinite(as_number(cells.texts[index], other)) for index in bad):
        return f"set the table's `decimal` to {other!r}"
    if all(math.isfinite(as_day(cells.texts[index], "%d.%m.%Y")) for index in bad):
        return "for days between two dates, name the column of the earlier one as `since`"
    return "correct the cells, list a word for unknown under `missing`, or give the column `codes`"


def _bad_cells(cells: Cells, bad: Sequence[int], what: str, expected: str, fix: str) -> SiteError:
    texts = list(dict.fromkeys(cells.texts[index] for index in bad))
    more = f" and {len(texts) - 5} others" if len(texts) > 5 else ""
    return SiteError(
        what,
        where=cells.where,
        found=f"{', '.join(repr(text[:40]) for text in texts[:5])}{more} in {named_rows([cells.rows[i] for i in bad])}",
        expected=expected,
        fix=fix,
        public="a column of the site's tables holds a value that cannot be read",
    )
