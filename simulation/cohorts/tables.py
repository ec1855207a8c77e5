"""Writer of site-specific tables: names, codes and units of a hospital, as CSV or XLSX.

A `Field` says both how a hospital writes a value and, as the entry of its YAML, how to read it again.
"""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from openpyxl import Workbook

Value = str | int | float | None
Row = Mapping[str, Value]
Code = str | int


@dataclass(frozen=True)
class Field:
    """Where one of the study's values is in a hospital's table.

    Attributes:
        column: The hospital's name for it.
        codes: `the study's value: the hospital's code`; empty for numbers and texts that are taken as they are.
        unit: How many of the study's units one of the hospital's is: 10 for a hospital that writes mm as cm.
        digits: Decimals that it writes of a number.
    """

    column: str
    codes: Mapping[Any, Code] = field(default_factory=dict)
    unit: float = 1.0
    digits: int = 3

    def cell(self, value: Value) -> Value:
        """What the hospital writes for the study's `value`."""
        if value is None or self.codes:
            return self.codes.get(value)
        return value if isinstance(value, str) else round(value / self.unit, self.digits)

    def entry(self, table: str = "", read_as: Mapping[Any, Code] | None = None) -> Any:
        """The YAML entry that reads it: from `table`, and with the study's values replaced by `read_as`."""
        meanings = {value: value for value in self.codes} if read_as is None else read_as
        entry: dict[str, Any] = {"column": self.column}
        if table:
            entry["table"] = table
        if self.codes:
            entry["codes"] = {self.codes[value]: meaning for value, meaning in meanings.items()}
        elif self.unit != 1.0:
            entry["scale"] = self.unit
        return self.column if list(entry) == ["column"] else entry


@dataclass(frozen=True)
class Style:
    """How a hospital writes its files.

    Attributes:
        patient_id: Its name for the patient's identifier.
        missing: What stands for a value not known, in every other such cell; the rest are empty.
        separator: Of CSV files.
        decimal: Of CSV files.
        suffix: Of its table of patients, `csv` or `xlsx`.
    """

    patient_id: str
    missing: Code
    separator: str = ","
    decimal: str = "."
    suffix: str = "csv"

    def table(self, file: str) -> dict[str, Any]:
        """The YAML entry of a table."""
        entry: dict[str, Any] = {"file": file, "patient_id": self.patient_id}
        if not file.endswith(".xlsx"):
            entry |= {"separator": self.separator} if self.separator != "," else {}
            entry |= {"decimal": self.decimal} if self.decimal != "." else {}
        return entry


def write_table(path: Path, rows: Sequence[Row], style: Style) -> None:
    """Writes rows of the hospital's own columns, all alike, as CSV or XLSX by the path's suffix."""
    if path.suffix == ".xlsx":
        _write_xlsx(path, rows)
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=style.separator, lineterminator="\n")
        writer.writerow(rows[0])
        writer.writerows([_text(value, style.decimal) for value in row.values()] for row in rows)


def in_words(fields: Mapping[str, Field], rows: Sequence[Row], style: Style) -> list[Row]:
    """Rows in the study's names and units, with `patient_id`, as the hospital writes them."""
    return [
        {
            style.patient_id: row["patient_id"],
            **{
                one.column: style.missing if row[name] is None and number % 2 else one.cell(row[name])
                for name, one in fields.items()
            },
        }
        for number, row in enumerate(rows)
    ]


def _text(value: Value, decimal: str) -> str:
    if value is None or value != value:
        return ""
    return f"{value:.7g}".replace(".", decimal) if isinstance(value, float) else str(value)


def _write_xlsx(path: Path, rows: Sequence[Row]) -> None:
    book = Workbook()
    sheet = book.active
    sheet.append(list(rows[0]))
    for row in rows:
        sheet.append([round(value, 6) if isinstance(value, float) else value for value in row.values()])
    written = io.BytesIO()
    book.save(written)
    path.write_bytes(_without_clock(written.getvalue()))


def _without_clock(workbook: bytes) -> bytes:
    """The same workbook, in which neither the archive nor the document says when it was written."""
    stamp = datetime(2020, 1, 1).isoformat().encode() + b"Z"
    copy = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(workbook)) as old, zipfile.ZipFile(copy, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "docProps/core.xml":
                content = re.sub(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", stamp, content)
            new.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
    return copy.getvalue()
