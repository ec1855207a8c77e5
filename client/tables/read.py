"""Tables of a site as text cells, from CSV, TSV, XLSX, Parquet or SQL.

Only the columns that the site's YAML names are read into memory, so that an expression table of every gene stays small.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path

from client.contract.columns import TableSource
from client.contract.paths import inside_data_root
from client.contract.protocols import Site
from client.errors import SiteError
from client.tables.genes import read_genes
from client.tables.headers import by_name, column_position, header_columns
from client.tables.parquet import open_parquet, parquet_parts
from client.tables.source import MAX_BYTES, MAX_COLUMNS, PatientRows, Source, load_rows, unreadable
from client.tables.sql import open_query
from client.tables.text import open_text
from client.tables.unit_columns import unit_columns, unit_remarks
from client.tables.workbooks import open_workbook

_SUFFIXES = (".csv", ".tsv", ".txt", ".xlsx", ".xlsm", ".parquet")


@dataclass(frozen=True)
class Table:
    """The columns of one table that the site's YAML names.

    Attributes:
        name: Its name in the YAML.
        settings: Its entry in the YAML.
        patients: The R patients, one a row; a patient may appear twice.
        rows: The R row numbers in the file, from 1 and counting the header; column numbers where patients are in
            columns.
        cells: `column reference: R texts`, stripped, empty where the file has nothing.
        remarks: What a person should know of how it was read.
    """

    name: str
    settings: TableSource
    patients: tuple[str, ...]
    rows: tuple[int, ...]
    cells: Mapping[str, tuple[str, ...]]
    remarks: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """The table and its file, for messages."""
        return _where(self.name, self.settings)

    def first_rows(self) -> dict[str, int]:
        """The position of each patient's first row."""
        return {patient: index for index, patient in reversed(list(enumerate(self.patients)))}

    def positions(self) -> dict[str, int]:
        """The position of each patient's row.

        Raises:
            SiteError: If a patient appears twice.
        """
        position = self.first_rows()
        twice = [
            (self.rows[position[patient]], self.rows[index])
            for index, patient in enumerate(self.patients)
            if position[patient] != index
        ]
        if twice:
            unit = "column" if self.settings.genes_in_rows else "row"
            pairs = "; ".join(f"{unit}s {first} and {second}" for first, second in twice[:5])
            raise SiteError(
                what=f"a patient appears in two {unit}s",
                where=f"{self.where}, column {self.settings.patient_id!r}"
                if unit == "row"
                else f"{self.where}, header",
                found=f"{pairs} name the same patient ({len(twice)} such {'pair' if len(twice) == 1 else 'pairs'})",
                expected=f"a {unit} a patient",
                fix="keep the row of the diagnosis under study; where a row is a lesion or a view, set `instances`"
                if unit == "row"
                else "choose one sample a patient by `patient_extract`, as ^(TCGA-..-....)-01 for primary tumours",
                public="a patient appears twice in one of the site's tables",
            )
        return position


def read_table(site: Site, name: str, references: Iterable[str]) -> Table:
    """Reads the columns `references` of the site's table `name`.

    Raises:
        SiteError: If the file or a column cannot be found, or a row cannot be read.
    """
    settings, wanted = site.tables[name], list(dict.fromkeys(references))
    shared = _SHARED.get()
    if shared is None or settings.sql:
        return _read(site, name, settings, wanted)
    stamps = [(path, path.stat().st_mtime_ns if path.exists() else 0) for path in table_files(site, name)]
    key = repr((name, settings, wanted, stamps))
    if key not in shared:
        shared[key] = _read(site, name, settings, wanted)
    return shared[key]


_SHARED: ContextVar[dict[str, Table] | None] = ContextVar("tables that several sites share", default=None)


@contextmanager
def each_table_once() -> Iterator[None]:
    """Meanwhile keeps the tables that are read in memory, for the sites of a simulation that are parts of one table."""
    before = _SHARED.set({})
    try:
        yield
    finally:
        _SHARED.reset(before)


