"""Columns of units beside columns of values, as `size` and `size_unit`: read, so that two units are not one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

_UNITS = """
unit units uom einheit einheiten unite unité unites unités unidad unidades unita unità eenheid unidade birim
"""
_UNIT = frozenset(_UNITS.split())
_WORDS = re.compile(r"[^\W_]+")


def unit_columns(wanted: Sequence[str], named: Mapping[str, Sequence[int]]) -> dict[str, tuple[str, int]]:
    """The column of units of each column that has one: its name, and where it is.

    Args:
        wanted: The columns that are read.
        named: Where the columns of each name are, of all in the table.

    >>> unit_columns(["Size", "Age"], {"Size": [1], "Age": [2], "size_Einheit": [3]})
    {'Size': ('size_Einheit', 3)}
    """
    units = {}
    for name, positions in named.items():
        words = _WORDS.findall(name.casefold())
        if len(positions) == 1 and _UNIT.intersection(words):
            units[tuple(word for word in words if word not in _UNIT)] = (name, positions[0])
    pairs = {column: units.get(tuple(_WORDS.findall(column.casefold()))) for column in wanted if units}
    return {column: unit for column, unit in pairs.items() if unit and unit[0] != column}


def unit_remarks(units: Mapping[str, Sequence[str]], names: Mapping[str, str]) -> list[str]:
    """A sentence on each column whose values are in several units.

    Args:
        units: The cells of each column's units, by the column.
        names: The name of the column of units.
    """
    remarks = []
    for column, cells in units.items():
        counts = Counter(cell.casefold() for cell in cells if cell)
        if len(counts) > 1:
            listed = ", ".join(f"{unit} in {count} rows" for unit, count in counts.most_common(4))
            remarks.append(
                f"column {column!r} is in several units by {names[column]!r}: {listed}; its numbers are read as they "
                "are: give them in one unit"
            )
    return remarks
