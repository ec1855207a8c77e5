"""CSV and XLSX files with a row a patient or a row a lesion, read as the texts that stand in them.

Only the columns that the site's YAML names are kept, so that an expression table of every gene stays small.
"""

from __future__ import annotations

import csv
import json
import warnings
import zipfile
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.columns import TableFile
from client.errors import SiteError, named_rows
from client.headers import by_name, header_columns, nearest_names
from client.paths import inside_data_root
from client.site import SiteConfig

Row = tuple[int, Sequence[Any]]


@dataclass(frozen=True)
class Table:
    """The columns of one file that the site's YAML names.

    Attributes:
        name: Its name in the YAML.
        settings: Its entry in the YAML.
        patients: The R patients, one a row; the same patient may stand twice.
        rows: The R row numbers in the file, from 1 and counting the header.
        cells: `column reference: R texts`, stripped, empty where the file has nothing.
    """

    name: str
    settings: TableFile
    patients: tuple[str, ...]
    rows: tuple[int, ...]
    cells: Mapping[str, tuple[str, ...]]

    @property
    def where(self) -> str:
        """The table and its file, for messages."""
        return f"table {self.name!r} ({self.settings.file})"

    def first_rows(self) -> dict[str, int]:
        """Where each patient's first row stands."""
        return {patient: index for index, patient in reversed(list(enumerate(self.patients)))}

    def positions(self) -> dict[str, int]:
        """Where each patient's row stands.

        Raises:
            SiteError: If a patient stands twice.
        """
        found = self.first_rows()
        twice = [
            (self.rows[found[patient]], self.rows[index])
            for index, patient in enumerate(self.patients)
            if found[patient] != index
        ]
        if twice:
            pairs = "; ".join(f"rows {first} and {second}" for first, second in twice[:5])
            raise SiteError(
                what="a patient stands in two rows",
                where=f"{self.where}, column {self.settings.patient_id!r}",
                found=f"{pairs} name the same patient ({len(twice)} such {'pair' if len(twice) == 1 else 'pairs'})",
                expected="a row a patient",
                fix="keep the row of the diagnosis under study; where a row is a lesion or a view, set `instances`",
                public="a patient stands twice in one of the site's tables",
            )
        return found


def read_table(site: SiteConfig, name: str, references: Iterable[str]) -> Table:
    """Reads the columns `references` of the site's table `name`.

    Raises:
        SiteError: If the file or a column cannot be found, or a row cannot be read.
    """
    settings = site.tables[name]
    path = inside_data_root(site, settings.file, f"tables.{name}.file")
    reader = _reader(path, name, settings)
    try:
        # openpyxl warns about styles and validation rules, which say nothing about the values.
        with warnings.catch_warnings(), closing(reader) as rows:
            warnings.simplefilter("ignore", UserWarning)
            return _collect(name, settings, rows, [settings.patient_id, *references])
    except FileNotFoundError:
        raise _missing(path, name) from None
    except (OSError, zipfile.BadZipFile, csv.Error, KeyError) as error:
        raise _unreadable(path, name, f"{type(error).__name__}: {error}", "a CSV or XLSX file") from None
    except (UnicodeError, LookupError) as error:
        raise _unreadable(path, name, str(error), f"text in the encoding {settings.encoding!r}") from None


def _reader(path: Path, name: str, settings: TableFile) -> Generator[Row, None, None]:
    if path.suffix.lower() == ".xlsx":
        return _xlsx_rows(path, name, settings)
    if path.suffix.lower() in {".csv", ".tsv", ".txt"}:
        return _csv_rows(path, settings)
    raise _unreadable(path, name, f"a file that ends in {path.suffix!r}", ".csv, .tsv, .txt or .xlsx")


def _csv_rows(path: Path, settings: TableFile) -> Generator[Row, None, None]:
    with path.open(newline="", encoding=settings.encoding) as file:
        reader = csv.reader(file, delimiter=settings.separator, strict=True)
        for cells in reader:
            yield reader.line_num, cells


def _xlsx_rows(path: Path, name: str, settings: TableFile) -> Generator[Row, None, None]:
    from openpyxl import load_workbook

    book = load_workbook(path, read_only=True, data_only=True)
    try:
        names = book.sheetnames
        sheet = settings.sheet if isinstance(settings.sheet, str) else dict(enumerate(names)).get(settings.sheet)
        if sheet not in names:
            raise SiteError(
                what="the workbook has no such sheet",
                where=f"table {name!r} ({settings.file})",
                found=f"sheets {', '.join(map(repr, names))}",
                expected=f"sheet {settings.sheet!r}",
                fix=f"correct tables.{name}.sheet",
                public="one of the site's tables is not where its settings say",
            )
        book[sheet].reset_dimensions()  # some programs write a wrong one
        yield from enumerate(book[sheet].iter_rows(values_only=True), start=1)
    finally:
        book.close()


