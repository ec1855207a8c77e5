"""Layout of a table's file: separator, encoding and header rows."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from client.tables.number_formats import as_number

SAMPLE_BYTES, MAX_BLOCKS = 2**16, 256
Texts = tuple[str, ...]


def text_form(path: Path) -> dict[str, Any]:
    """The separator and the encoding of a text file, where they are not the usual ones."""
    with path.open("rb") as file:
        start = file.read(SAMPLE_BYTES)
    form: dict[str, Any] = {}
    marked = start.startswith((b"\xff\xfe", b"\xfe\xff"))
    if not marked and not _is_utf8(path):
        form["encoding"] = "cp1252"
    encoding = "utf-16" if marked else form.get("encoding", "utf-8-sig")
    lines = [line for line in start.decode(encoding, errors="ignore").splitlines() if not line.startswith("#")][:20]
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    separator = max((usual, ";", "\t", ",", "|"), key=lambda mark: _regularity(lines[: max(1, len(lines) - 1)], mark))
    return form | ({"separator": separator} if separator != usual else {})


def _is_utf8(path: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        try:
            for _ in range(MAX_BLOCKS):
                decoder.decode(file.read(SAMPLE_BYTES))
        except UnicodeDecodeError:
            return False
    return True


def _regularity(lines: Sequence[str], mark: str) -> tuple[float, int]:
    widths = [len(row) for row in csv.reader(lines, delimiter=mark)] or [0]
    usual = max(set(widths), key=widths.count)
    return (widths.count(usual) / len(widths) if usual > 1 else 0.0), usual


def count_header_rows(raw: Sequence[Texts], decimal: str) -> int:
    """As many rows from the top as hold hardly any number, where the rows below do; else one."""
    shares = [_numeric_share(row, decimal) for row in raw[:60]]
    below = sorted(shares[5:] or shares[1:] or [0.0])
    usual = below[len(below) // 2]
    count = next((index for index, share in enumerate(shares[:6]) if share >= usual / 2), 1)
    return min(max(count, 1), 5, len(raw)) if usual >= 0.2 else 1


def _numeric_share(row: Texts, decimal: str) -> float:
    texts = [text for text in row if text]
    return sum(as_number(text, decimal) == as_number(text, decimal) for text in texts) / max(len(texts), 1)  # type: ignore[arg-type]
