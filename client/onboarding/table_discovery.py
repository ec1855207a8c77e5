"""Table discovery for `init`: the tables in a folder, and the column of each that says who a row is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from client.cohort.exclusions import FILE as SET_ASIDE
from client.contract.columns import TableSource
from client.errors import SiteError
from client.onboarding.table_layout import Texts, count_header_rows, text_form
from client.onboarding.vocabulary import IDENTIFIER, words
from client.tables.headers import by_name, header_columns
from client.tables.parquet import open_parquet
from client.tables.source import Source, cell_text
from client.tables.text import open_text
from client.tables.workbooks import open_workbook, visible_sheets

SUFFIXES = (".csv", ".tsv", ".txt", ".xlsx", ".parquet")
MAX_TABLES, MAX_SHEETS, LOOKED_AT = 30, 10, 50_000
LOOKED_AT_CELLS = 2_000_000  # a matrix of all genes is read in its first rows only
# A number with decimals, or a file's name.
_NO_IDENTIFIER = re.compile(r"^-?\d+[.,]\d+$|(?i:\.(?:png|jpe?g|tiff?|dcm|nii|gz|nrrd|mh[ad]|np[yz]|svs)$)")
MAX_TITLE_ROWS, TITLE_CELLS = 4, 2
FIRST_COLUMNS = 50  # where an identifier may have any name


@dataclass(frozen=True, eq=False)
class DiscoveredTable:
    """A table that names patients, as `init` reads it.

    Attributes:
        name: Its name in the YAML to be.
        form: Its entry there: `file`, and `separator` and so on where they are not the usual.
        decimal: Its decimal sign.
        columns: The texts below the header by the name that a YAML gives to the column.
        patient_id: The column that says who a row is; empty if none does.
        several: Whether a patient has several rows.
    """

    name: str
    form: Mapping[str, Any]
    decimal: str
    columns: Mapping[str, Texts]
    patient_id: str = ""
    several: bool = False

    @property
    def place(self) -> str:
        """Its file and sheet, for messages."""
        return f"{self.form['file']}{', sheet ' + repr(self.form['sheet']) if 'sheet' in self.form else ''}"

    @property
    def patients(self) -> frozenset[str]:
        """The patients in it."""
        return frozenset(self.columns[self.patient_id]) if self.patient_id else frozenset()


def find_tables(folder: Path, only: Path | None = None) -> tuple[list[DiscoveredTable], list[str]]:
    """The tables under a folder that name patients; and why the other files are none.

    Args:
        folder: The data_root to be.
        only: The one file that is read; None for all in the folder.

    Returns:
        The tables, and a sentence on each file or sheet that is none.
    """
    unidentified: list[DiscoveredTable] = []
    refused: list[str] = []
    paths = [path for depth in ("*", "*/*", "*/*/*") for path in sorted(folder.glob(depth))]
    paths = [path for path in paths if path.suffix.lower() in SUFFIXES and path.is_file() and not _is_ours(path)]
    refused += [f"{path.relative_to(folder)}: {MAX_TABLES} tables were read before it" for path in paths[MAX_TABLES:]]
    for path in [only] if only else paths[:MAX_TABLES]:
        place = path.relative_to(folder).as_posix()
        if not path.resolve().is_relative_to(folder):
            refused.append(f"{place} is outside the folder")
            continue
        for form in _sheets(path, place, refused):
            sheet = f", sheet {form['sheet']!r}" if "sheet" in form else ""
            try:
                tables = list(_tables(path, place, form))
                unidentified += tables
                refused += [] if tables else [f"{place}{sheet}: has no row below its header, or a single column"]
            except SiteError as error:
                refused.append(f"{place}{sheet}: {error.what}{f' ({error.found})' if error.found else ''}")
    identified = _under_the_same_name(_identified(unidentified))
    refused += [f"{one.place}: no column says who a row is" for one in identified if not one.patient_id]
    return _with_names([one for one in identified if one.patient_id]), refused


def _sheets(path: Path, place: str, refused: list[str]) -> list[dict[str, Any]]:
    """The sheets of a workbook that a person sees, each to be read for itself; nothing to say of another file."""
    if path.suffix.lower() != ".xlsx":
        return [{}]
    try:
        names = visible_sheets(path, place)
    except SiteError as error:
        refused.append(f"{place}: {error.what}")
        return []
    return [{}] if len(names) == 1 else [{"sheet": name} for name in names[:MAX_SHEETS]]


def _is_ours(path: Path) -> bool:
    """Whether a file is Excel's lock, hidden, or what this program wrote about the site."""
    return path.name[0] in ".~" or path.name == SET_ASIDE or path.parent.name == "splits"


def _with_names(tables: Sequence[DiscoveredTable]) -> list[DiscoveredTable]:
    named: dict[str, DiscoveredTable] = {}
    for table in tables:
        title = str(table.form.get("sheet", Path(table.form["file"]).stem))
        stem = re.sub(r"[^A-Za-z0-9]+", "_", title).strip("_").lower() or "table"
        name = next(n for n in (stem, *(f"{stem}_{i}" for i in range(2, 99))) if n not in named)
        named[name] = replace(table, name=name)
    return list(named.values())