def _read(site: Site, name: str, settings: TableSource, wanted: list[str]) -> Table:
    where = _where(name, settings)
    try:
        with _open(site, name, settings, where) as source:
            if any(len(cells) > MAX_COLUMNS for cells in source.header):
                raise unreadable(where, f"more than {MAX_COLUMNS:,} columns", "a table of patients")
            if settings.genes:
                read = read_genes(site, settings, settings.genes, source, wanted, where)
            else:
                wanted = [settings.patient_id, *wanted]
                read = _read_columns(settings, source, wanted, where)
    except OSError as error:
        raise unreadable(where, f"{type(error).__name__}: {error}", "a file that can be read") from None
    columns = dict(zip(wanted, read.columns, strict=True))
    return Table(name, settings, read.patients, read.numbers, columns, (*source.remarks, *read.remarks))


def _read_columns(settings: TableSource, source: Source, wanted: Sequence[str], where: str) -> PatientRows:
    columns = header_columns(source.header)
    named = by_name(columns)
    positions = [column_position(reference, columns, named, where) for reference in wanted]
    units = unit_columns(wanted, named)
    read = load_rows(settings, source, positions[0], [*positions, *(at for _, at in units.values())], where)
    in_units = dict(zip(units, read.columns[len(positions) :], strict=True))
    remarks = unit_remarks(in_units, {column: name for column, (name, _) in units.items()})
    return replace(read, columns=read.columns[: len(positions)], remarks=tuple(remarks))


def table_files(site: Site, name: str) -> list[Path]:
    """The files of a table and of its genes; none for a query.

    Raises:
        SiteError: If one lies outside data_root.
    """
    settings = site.tables[name]
    genes = {"aliases_file": settings.genes.aliases_file, "sets": settings.genes.sets} if settings.genes else {}
    files = {"file": settings.file, **{f"genes.{key}": path for key, path in genes.items()}}
    inside = {key: inside_data_root(site, path, f"tables.{name}.{key}") for key, path in files.items() if path}
    return [path for key, file in inside.items() for path in _parts(site, file, f"tables.{name}.{key}")]


def _parts(site: Site, path: Path, place: str) -> list[Path]:
    """The file, or the Parquet files of a folder."""
    # os.path: Path.is_dir raises for a name that is too long
    parts = parquet_parts(path) if os.path.isdir(path) else []  # noqa: PTH112
    return [inside_data_root(site, part, place) for part in parts] or [path]


def _where(name: str, settings: TableSource) -> str:
    return f"table {name!r} ({settings.name})"


def _open(site: Site, name: str, settings: TableSource, where: str) -> AbstractContextManager[Source]:
    if settings.sql:
        return open_query(site, settings, where)
    assert settings.file is not None
    path, place = inside_data_root(site, settings.file, f"tables.{name}.file"), f"tables.{name}.file"
    if os.path.isdir(path) and (parts := parquet_parts(path)):  # noqa: PTH112
        return open_parquet([inside_data_root(site, part, place) for part in parts], where)
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        fix = "export it as one of these"
        raise unreadable(where, f"a file that ends in {path.suffix!r}", ", ".join(_SUFFIXES), fix)
    if not path.exists():
        raise _missing(path, name)
    if not path.is_file():  # a pipe would never end
        raise unreadable(where, "a folder" if path.is_dir() else "no regular file", "a file")
    if path.stat().st_size > MAX_BYTES:
        expected = f"at most {MAX_BYTES // 2**30} GiB"
        raise unreadable(
            where, f"{path.stat().st_size / 2**30:.1f} GiB", expected, "leave out columns that are not needed"
        )
    if suffix in {".xlsx", ".xlsm"}:
        return open_workbook(path, settings, where)
    return open_parquet([path], where) if suffix == ".parquet" else open_text(path, settings, where)


def _missing(path: Path, name: str) -> SiteError:
    files = sorted(file.name for file in path.parent.iterdir() if file.is_file()) if path.parent.is_dir() else []
    same = [file for file in files if file.casefold() == path.name.casefold()]
    alike = [file for file in files if Path(file).suffix.casefold() == path.suffix.casefold()]
    return SiteError(
        "a table's file is missing",
        where=f"tables.{name}.file",
        found=f"{', '.join((same or alike)[:5]) or 'no such files'} in {path.parent}",
        expected=str(path),
        fix=f"write it as the file is named, capitals too: {same[0]}"
        if same
        else "correct the name or data_root, or put the file there",
        public="one of the site's tables is missing",
    )
