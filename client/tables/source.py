"""Table source interface: header rows, then rows of cells, for files and queries alike."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from client.contract.columns import TableSource
from client.contract.identifiers import normal_identifier
from client.errors import SiteError, named_rows
from client.tables.words import is_excel_error, is_total

MAX_BYTES = 4 * 2**30
MAX_ROWS = 2**20
MAX_COLUMNS = 100_000
_EXCEL_TEXT = re.compile(r'^="(.*)"$')  # what programs write so that Excel does not read an identifier as a number

Row = tuple[int, Sequence[Any]]


@dataclass(frozen=True)
class Source:
    """A table that is open.

    Attributes:
        header: Its header rows, as texts.
        rows: Gives the rows below the header, each with its number in the file and its cells at some positions.
        remarks: What a person should know of how it is read.
    """

    header: tuple[tuple[str, ...], ...]
    rows: Callable[[Sequence[int]], Iterator[Row]]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class PatientRows:
    """Some columns of a table, patient by patient.

    Attributes:
        patients: The R patients, one a row; a patient may appear twice.
        numbers: The R row numbers in the file, from 1 and counting the header, or column numbers where patients are
            in columns.
        columns: R texts each, stripped, empty where the file has nothing.
        remarks: What a person should know of how they are read.
    """

    patients: tuple[str, ...]
    numbers: tuple[int, ...]
    columns: tuple[tuple[str, ...], ...]
    remarks: tuple[str, ...] = ()


def load_rows(settings: TableSource, source: Source, patient: int, positions: Sequence[int], where: str) -> PatientRows:
    """The columns at some positions, of the patients that the column at `patient` names.

    Raises:
        SiteError: If a row cannot be read, has no identifier, or there are too many.
    """
    patients: list[str] = []
    numbers: list[int] = []
    columns: list[list[str]] = [[] for _ in positions]
    nameless: dict[str, list[int]] = {}
    for number, cells in bounded(source.rows([patient, *positions]), where):
        identifier = normal_identifier(_EXCEL_TEXT.sub(r"\1", cell_text(cells[0], settings.decimal)))
        if not identifier or is_excel_error(identifier) or is_total(identifier):
            nameless.setdefault(identifier, []).append(number)
        elif chosen := extracted(identifier, settings.patient_extract):
            patients.append(chosen)
            numbers.append(number)
            for column, cell in zip(columns, cells[1:], strict=True):
                column.append(cell_text(cell, settings.decimal))
    if nameless:
        raise _nameless(settings, nameless, where)
    return PatientRows(tuple(patients), tuple(numbers), tuple(map(tuple, columns)))


def extracted(text: str, expression: str) -> str:
    """The part of a text that an expression's first group finds, empty if it does not fit; all of it without one."""
    if not expression:
        return text
    match = re.search(expression, text)
    return (match[1] or "").strip() if match else ""


def cell_text(value: Any, decimal: str) -> str:
    """A cell as a CSV file with this decimal sign would hold it; NaN is an empty cell."""
    if isinstance(value, str):
        return value.strip()
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value) if isinstance(value, bool) else str(value).replace(".", decimal)


def bounded(rows: Iterable[Row], where: str) -> Iterator[Row]:
    """The rows, up to as many as are read.

    Raises:
        SiteError: If there are more.
    """
    for count, row in enumerate(rows):
        if count == MAX_ROWS:
            raise unreadable(where, f"more than {MAX_ROWS:,} rows", "a table of patients or lesions")
        yield row


@contextmanager
def library_errors(where: str, expected: str) -> Iterator[None]:
    """What a library says of a file that it was not made for, as one message.

    Raises:
        SiteError: Instead.
    """
    try:
        yield
    except SiteError:
        raise
    except Exception as error:  # of any kind: the file may hold anything
        raise unreadable(where, f"{type(error).__name__}: {error}", expected) from None


def unreadable(
    where: str, found: str, expected: str, fix: str = "save the file again, or correct its entry under `tables`"
) -> SiteError:
    """A table that cannot be read."""
    return SiteError(
        "a table cannot be read",
        where=where,
        found=" ".join(found.split())[:300],
        expected=expected,
        fix=fix,
        public="one of the site's tables cannot be read",
    )


def _nameless(settings: TableSource, rows: Mapping[str, Sequence[int]], where: str) -> SiteError:
    first = settings.header_rows + 1 in rows.get("", ())
    found = "; ".join(f"{repr(text) if text else 'nothing'} in {named_rows(at)}" for text, at in rows.items())
    return SiteError(
        what="a row has no patient identifier",
        where=f"{where}, column {settings.patient_id!r}",
        found=found,
        expected="an identifier in each row that is not empty, and no lines of totals",
        fix="fill it in, or delete the row"
        + f"; if row {settings.header_rows + 1} holds units or more names, set `header_rows`" * first,
        public="a row of one of the site's tables names no patient",
    )