def _tables(path: Path, place: str, form: Mapping[str, Any]) -> Iterator[DiscoveredTable]:
    """The table of a file, or of one sheet of it."""
    suffix = path.suffix.lower()
    form = text_form(path) if suffix not in (".xlsx", ".parquet") else form
    raw, titles = _raw(path, place, form)
    # a workbook's numbers have no decimal sign; some of its cells may be texts that have one
    texts = [cell for row in raw[1:200] for cell in row if isinstance(cell, str)]
    commas, points = (sum(bool(re.fullmatch(rf"-?\d+{mark}\d+", text)) for text in texts) for mark in (",", r"\."))
    decimal = "," if commas > points and suffix != ".parquet" else "."
    whole = {"file": place, **form, **({"decimal": ","} if decimal == "," else {})}
    whole |= {"skip_rows": titles} if titles else {}
    rows = [tuple(cell_text(cell, decimal) for cell in row) for row in raw]
    yield from _table(rows, whole, decimal, header_rows=1 if suffix == ".parquet" else 0)


def _raw(path: Path, place: str, form: Mapping[str, Any]) -> tuple[list[tuple[Any, ...]], int]:
    """The first rows with their headers, and the rows above; what a header spoils is tried with more header rows."""
    titles = _count_title_rows(path, place, form)
    for header_rows in (1, 2, 3, 4):
        settings = TableSource(file=Path(place), patient_id="?", skip_rows=titles, header_rows=header_rows, **form)
        try:
            with _open(path, settings, place) as source:
                width = max(map(len, source.header), default=0)
                count = max(50, min(LOOKED_AT, LOOKED_AT_CELLS // max(width, 1)))
                rows = islice(source.rows(range(width)), count)
                body = [tuple(row) for _, row in rows]
                return [(*row, *[""] * (width - len(row))) for row in source.header] + body, titles
        except SiteError as error:
            if header_rows == 4 or "merged cells" not in str(error):
                raise
    raise AssertionError


def _count_title_rows(path: Path, place: str, form: Mapping[str, Any]) -> int:
    """How many rows from the top are blank, or hold a title or a date in their first two cells, above a wider row."""
    settings = TableSource(file=Path(place), patient_id="?", header_rows=MAX_TITLE_ROWS + 1, **form)
    with _open(path, settings, place) as source:
        ends = [max((at for at, cell in enumerate(row, 1) if cell), default=0) for row in source.header]
    return next((row for row, end in enumerate(ends) if end > TITLE_CELLS), 0)


def _open(path: Path, settings: TableSource, place: str) -> AbstractContextManager[Source]:
    if path.suffix.lower() == ".xlsx":
        return open_workbook(path, settings, place)
    return open_parquet([path], place) if path.suffix.lower() == ".parquet" else open_text(path, settings, place)


def _table(raw: Sequence[Texts], form: dict[str, Any], decimal: str, header_rows: int = 0) -> Iterator[DiscoveredTable]:
    """The table of some rows; nothing where there is but one column, or no row."""
    rows = header_rows or count_header_rows(raw, decimal)
    heads, body = header_columns(raw[:rows]), [row for row in raw[rows:] if any(row)]
    if len(heads) < 2 or not body:
        return
    named = by_name(heads)
    columns: dict[str, Texts] = {}
    for position, cells in enumerate(heads):
        texts = tuple(row[position] if position < len(row) else "" for row in body)
        reference = next((name for name in _names(cells) if named.get(name) == [position]), "")
        if reference:
            columns[reference] = texts
    yield DiscoveredTable("", form | ({"header_rows": rows} if rows > 1 else {}), decimal, columns)


def _names(cells: Sequence[str]) -> Iterator[str]:
    """A column's own name before its group and its note."""
    own = cells[1] if len(cells) > 1 else cells[0]
    yield from filter(None, (own, *cells))
    yield " / ".join(filter(None, cells[:2]))
    yield " / ".join(filter(None, cells))


def _identified(tables: Sequence[DiscoveredTable]) -> list[DiscoveredTable]:
    """The tables with the column that says who a row is: one value a row, and the same people in other tables."""
    looked_at = [dict(_possible_identifiers(table)) for table in tables]
    everywhere = [{frozenset(texts) for texts in columns.values() if _distinct(texts)} for columns in looked_at]

    def score(index: int, name: str, texts: Texts) -> float:
        others = [people for at, sets in enumerate(everywhere) if at != index for people in sets]
        shared = max((len(people & set(texts)) / len(set(texts)) for people in others), default=0.0)
        hint = 2.0 * bool(IDENTIFIER & set(words(name)))
        return hint + 2.0 * shared + 1.0 * (name == next(iter(tables[index].columns)))

    identified = []
    for index, (table, columns) in enumerate(zip(tables, looked_at, strict=True)):
        unique = {name: score(index, name, texts) for name, texts in columns.items() if _distinct(texts)}
        full = {n: score(index, n, t) for n, t in columns.items() if all(t) and IDENTIFIER & set(words(n))}
        best = max(unique, key=lambda name: unique[name], default="")
        often = max(full, key=lambda name: full[name], default="")
        if best and unique[best] >= 1:
            identified.append(replace(table, patient_id=best))
        elif often:
            identified.append(replace(table, patient_id=often, several=True))
        else:
            identified.append(table)
    return identified


def _under_the_same_name(tables: Sequence[DiscoveredTable]) -> list[DiscoveredTable]:
    """The tables, of which one that has an identifier of another's name, and in each row, has it too."""
    known = {table.patient_id for table in tables} - {""}
    named = {table: [name for name in table.columns if name in known and all(table.columns[name])] for table in tables}
    return [
        table if table.patient_id or not names else replace(table, patient_id=names[0], several=True)
        for table, names in named.items()
    ]


def _possible_identifiers(table: DiscoveredTable) -> Iterator[tuple[str, Texts]]:
    for position, (name, texts) in enumerate(table.columns.items()):
        if position < FIRST_COLUMNS or IDENTIFIER & set(words(name)):
            yield name, texts


def _distinct(texts: Texts) -> bool:
    return all(texts) and len(set(texts)) == len(texts) and not any(_NO_IDENTIFIER.search(text) for text in texts)
