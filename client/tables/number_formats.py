"""Number formats of a column, judged as a whole: decimal and thousands marks, percent signs, words among numbers."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Sequence

from client.contract.cells import Cells, Decimal
from client.contract.columns import Column
from client.tables.bad_cells import bad_cells
from client.tables.dates import as_day
from client.tables.words import is_missing_word

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_THOUSANDS = {mark: re.compile(rf"[+-]?[1-9]\d{{0,2}}(?:{re.escape(mark)}\d{{3}})+") for mark in (".", ",")}
_GROUPED = re.compile(r"[+-]?\d{1,3}(?:[ \u00a0\u202f\u2009'\u2019.,]\d{3})+(?:[.,]\d+)?")
_BOUND = re.compile(r"[<>≤≥~]=?\s*[\d.,]+")


def as_number(text: str, decimal: Decimal = ".") -> float:
    """The number that a text is, or NaN. `nan`, `1_000` and `1.234,5` are no numbers."""
    if decimal == ",":
        text = "?" if "." in text else text.replace(",", ".")
    return float(text) if _NUMBER.fullmatch(text) else math.nan


def without_percent_signs(cells: Cells, column: Column) -> Cells:
    """A column of percentages as the numbers before their signs: `20 %` is 20, also where Excel keeps it as 0.2.

    Raises:
        SiteError: If only some cells have the sign, so that 0.2 and 20 may mean the same, or the YAML scales the rest.
    """
    signed = [index for index, text in enumerate(cells.texts) if text.endswith("%")]
    if not signed:
        return cells
    plain = [index for index, text in enumerate(cells.texts) if text and not text.endswith("%")]
    if plain:
        few, often = sorted((signed, plain), key=len)
        raise bad_cells(
            cells,
            few,
            "percentages are mixed with plain numbers",
            f"cells {'with' if few is plain else 'without'} a percent sign, as in {len(often)} other rows",
            "write all cells of the column alike: 20 % is read as 20",
        )
    if column.scale != 1.0:
        expected = "no `scale`: a percentage is read as it is shown, 20 % as 20"
        raise bad_cells(
            cells, signed, "percentages would be scaled", expected, "take `scale` out, or the percent format"
        )
    return dataclasses.replace(cells, texts=tuple(text.rstrip("% \u00a0\u202f") for text in cells.texts))


def check_thousands(cells: Cells) -> None:
    """Refuses a column whose decimal marks seem to separate thousands: `1.250`, `980`, `12.400`.

    Where marks are decimal, some number has other than three digits behind it, or all have three.

    Raises:
        SiteError: If each mark is followed by three digits, and numbers without one are as large.
    """
    mark, form = cells.decimal, _THOUSANDS[cells.decimal]
    marked = []
    for index, text in enumerate(cells.texts):
        if mark in text:
            if not form.fullmatch(text):
                return
            marked.append(index)
    if not marked:
        return
    whole = [abs(as_number(text, mark)) for text in cells.texts if text and mark not in text]
    if whole and max(whole) >= 100:
        raise bad_cells(
            cells,
            marked,
            "a mark may separate thousands or decimals",
            f"numbers with {mark!r} as the decimal sign: here three digits follow each, and other cells go up to "
            f"{max(whole):g} without one",
            "write the numbers without thousands marks; or, if they are decimals, give all of them as many digits",
        )


def number_fix(cells: Cells, bad: Sequence[int]) -> str:
    """What to do about the cells at some positions, which are no numbers: a sentence for each kind of text."""
    texts = list(dict.fromkeys(cells.texts[index] for index in bad))
    other: Decimal = "," if cells.decimal == "." else "."
    if all(math.isfinite(as_day(text, "%d.%m.%Y")) for text in texts):
        return "for days between two dates, name the column of the earlier one as `since`"
    if all(math.isfinite(as_number(text, other)) and not _THOUSANDS[other].fullmatch(text) for text in texts):
        return f"set the table's `decimal` to {other!r}, or, in a workbook, write the cells as numbers"
    words = [text for text in texts if is_missing_word(text)]
    bounds = [text for text in texts if _BOUND.fullmatch(text)]
    grouped = [text for text in texts if _GROUPED.fullmatch(text)]
    decimals = [text for text in texts if text not in grouped and math.isfinite(as_number(text, other))]
    left = [text for text in texts if text not in {*words, *bounds, *grouped, *decimals}]
    fixes = [
        f"add `missing: {json.dumps(words[:9], ensure_ascii=False)}` to the column or the table" if words else "",
        f"write {_quoted(grouped)} without marks or blanks between thousands" if grouped else "",
        f"write {_quoted(decimals)} with {cells.decimal!r}" if decimals else "",
        f"decide what {_quoted(bounds)} counts as, and write it as a number or list it under `missing`"
        if bounds
        else "",
        "correct the cells, list a word for unknown under `missing`, or give the column `codes`" if left else "",
    ]
    return "; ".join(filter(None, fixes))


def _quoted(texts: Sequence[str]) -> str:
    return ", ".join(repr(text[:40]) for text in texts[:3])
