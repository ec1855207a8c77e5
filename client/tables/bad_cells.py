"""Cells of a column that cannot be used, named in one message by text and row."""

from __future__ import annotations

from collections.abc import Sequence

from client.contract.cells import Cells
from client.errors import SiteError, named_rows


def bad_cells(cells: Cells, bad: Sequence[int], what: str, expected: str, fix: str) -> SiteError:
    """The error of the cells at some positions: the first few texts, and the rows that hold them."""
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
