"""Tables with a column for each site, turned over where there are too many sites for a page's width."""

from __future__ import annotations

from collections.abc import Sequence

from server.report.elements import Row, Table

MOST_COLUMNS = 10


def by_site(
    head: str, sites: Sequence[str], rows: Sequence[Row], caption: str, last: str = "", shaded: bool = False
) -> Table:
    """A table of characteristics by site.

    Args:
        head: Heading of the characteristics.
        sites: Their names, a column each; a row each where they are more than ten or their names are long.
        rows: A characteristic each, with a cell for each site and, where `last` is given, one for all.
        caption: The table's.
        last: Heading of the last column.
        shaded: Whether shares are shaded by their value.
    """
    columns = [*sites, *([last] if last else [])]
    if len(sites) <= MOST_COLUMNS and sum(map(len, sites)) <= 90:
        return Table([head, *columns], rows, caption, shaded=shaded)
    shown = [row for row in rows if row.kind != "group"]
    turned = [Row(name, [row.cells[index] for row in shown]) for index, name in enumerate(columns)]
    return Table(["Site", *(row.head for row in shown)], turned, caption, shaded=shaded)
