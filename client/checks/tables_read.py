"""Tables of a site as they are read, for the terminal: file, sheet, rows, patients and the columns in use."""

from __future__ import annotations

from client.cohort.rows import CohortRows
from client.tables.read import Table

MOST_NAMED = 12  # columns


def tables_read(rows: CohortRows | None) -> list[tuple[str, str, str]]:
    """`(table, what, value)`; it names columns, and no patient or value."""
    return [
        (name, what, value)
        for name, table in (rows.tables if rows else {}).items()
        for what, value in _description(table)
    ]


def _description(table: Table) -> list[tuple[str, str]]:
    columns = [name for name in table.cells if name != table.settings.patient_id]
    more = f" and {len(columns) - MOST_NAMED} more" if len(columns) > MOST_NAMED else ""
    sheet = f", sheet {table.settings.sheet!r}" if table.settings.sheet is not None else ""
    several = len(table.patients) - len(set(table.patients))
    counted = f"{len(table.patients)}" + (f", of {len(set(table.patients))} patients" if several else "")
    return [
        ("file", f"{table.settings.name}{sheet}"),
        ("identifier", table.settings.patient_id or "the header"),
        ("rows", counted),
        ("columns in use", f"{', '.join(columns[:MOST_NAMED])}{more}" or "none"),
    ]
