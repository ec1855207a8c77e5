"""XLSX tables, within memory limits, refusing formulas that Excel has not calculated.

Macros and formulas are never run. Entities that multiply ("billion laughs") are refused by expat, from 2.4.1 on, and
others are never fetched by Python's ElementTree.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any

from client.contract.columns import TableSource
from client.errors import SiteError
from client.tables.sheet_remarks import sheet_remarks
from client.tables.source import MAX_ROWS, Row, Source, cell_text, library_errors, unreadable

MAX_UNZIPPED = 64 * 2**20  # some 10 s of parsing
MAX_RATIO = 500  # a sheet of equal cells reaches 100
MAX_CELLS = 50_000_000
_EXPECTED = "an XLSX file as Excel writes it"
_PITFALL = re.compile(rb"[<:](?:f[\s/>]|mergeCell\b)")
_OLD_OFFICE = bytes.fromhex("D0CF11E0A1B11AE1")


@contextmanager
def open_workbook(path: Path, settings: TableSource, where: str) -> Iterator[Source]:
    """A sheet of a workbook.

    Raises:
        SiteError: If it cannot be read, or holds formulas without a value or merged cells where a value is wanted.
    """
    from openpyxl import load_workbook

    _check_archive(path, where)
    with path.open("rb") as file, warnings.catch_warnings():
        # openpyxl warns about styles and validation rules, which say nothing about the values.
        warnings.simplefilter("ignore", UserWarning)
        with library_errors(where, _EXPECTED):
            book = load_workbook(file, read_only=True, data_only=True, keep_links=False)
        try:
            sheet = _sheet(book, settings, where)
            rows = _all_rows(sheet, where)
            remarks = sheet_remarks(book, sheet, where)
            header = tuple(
                tuple(cell_text(cell, settings.decimal) for cell in cells)
                for _, cells in islice(rows, settings.skip_rows, settings.skip_rows + settings.header_rows)
            )
            width = max(map(len, header), default=0)

            def chosen(positions: Sequence[int]) -> Iterator[Row]:
                _check_cells(book, sheet, settings, set(positions), where)
                return _chosen(rows, positions, width, where)

            yield Source(header, chosen, remarks)
        finally:
            book.close()


def visible_sheets(path: Path, where: str) -> list[str]:
    """The names of the sheets that a person sees and that hold something.

    Raises:
        SiteError: If it is no workbook.
    """
    from openpyxl import load_workbook

    _check_archive(path, where)
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        with library_errors(where, _EXPECTED):
            book = load_workbook(file, read_only=True, data_only=True, keep_links=False)
        try:
            return _filled_sheets(book, where)
        finally:
            book.close()


def _check_archive(path: Path, where: str) -> None:
    with path.open("rb") as file:
        if file.read(8) == _OLD_OFFICE:
            fix = "open it in Excel and save it as .xlsx, without a password"
            raise unreadable(where, "a workbook with a password, or of Excel 2003 and before", _EXPECTED, fix)
    with library_errors(where, _EXPECTED), zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    # A member that is larger than the directory says is cut there by zipfile, and its checksum fails.
    size, packed = (sum(getattr(entry, key) for entry in entries) for key in ("file_size", "compress_size"))
    if size > MAX_UNZIPPED or size > MAX_RATIO * max(packed, 2**16):
        found = f"{size / 2**20:,.0f} MiB, packed into {packed / 2**20:.1f} MiB"
        expected = f"at most {MAX_UNZIPPED // 2**20} MiB, packed no more than {MAX_RATIO} times"
        raise unreadable(where, found, expected, "save the sheet as CSV")


def _sheet(book: Any, settings: TableSource, where: str) -> Any:
    names = [sheet.title for sheet in book.worksheets]  # a chart's sheet has no cells
    if settings.sheet is None:
        name: str | None = _only_sheet(book, where)
    else:
        name = settings.sheet if isinstance(settings.sheet, str) else dict(enumerate(names)).get(settings.sheet)
    if name not in names:
        raise SiteError(
            what="the workbook has no such sheet",
            where=where,
            found=f"sheets {', '.join(map(repr, names))}",
            expected=f"sheet {settings.sheet!r}",
            fix="correct the table's `sheet`",
            public="one of the site's tables is not where its settings say",
        )
    book[name].reset_dimensions()  # some programs write a wrong one
    return book[name]


def _only_sheet(book: Any, where: str) -> str:
    """The name of the only sheet that a person sees and that holds something; hidden ones are often older versions."""
    filled = _filled_sheets(book, where)
    if len(filled) == 1:
        return filled[0]
    raise SiteError(
        what="it is not clear which sheet of the workbook is the table",
        where=where,
        found=f"visible sheets {', '.join(map(repr, filled))}" if filled else "no visible sheet that holds something",
        expected="one visible sheet, or the table's `sheet`",
        fix=f"set the table's `sheet`, as {filled[0]!r}" if filled else "unhide the sheet, or set the table's `sheet`",
        public="one of the site's tables is not where its settings say",
    )


def _filled_sheets(book: Any, where: str) -> list[str]:
    visible = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"]
    with library_errors(where, _EXPECTED):
        return [str(sheet.title) for sheet in visible if len(visible) == 1 or _holds_something(sheet)]


def _holds_something(sheet: Any) -> bool:
    sheet.reset_dimensions()
    return any(cell not in (None, "") for row in sheet.iter_rows(values_only=True, max_row=20) for cell in row)


def _all_rows(sheet: Any, where: str) -> Iterator[Row]:
    seen = 0
    with library_errors(where, _EXPECTED):
        percent = _percent_styles(sheet.parent)
        for number, row in enumerate(sheet.iter_rows(values_only=not percent), start=1):
            cells = [_as_shown(cell, percent) for cell in row] if percent else row
            seen += len(cells)
            if number > MAX_ROWS:  # a row's number may lie: openpyxl makes all those before it
                raise unreadable(where, f"more than {MAX_ROWS:,} rows", "a sheet as Excel writes it")
            if seen > MAX_CELLS:
                raise unreadable(where, f"more than {MAX_CELLS:,} cells", "a smaller sheet", "save it as CSV")
            yield number, cells


def _percent_styles(book: Any) -> frozenset[int]:
    """The styles by which a workbook shows numbers in percent."""
    from openpyxl.styles.numbers import BUILTIN_FORMATS, BUILTIN_FORMATS_MAX_SIZE

    own = {BUILTIN_FORMATS_MAX_SIZE + index: text for index, text in enumerate(book._number_formats)}
    formats = BUILTIN_FORMATS | own
    return frozenset(i for i, style in enumerate(book._cell_styles) if "%" in formats.get(style.numFmtId, ""))


def _as_shown(cell: Any, percent: frozenset[int]) -> Any:
    """A cell's value; of a number in percent the text that a person sees, since 0.2 may be beside 15."""
    value = cell.value
    shown = isinstance(value, int | float) and not isinstance(value, bool) and cell._style_id in percent
    return f"{100 * value:.12g}%" if shown else value


