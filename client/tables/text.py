"""CSV and TSV tables, read line by line within memory limits."""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, count, islice
from pathlib import Path
from typing import TextIO

from client.contract.columns import TableSource
from client.errors import SiteError
from client.tables.source import Row, Source, cell_text, unreadable

MAX_LINE = 2**24
NARROW = 3  # columns, of which the text of one cell may have as many separators as a line
_SEPARATOR_LINE = re.compile(r'(?i)"?sep=(.)"?\s*')  # written for Excel, which does not show it
_LINE_END = re.compile(r"\r\n?|\n")
_MARKS = {  # the longer first: UTF-32's begins with UTF-16's
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


@contextmanager
def open_text(path: Path, settings: TableSource, where: str) -> Iterator[Source]:
    """A CSV or TSV file.

    Raises:
        SiteError: If a line cannot be decoded or parsed, or has another number of cells than the header.
    """
    encoding = _encoding(path, settings.encoding)
    with path.open(newline="", encoding=encoding) as file:
        try:
            lines, comments = _after_comments(_lines(file, where), settings.delimiter)
            first = next(lines, "")
            announced = _SEPARATOR_LINE.fullmatch(first)
            delimiter = announced[1] if announced and not settings.separator else settings.delimiter
            reader = csv.reader(lines if announced else chain([first], lines), delimiter=delimiter, strict=True)
            cells = islice(reader, settings.skip_rows, settings.skip_rows + settings.header_rows)
            header = tuple(tuple(cell_text(cell, settings.decimal) for cell in row) for row in cells)
            _check_separator(delimiter, where, header)
            width = max(map(len, header), default=0)
            before = comments + (1 if announced else 0)
            yield Source(header, lambda positions: _rows(reader, positions, (delimiter, width), where, before))
        except csv.Error as error:
            raise _not_csv(where, reader.line_num + comments, error) from None
        except UnicodeError:
            raise _undecodable(path, encoding, where) from None


def _encoding(path: Path, otherwise: str) -> str:
    """What the file says by its byte order mark, or the settings."""
    with path.open("rb") as file:
        start = file.read(4)
    return next((encoding for mark, encoding in _MARKS.items() if start.startswith(mark)), otherwise)


def _after_comments(lines: Iterator[str], delimiter: str) -> tuple[Iterator[str], int]:
    """The lines without comments above the header, as cBioPortal writes four; a header may itself begin with `#`.

    Returns:
        The lines, and how many were left out: two or more that begin with `#`, or one with fewer cells than the next.
    """
    comments = list(islice(lines, 1))
    while comments[-1:] and comments[-1].lstrip('"').startswith("#"):
        comments += list(islice(lines, 1)) or [""]
    count = len(comments) - 1
    if count == 1 and comments[0].count(delimiter) >= comments[1].count(delimiter):
        count = 0
    return chain(filter(None, comments[count:]), lines), max(count, 0)


def _lines(file: TextIO, where: str) -> Iterator[str]:
    for number in count(1):
        line = file.readline(MAX_LINE)
        if not line:
            return
        if len(line) < MAX_LINE and "\0" not in line:
            yield line
            continue
        place = f"{where}, line {number}"
        if len(line) == MAX_LINE:
            raise unreadable(place, f"a line of more than {MAX_LINE:,} characters", "lines of a table")
        fix = "if it is UTF-16, set the table's `encoding` to utf-16-le; otherwise export the table again"
        raise unreadable(place, "a NUL character", "text", fix)


def _rows(
    reader: Iterator[list[str]], positions: Sequence[int], form: tuple[str, int], where: str, before: int
) -> Iterator[Row]:
    width, last = form[1], reader.line_num + before  # type: ignore[attr-defined]
    for cells in reader:
        number: int = reader.line_num + before  # type: ignore[attr-defined]
        lines, last = number - last, number
        if not any(cells):
            continue
        if len(cells) < width or any(cells[width:]):
            raise _ragged(where, number, len(cells), width)
        if lines > 1 and width > NARROW and any(_holds_lines(cell, at, form) for at, cell in enumerate(cells)):
            raise _swallowed(where, number - lines + 1, number)
        yield number, [cells[position] for position in positions]


def _holds_lines(cell: str, position: int, form: tuple[str, int]) -> bool:
    """Whether a cell holds the rest of a line, perhaps whole ones, and the next one up to itself: an open quotation."""
    delimiter, width = form
    first, *others = (line.count(delimiter) for line in _LINE_END.split(cell.rstrip("\r\n")))
    expected = [width - 1] * (len(others) - 1) + [position]
    return len(others) > 0 and first == width - 1 - position and others == expected


def _check_separator(delimiter: str, where: str, header: Sequence[Sequence[str]]) -> None:
    if any(len(cells) != 1 for cells in header):
        return
    text = header[0][0] if header else ""
    mark = max(";,|\t", key=text.count)
    if text.count(mark):
        raise SiteError(
            what="the table is separated by another character",
            where=f"{where}, row 1",
            found=f"a single column {text[:60]!r}",
            expected=f"columns separated by {delimiter!r}",
            fix=f"set the table's `separator` to {json.dumps(mark)}",
            public="one of the site's tables cannot be read",
        )


def _ragged(where: str, number: int, cells: int, width: int) -> SiteError:
    return SiteError(
        what="a row does not fit its header",
        where=f"{where}, row {number}",
        found=f"{cells} cells",
        expected=f"{width} cells, as in the header",
        fix="check the row for a separator or a quotation mark inside a cell; if the header is below a title, set "
        "`skip_rows`",
        public="one of the site's tables cannot be read",
    )


def _swallowed(where: str, first: int, last: int) -> SiteError:
    return SiteError(
        what="a quotation mark swallows lines",
        where=f"{where}, lines {first} to {last}",
        found="one cell with the text of whole lines",
        expected="a row a line",
        fix="look for a quotation mark that is not closed in the first of them; if the cell is meant so, take its line "
        "breaks out",
        public="one of the site's tables cannot be read",
    )


def _not_csv(where: str, line: int, error: csv.Error) -> SiteError:
    fix = "look in the lines before for a quotation mark that is not closed or not doubled; export the table again"
    return unreadable(f"{where}, up to line {line}", str(error), "a CSV file whose cells are quoted as a whole", fix)


def _undecodable(path: Path, encoding: str, where: str) -> SiteError:
    """The first byte that is no text: its line, and what the file may be instead."""
    decoder = codecs.getincrementaldecoder(encoding)()
    line, ascii_so_far, found = 1, True, "bytes that are no text"
    with path.open("rb") as file:
        try:
            for chunk in iter(lambda: file.read(2**16), b""):
                text = decoder.decode(chunk)
                line, ascii_so_far = line + text.count("\n"), ascii_so_far and text.isascii()
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            text = error.object[: error.start].decode(encoding, "ignore")
            line, ascii_so_far = line + text.count("\n"), ascii_so_far and text.isascii()
            found = f"the byte 0x{error.object[error.start]:02X}"
        except UnicodeError:  # UTF-16
            found = "no byte order mark"
    expected = f"text in the encoding {encoding!r}"
    if not ascii_so_far:
        fix = f"the lines before it are {encoding}: the file mixes two encodings; export it again as UTF-8"
    elif encoding.startswith("utf-8"):
        fix = (
            "set the table's `encoding` to cp1252, as older Excel in Western Europe writes, or export it again as UTF-8"
        )
    else:
        fix = "set the table's `encoding` to utf-8-sig, or export it again as UTF-8"
    return unreadable(f"{where}, line {line}", found, expected, fix)
