"""Column lookup by name, under one header row or several."""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from client.errors import SiteError

Column = tuple[str, ...]
# What Excel makes of SEPT9, MARCH1 and DEC1, and what a table then holds
_DATED = re.compile(r"\d{4}-\d\d-\d\dT.*|\d{1,2}[-. ]?(?:mar|mär|mrz|sep|sept|dec|dez|oct|okt|apr)[.]?(?:-\d+)?", re.I)


def header_columns(rows: Sequence[Sequence[str]]) -> tuple[Column, ...]:
    """The header cells above each column, top to bottom.

    A merged group cell is only above its first column: it is carried to the right until the row, or a row
    above it, starts something new. The last row is never carried.

    Args:
        rows: The header rows; they may differ in length.

    Returns:
        A tuple of `len(rows)` texts a column, with whitespace collapsed.
    """
    width = max((len(row) for row in rows), default=0)
    texts = [[" ".join(cell.split()) for cell in row] + [""] * (width - len(row)) for row in rows]
    filled: list[Column] = []
    for index in range(width):
        cells, starts_anew = [], index == 0
        for level, row in enumerate(texts):
            starts_anew = starts_anew or bool(row[index])
            last = level == len(texts) - 1
            cells.append(row[index] if starts_anew or last else filled[-1][level])
        filled.append(tuple(cells))
    return tuple(filled)


def names_of(column: Column) -> set[str]:
    """Every name a column answers to: a header cell, or several from the top joined by ` / `."""
    cells = [cell for cell in column if cell]
    return {" / ".join(chosen) for size in range(1, len(cells) + 1) for chosen in combinations(cells, size)}


def by_name(columns: Sequence[Column]) -> dict[str, list[int]]:
    """The positions of the columns that answer to each name."""
    positions: dict[str, list[int]] = defaultdict(list)
    for index, column in enumerate(columns):
        for name in names_of(column):
            positions[name].append(index)
    return positions


def column_position(reference: str, columns: Sequence[Column], named: Mapping[str, list[int]], where: str) -> int:
    """The position of the column of a name; `named` is `by_name(columns)`.

    Raises:
        SiteError: If no column or several answer to it.
    """
    name = " ".join(reference.split())
    positions = named.get(name, [])
    if len(positions) == 1:
        return positions[0]
    if positions:
        full = sorted({" / ".join(dict.fromkeys(filter(None, columns[position]))) for position in positions})
        shown = "; ".join(repr(text if len(text) < 80 else f"{text[:77]}...") for text in full[:6])
        found, what = f"{len(positions)} columns: {shown}", "a column's name is ambiguous"
        fix = "write it as 'Group / Name' or 'Name / Note', or rename one of the columns"
    else:
        found = f"nearest: {', '.join(map(repr, nearest_names(name, named)))}" if named else "no header"
        what = "a column is missing"
        cure = names_made_dates(named) or "correct the name in the site's YAML, or restore the column"
        several = "if names are in several rows, set the table's `header_rows`; if below a title, `skip_rows`"
        fix = f"{cure}; {several}; if the site does not have the column, take it out"
    raise SiteError(
        what,
        where=where,
        found=found,
        expected=f"one column {name!r}",
        fix=fix,
        public="a column that the site's settings name is not in its table",
    )


def nearest_names(reference: str, named: Mapping[str, Sequence[int]], count: int = 4) -> list[str]:
    """Names of one column each that hold `reference` or are most like it, or the first where none does."""
    unique = {name.casefold(): name for name, positions in [*named.items()][::-1] if len(positions) == 1}
    wanted = reference.casefold()
    holding = sorted((name for name in unique if wanted in name), key=len)
    close = difflib.get_close_matches(wanted, unique, n=count, cutoff=0.5)
    nearest = list(dict.fromkeys([*holding, *close]))[:count]
    return [unique[name] for name in nearest] or list(unique.values())[: -count - 1 : -1]


def names_made_dates(names: Iterable[str]) -> str:
    """What to do where Excel has made dates of gene names; empty where it has not.

    >>> names_made_dates(["ESR1", "1-Mar"]).startswith("Excel has made dates of 1 gene names, as '1-Mar'")
    True
    """
    dated = [name for name in names if _DATED.fullmatch(name)]
    if not dated:
        return ""
    what = f"Excel has made dates of {len(dated)} gene names, as {dated[0]!r}, which may be SEPT9, MARCH1 or DEC1"
    return f"{what}: take the file from before Excel, or import the names as text"