def _collect(name: str, settings: TableFile, rows: Iterator[Row], references: Sequence[str]) -> Table:
    header = [cells for _, (_, cells) in zip(range(settings.header_rows), rows, strict=False)]
    columns = header_columns([[_text(cell, settings.decimal) for cell in cells] for cells in header])
    where = f"table {name!r} ({settings.file})"
    _check_separator(settings, where, header, name)
    named = by_name(columns)
    wanted = {reference: _position(reference, columns, named, where) for reference in references}
    kept: dict[str, list[str]] = {reference: [] for reference in wanted}
    numbers: list[int] = []
    for number, cells in rows:
        if not any(cell not in (None, "") for cell in cells):
            continue
        _check_width(where, number, cells, len(columns))
        numbers.append(number)
        for reference, position in wanted.items():
            kept[reference].append(_text(cells[position], settings.decimal) if position < len(cells) else "")
    patients = kept[settings.patient_id]
    _check_identified(where, settings, numbers, patients)
    return Table(name, settings, tuple(patients), tuple(numbers), {key: tuple(texts) for key, texts in kept.items()})


def _text(value: Any, decimal: str) -> str:
    if isinstance(value, str):
        return value.strip()
    if value is None:
        return ""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value).replace(".", decimal)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _position(reference: str, columns: Sequence[Sequence[str]], named: Mapping[str, list[int]], where: str) -> int:
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
        found = f"nearest: {', '.join(map(repr, nearest_names(name, named)))}"
        what = "a column is missing"
        fix = "correct the name in the site's YAML, restore the column, or, if the site does not have it, take it out"
    raise SiteError(
        what,
        where=where,
        found=found,
        expected=f"one column {name!r}",
        fix=fix,
        public="a column that the site's settings name is not in its table",
    )


def _check_separator(settings: TableFile, where: str, header: Sequence[Sequence[Any]], name: str) -> None:
    if settings.file.suffix.lower() == ".xlsx" or any(len(cells) != 1 for cells in header[:1]):
        return
    text = header[0][0] if header else ""
    mark = max(";,|\t", key=text.count)
    if text.count(mark):
        raise SiteError(
            what="the table is separated by another character",
            where=f"{where}, row 1",
            found=f"a single column {text[:60]!r}",
            expected=f"columns separated by {settings.separator!r}",
            fix=f"set tables.{name}.separator to {json.dumps(mark)}",
            public="one of the site's tables cannot be read",
        )


def _check_width(where: str, number: int, cells: Sequence[Any], width: int) -> None:
    # XLSX rows come as tuples and may end early; a CSV row that does is broken.
    long = any(cell not in (None, "") for cell in cells[width:])
    if long or (isinstance(cells, list) and len(cells) < width):
        raise SiteError(
            what="a row does not fit its header",
            where=f"{where}, row {number}",
            found=f"{len(cells)} cells",
            expected=f"{width} cells, as in the header",
            fix="check the row for a separator or a quotation mark inside a cell",
            public="one of the site's tables cannot be read",
        )


def _check_identified(where: str, settings: TableFile, numbers: Sequence[int], patients: Sequence[str]) -> None:
    nameless = [number for number, patient in zip(numbers, patients, strict=True) if not patient]
    if nameless:
        raise SiteError(
            what="a row has no patient identifier",
            where=f"{where}, column {settings.patient_id!r}",
            found=f"nothing in {named_rows(nameless)}",
            expected="an identifier in each row that is not empty",
            fix="fill it in, or delete the row",
            public="a row of one of the site's tables names no patient",
        )


def _missing(path: Path, name: str) -> SiteError:
    names = sorted(file.name for file in path.parent.glob(f"*{path.suffix}")) if path.parent.is_dir() else []
    return SiteError(
        "a table's file is missing",
        where=f"tables.{name}.file",
        found=f"{', '.join(names[:5]) or 'no such files'} in {path.parent}",
        expected=str(path),
        fix="correct the name or data_root, or put the file there",
        public="one of the site's tables is missing",
    )


def _unreadable(path: Path, name: str, found: str, expected: str) -> SiteError:
    return SiteError(
        "a table cannot be read",
        where=f"table {name!r} ({path})",
        found=" ".join(found.split()),
        expected=expected,
        fix="save the file anew, or correct its entry under `tables`",
        public="one of the site's tables cannot be read",
    )
