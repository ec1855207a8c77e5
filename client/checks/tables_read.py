"""Tables and outcomes of a site as they are read: file, sheet, rows, patients, the columns in use and their codes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from client.cohort.rows import CohortRows
from client.config.site import Outcome
from client.contract.columns import Column
from client.tables.read import Table

MAX_NAMED = 12  # columns


def tables_read(rows: CohortRows | None) -> list[tuple[str, str, str]]:
    """`(table, what, value)`; it names columns, and no patient or value."""
    return [
        (name, what, value)
        for name, table in (rows.tables if rows else {}).items()
        for what, value in _description(table)
    ]


def outcomes_read(rows: CohortRows | None) -> list[tuple[str, str, str]]:
    """`(target, what, column)` of the outcomes in use, with their codes; it names columns, and no patient."""
    return [
        (name, what, value)
        for name, outcome in (rows.site.targets if rows else {}).items()
        for what, value in _of_outcome(outcome)
    ]


def _of_outcome(outcome: Outcome) -> Iterator[tuple[str, str]]:
    single = (("label", outcome.label), ("event", outcome.event))
    yield from ((what, _column(column)) for what, column in single if column)
    if outcome.event_days:
        yield "days of the event", "the earliest of " * (len(outcome.event_days) > 1) + _columns(outcome.event_days)
    if outcome.followup_days:
        several = len(outcome.followup_days) > 1
        yield "days of follow-up", "the latest of " * several + _columns(outcome.followup_days)
    yield from (("counts as", outcome.endpoint),) if outcome.endpoint else ()
    yield from (("deaths", f"are {outcome.deaths}"),) if outcome.deaths else ()


def _columns(columns: Iterable[Column]) -> str:
    return ", ".join(map(_column, columns))


def _column(column: Column) -> str:
    codes = f" ({', '.join(f'{code}: {to}' for code, to in column.codes.items())})" if column.codes else ""
    start = f" of table {column.since_table}" if column.since_table else ""
    since = f" since {column.since}{start}" if column.since else ""
    return f"{column.column}{since}{f' x {column.scale:g}' if column.scale != 1 else ''}{codes}"


def _description(table: Table) -> list[tuple[str, str]]:
    columns = [name for name in table.cells if name != table.settings.patient_id]
    more = f" and {len(columns) - MAX_NAMED} more" if len(columns) > MAX_NAMED else ""
    sheet = f", sheet {table.settings.sheet!r}" if table.settings.sheet is not None else ""
    several = len(table.patients) - len(set(table.patients))
    counted = f"{len(table.patients)}" + (f", of {len(set(table.patients))} patients" if several else "")
    return [
        ("file", f"{table.settings.name}{sheet}"),
        ("identifier", table.settings.patient_id or "the header"),
        ("rows", counted),
        ("columns in use", f"{', '.join(columns[:MAX_NAMED])}{more}" or "none"),
    ]
