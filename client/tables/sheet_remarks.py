"""Rows of a sheet that a person takes for absent and a program reads: hidden and struck-out ones."""

from __future__ import annotations

import re
from typing import Any

from client.tables.source import library_errors

_HIDDEN_ROW = re.compile(rb"<(?:\w+:)?row\b[^>]*\bhidden=[\"'](?:1|true)")
_CELL = re.compile(rb"<(?:\w+:)?c\b[^>]*>")
_ROW, _STYLE = re.compile(rb"\br=[\"'][A-Z]+(\d+)"), re.compile(rb"\bs=[\"'](\d+)")


def sheet_remarks(book: Any, sheet: Any, where: str) -> tuple[str, ...]:
    """A sentence on each kind of such rows.

    Args:
        book: An open workbook of openpyxl, read-only.
        sheet: Its sheet.
        where: For messages.

    Raises:
        SiteError: If the workbook cannot be read.
    """
    struck_styles = _struck_styles(book)
    hidden, struck = 0, set[bytes]()
    with library_errors(where, "an XLSX file as Excel writes it"), book._archive.open(sheet._worksheet_path) as file:
        end = b""
        while chunk := file.read(2**20):
            text, mark, end = (end + chunk).rpartition(b"<")  # a tag may go on in the next chunk
            hidden += len(_HIDDEN_ROW.findall(text))
            struck |= _struck_rows(text, struck_styles) if struck_styles else set()
            end = mark + end
    counts = ((hidden, "hidden"), (len(struck), "struck-out"))
    return tuple(
        f"{count} {kind} {'rows' if count > 1 else 'row'} of the sheet {sheet.title!r} "
        f"{'are' if count > 1 else 'is'} read like the others"
        for count, kind in counts
        if count
    )


def _struck_styles(book: Any) -> frozenset[bytes]:
    """The styles of cells that are struck out, as the sheet refers to them."""
    fonts = {index for index, font in enumerate(book._fonts) if font.strike}
    return frozenset(str(i).encode() for i, style in enumerate(book._cell_styles) if style.fontId in fonts)


def _struck_rows(text: bytes, styles: frozenset[bytes]) -> set[bytes]:
    """The numbers of the rows that have a struck-out cell."""
    there = set()
    for cell in _CELL.findall(text):
        style, row = _STYLE.search(cell), _ROW.search(cell)
        if style and row and style[1] in styles:
            there.add(row[1])
    return there
