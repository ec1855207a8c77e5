"""Laterality: the breast with the finding, from a column of the site's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from client.contract.cells import Cells
from client.contract.columns import Column

if TYPE_CHECKING:
    from client.contract.protocols import Site

SIDES = ("left", "right")
USUAL_CODES: dict[str | int | float, str | int | float] = {
    spelling: side for side in SIDES for word in (side, side[0]) for spelling in (word, word.upper(), word.title())
}


def sides(site: Site, column: Column | None) -> dict[str, str]:
    """`left` or `right` of each patient whose cell is not empty, the patient's own.

    Args:
        site: The site.
        column: Its codes are those of left and right; without, `L`, `R`, `left`, `right` are understood in any case.

    Raises:
        SiteError: If the table cannot be read, a cell holds another code, or a patient has several rows.
    """
    if column is None:
        return {}
    from client.tables.read import read_table
    from client.tables.source import extracted
    from client.tables.values import categories, without_missing

    table = read_table(site, column.table or site.patients_table, [column.column])
    decimal, missing = table.settings.decimal, (*table.settings.missing, *column.missing)
    positions = table.positions()
    rows = list(positions.values())
    texts = (extracted(table.cells[column.column][row], column.extract) for row in rows)
    cells = Cells(
        where=f"{table.where}, column {column.column!r}",
        texts=without_missing(texts, missing, decimal),
        rows=tuple(table.rows[row] for row in rows),
        decimal=decimal,
    )
    coded = column if column.codes else column.model_copy(update={"codes": USUAL_CODES})
    codes = categories(cells, coded, SIDES)
    return {patient: SIDES[int(side)] for patient, side in zip(positions, codes, strict=True) if not np.isnan(side)}
