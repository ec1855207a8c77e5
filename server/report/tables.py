"""Tables with a column for each site, which fit a page's width however many sites there are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from shared_models.pages.elements import Row, Table

MAX_COLUMNS = 10
MAX_ROWS = 40
"""Of sites in a table; results.json has all."""
MAX_LETTERS = 90
"""Of all sites' names in one line."""
_BREAK = "\u200b"


def by_site(
    head: str, sites: Sequence[str], rows: Sequence[Row], caption: str, last: str = "", shaded: bool = False
) -> Table:
    """A table of characteristics by site: a column for each site; of more than ten sites a row for each.

    More than ten sites with more than ten characteristics fit no page: then only the columns of several sites together
    are shown.

    Args:
        head: Heading of the characteristics.
        sites: Their names; those of several sites together begin with `all `.
        rows: A characteristic each, with a cell for each site and, where `last` is given, one for all.
        caption: The table's.
        last: Heading of the last column.
        shaded: Whether shares are shaded by their value.
    """
    columns = [*sites, *([last] if last else [])]
    if len(sites) <= MAX_COLUMNS:
        names = columns if sum(map(len, sites)) <= MAX_LETTERS else [_breakable(name) for name in columns]
        return Table([head, *names], rows, caption, shaded=shaded)
    shown = [row for row in rows if row.kind != "group"]
    together = [index for index, name in enumerate(columns) if name.startswith("all ") or index >= len(sites)]
    if len(shown) <= MAX_COLUMNS or not together:
        turned = [Row(name, [row.cells[index] for row in shown]) for index, name in enumerate(columns)]
        first = [row for index, row in enumerate(turned) if index < MAX_ROWS or index in together]
        note = f" The first {MAX_ROWS} of {len(sites)} sites; results.json has all." if len(first) < len(turned) else ""
        return Table(["Site", *(row.head for row in shown)], first, f"{caption}{note}", shaded=shaded)
    few = [replace(row, cells=[row.cells[index] for index in together] if row.cells else []) for row in rows]
    note = f"{caption} Each of the {len(sites)} columns is in results.json."
    return Table([head, *(columns[index] for index in together)], few, note, shaded=shaded)


def _breakable(name: str) -> str:
    """A name that may go on in the next line after a sign between its parts, or after a dozen letters.

    >>> _breakable("tcga_brca-0").split("\u200b")
    ['tcga_', 'brca-', '0']
    """
    return re.sub(r"([-_./])(?=.)|(\w{12})(?=\w)", lambda part: part[0] + _BREAK, name)
