"""Column values: text cells to numbers and categories, with every invalid cell in one message."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from client.contract.cells import Cells, Decimal
from client.contract.columns import Column
from client.errors import ExitCode, SiteError
from client.tables.bad_cells import bad_cells
from client.tables.dates import days_between
from client.tables.number_formats import as_number, check_thousands, number_fix, without_percent_signs

_DIGITS = frozenset("0123456789+-.eE")
LARGEST = 1e30  # of a study's numbers, which are 32-bit floats


def normal_code(code: str | int | float, decimal: Decimal = ".") -> str:
    """One spelling of a code: `1`, `1.0`, `01` and `"1"` are the same, as are `TRUE` and `true`."""
    text = " ".join(str(code).split())
    number = as_number(text, decimal)
    if math.isfinite(number) and abs(number) < 1e15:
        return str(int(number)) if number.is_integer() else repr(number)
    return text.lower() if text.lower() in {"true", "false"} else text


def without_missing(texts: Iterable[str], missing: Iterable[str | int | float], decimal: Decimal) -> tuple[str, ...]:
    """The texts with missing codes emptied."""
    codes = {normal_code(code) for code in missing}
    return tuple("" if normal_code(text, decimal) in codes else text for text in texts) if codes else tuple(texts)


def numbers(cells: Cells, column: Column) -> NDArray[np.float64]:
    """The column in the study's unit, `(N,)`, NaN where missing.

    Raises:
        SiteError: If a cell is no number or date, or a code that the YAML does not list, or if the column's cells
            contradict each other.
    """
    if cells.since is not None:
        return days_between(cells, column) * column.scale + column.offset
    codes = _number_codes(cells, column)
    if codes is not None:
        return _of_codes(cells, codes)
    if "%" in cells.letters:
        cells = without_percent_signs(cells, column)
    if cells.decimal in cells.letters:
        check_thousands(cells)
    values = plain_numbers(cells) * column.scale + column.offset
    bad = [i for i in np.flatnonzero(~(np.abs(values) < LARGEST)).tolist() if cells.texts[i]]  # nor is NaN
    if bad:
        raise bad_cells(cells, bad, "a number cannot be read", _expected_number(cells), number_fix(cells, bad))
    return values


def plain_numbers(cells: Cells) -> NDArray[np.float64]:
    """The numbers that the texts are, `(N,)`, NaN where empty or none."""
    if cells.decimal == "." and cells.letters <= _DIGITS:  # float() takes no other texts of these letters than numbers
        with suppress(ValueError):
            return np.array([float(text) if text else math.nan for text in cells.texts])
    return np.array([as_number(text, cells.decimal) for text in cells.texts])


def _of_codes(cells: Cells, codes: Mapping[str, float]) -> NDArray[np.float64]:
    meanings = {text: codes.get(normal_code(text, cells.decimal), math.nan) for text in set(cells.texts) if text}
    values = np.array([meanings.get(text, math.nan) for text in cells.texts])
    if bad := [index for index in np.flatnonzero(np.isnan(values)).tolist() if cells.texts[index]]:
        raise _unknown_code(cells, bad, codes)
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
        raise bad_cells(cells, outside, "a category is not the study's", f"one of {', '.join(names)}", fix)
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
    return bad_cells(cells, bad, "unmapped code", expected, fix)


def _expected_number(cells: Cells) -> str:
    return f"numbers with {cells.decimal!r} as the decimal sign"
