"""Texts of a discovered table's columns for `init`: the known ones, numbers and dates among them."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from client.onboarding.outcome_words import speaks_of_birth, speaks_of_diagnosis, speaks_of_surgery
from client.onboarding.table_discovery import DiscoveredTable
from client.tables.date_forms import date_form
from client.tables.number_formats import as_number
from client.tables.words import is_missing_word

SENTINELS = frozenset(("-9", "-99", "-999", "-9999"))


@functools.cache
def missing_codes(table: DiscoveredTable) -> tuple[str, ...]:
    """Texts of a table that mean that nothing is known; beside a `+`, a `-` does not."""
    codes = set()
    for texts in table.columns.values():
        codes |= {text for text in set(texts) if is_missing_word(text)} - ({"-"} if "+" in texts else set())
        values = [as_number(text, table.decimal) for text in set(texts) - SENTINELS]  # type: ignore[arg-type]
        if SENTINELS & set(texts) and all(not value < 0 for value in values):
            codes |= SENTINELS & set(texts)
    signs = {"-"} if any("+" in texts for texts in table.columns.values()) else set()
    return tuple(sorted(codes - signs))


def known_texts(table: DiscoveredTable, name: str) -> list[str]:
    """The texts of a column that are not missing."""
    missing = {*missing_codes(table), ""}
    return [text for text in table.columns[name] if text not in missing]


def numbers_of(texts: Sequence[str], decimal: str) -> tuple[list[float], list[str], bool] | None:
    """A column's numbers, the few words among them, and whether they are percentages; None where most are words."""
    percent = bool(texts) and all(text.endswith("%") for text in texts)
    plain_texts = [text.rstrip("% ") for text in texts] if percent else texts
    values = [as_number(text, decimal) for text in plain_texts]  # type: ignore[arg-type]
    known = [value for value in values if math.isfinite(value)]
    others = sorted({text for text, value in zip(texts, values, strict=True) if not math.isfinite(value)})
    if len(known) < 0.9 * len(texts) or not known or len(others) > 5:
        return None
    return known, others, percent


def day_zero(table: DiscoveredTable) -> str:
    """The column of the date from which days are counted: of the diagnosis, else of surgery; empty where none is."""
    dated = [name for name in table.columns if date_form(known_texts(table, name)) and not speaks_of_birth(name)]
    return next((name for speaks in (speaks_of_diagnosis, speaks_of_surgery) for name in dated if speaks(name)), "")
