"""Suspicions of a column's codes: words that say the contrary of what they are mapped to, or that nothing is known."""

from __future__ import annotations

from collections.abc import Iterator

from client.contract.columns import Column
from client.onboarding.code_meanings import contradictory_codes
from client.tables.values import normal_code
from client.tables.words import is_missing_word


def code_warnings(name: str, column: Column) -> Iterator[str]:
    """What looks wrong in the codes of a feature's or an outcome's column, with what to do about it.

    Args:
        name: The feature or the outcome.
        column: The column.
    """
    given = column.codes
    if not given:
        return
    if pair := contradictory_codes(name, given):
        yield f"{name} has `codes` that say the contrary: {pair}; check them"
    codes = {str(code): normal_code(to) for code, to in given.items()}
    known = {to for code, to in codes.items() if not is_missing_word(code)}
    if unknown := [f"{code}: {to}" for code, to in codes.items() if is_missing_word(code) and to in known]:
        yield f"{name} has `codes` that give the unknown a value, {', '.join(unknown)}; list such under `missing`"