def _chosen(rows: Iterator[Row], positions: Sequence[int], width: int, where: str) -> Iterator[Row]:
    for number, cells in rows:
        if all(cell is None or cell == "" for cell in cells):
            continue
        if any(cell not in (None, "") for cell in cells[width:]):
            raise SiteError(
                what="a row does not fit its header",
                where=f"{where}, row {number}",
                found=f"{len(cells)} cells",
                expected=f"{width} cells, as in the header",
                fix="give the last columns a header, or clear their cells; if the header is below a title, set "
                "`skip_rows`",
                public="one of the site's tables cannot be read",
            )
        # a row ends with its last cell that holds something
        yield number, [cells[position] if position < len(cells) else None for position in positions]


def _check_cells(book: Any, sheet: Any, settings: TableSource, positions: set[int], where: str) -> None:
    """Refuses what would silently be read as empty: formulas never calculated, and all but one of merged cells."""
    formulas: list[str] = []
    merged: list[str] = []
    header_end = settings.skip_rows + settings.header_rows
    with library_errors(where, _EXPECTED):
        for row, column, reference, what in _pitfalls(book._archive, sheet._worksheet_path):
            last_row, first_column, last_column = row[1], column[0] - 1, column[1] - 1
            if last_row > header_end and any(first_column <= at <= last_column for at in positions):
                (formulas if what == "formula" else merged).append(reference)
    if formulas:
        fix = "open the workbook in Excel and save it, so that the values are calculated, or export the sheet as CSV"
        raise unreadable(where, f"formulas without a value in {_named(formulas)}", "values", fix)
    if merged:
        fix = "unmerge the cells and fill each of them: only the first of them holds the value"
        raise unreadable(where, f"merged cells {_named(merged)} below the header", "a value in each cell", fix)


def _pitfalls(archive: zipfile.ZipFile, member: str) -> Iterator[tuple[tuple[int, int], tuple[int, int], str, str]]:
    """`((first, last row), (first, last column), reference, formula or merged)` of a sheet."""
    from xml.etree.ElementTree import iterparse

    with archive.open(member) as file:
        # most sheets have neither; to look for their tags is 20 times faster than to parse
        if not any(_PITFALL.search(chunk) for chunk in _overlapping(file)):
            return
    from openpyxl.utils import range_boundaries

    with archive.open(member) as file:
        for _, element in iterparse(file):
            tag = element.tag.rpartition("}")[2]
            what, reference = "", ""
            if tag == "c":
                parts = {child.tag.rpartition("}")[2]: child.text for child in element}
                what, reference = "formula" if "f" in parts and not parts.get("v") else "", element.get("r", "")
            elif tag == "mergeCell":
                what, reference = "merged", element.get("ref", "")
            elif tag in {"row", "mergeCells"}:
                element.clear()
            if what and reference:
                left, top, right, bottom = range_boundaries(reference)
                yield (top, bottom), (left, right), reference, what


def _overlapping(file: IO[bytes]) -> Iterator[bytes]:
    end = b""
    while chunk := file.read(2**20):
        yield end + chunk
        end = chunk[-16:]


def _named(references: Sequence[str]) -> str:
    return ", ".join(references[:5]) + (f" and {len(references) - 5} more" if len(references) > 5 else "")
