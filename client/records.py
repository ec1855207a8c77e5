"""The cohort's rows in each of the site's tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client.errors import SiteError
from client.site import Column, PublishedSplit, Selection, SiteConfig, TableReader
from client.tables import Table, read_table
from client.values import Cells, normal_code, without_missing
from shared_models.task import Task


@dataclass(frozen=True)
class Records:
    """Who belongs to the cohort, and where each of them stands in the site's tables.

    Attributes:
        site: The site's settings.
        patients: The N patients, in the order of the patients table.
        known: Everybody in the patients table, before `include`.
        tables: The tables that the study needs.
        rows: For each table, `(N,)` positions of the patients' rows, -1 for none.
    """

    site: SiteConfig
    patients: tuple[str, ...]
    known: frozenset[str]
    tables: Mapping[str, Table]
    rows: Mapping[str, NDArray[np.int64]]

    def cells(self, column: Column | Selection | PublishedSplit, table: str = "") -> Cells:
        """The cohort's cells of a column; `table` is the default where the column names none."""
        found = self.tables[column.table or table or self.site.patients_table]
        positions = self.rows[found.name]
        texts = found.cells[column.column]
        missing = (*found.settings.missing, *(column.missing if isinstance(column, Column) else ()))
        return Cells(
            where=f"{found.where}, column {column.column!r}",
            texts=without_missing((texts[i] if i >= 0 else "" for i in positions), missing, found.settings.decimal),
            rows=tuple(found.rows[i] if i >= 0 else 0 for i in positions),
            decimal=found.settings.decimal,
        )


def open_records(site: SiteConfig, task: Task) -> Records:
    """Reads the tables that the task needs and selects the cohort.

    Raises:
        SiteError: If a table or column is missing, a patient stands twice, or nobody is left.
    """
    tables = {name: read_table(site, name, columns) for name, columns in needed_columns(site, task).items()}
    if site.split is not None:
        _check_one_part(tables[site.split.table or site.patients_table], site.split)
    positions = {name: table.positions() for name, table in tables.items()}
    everybody = tables[site.patients_table].patients
    patients = tuple(patient for patient in everybody if _included(patient, site, tables, positions))
    if not patients:
        raise _empty(site, len(everybody))
    rows = {
        name: np.asarray([position.get(patient, -1) for patient in patients], dtype=np.int64)
        for name, position in positions.items()
    }
    for name, found in rows.items():
        if (found < 0).all():
            raise _strangers(tables[name], tables[site.patients_table])
    return Records(site, patients, frozenset(everybody), tables, rows)


def needed_columns(site: SiteConfig, task: Task) -> dict[str, list[str]]:
    """The columns to read from each table: the cohort's own, and what the site maps of the task."""
    needed: dict[str, list[str]] = defaultdict(list)
    needed[site.patients_table] = []
    for part in (site.include, site.split):
        if part is not None:
            needed[part.table or site.patients_table].append(part.column)
    for name, table in task.tables.items():
        reader = site.modalities.get(name)
        if isinstance(reader, TableReader):
            for feature in table.features:
                if column := reader.features.get(feature.name):
                    needed[column.table or reader.table or site.patients_table].append(column.column)
    for name in task.targets:
        for column in site.targets[name].columns if name in site.targets else ():
            needed[column.table or site.patients_table].append(column.column)
    return needed


def _included(
    patient: str, site: SiteConfig, tables: Mapping[str, Table], positions: Mapping[str, Mapping[str, int]]
) -> bool:
    if site.include is None:
        return True
    table = tables[site.include.table or site.patients_table]
    row = positions[table.name].get(patient, -1)
    wanted = {normal_code(value) for value in site.include.values}
    return row >= 0 and normal_code(table.cells[site.include.column][row], table.settings.decimal) in wanted


def _check_one_part(table: Table, split: PublishedSplit) -> None:
    seen: dict[str, tuple[str, int]] = {}
    pairs = []
    for patient, row, text in zip(table.patients, table.rows, table.cells[split.column], strict=True):
        part, first = seen.setdefault(patient, (text, row))
        if part != text:
            pairs.append(f"rows {first} and {row}")
    if pairs:
        raise SiteError(
            what="a patient stands in two parts of the split",
            where=f"{table.where}, column {split.column!r}",
            found=f"{'; '.join(pairs[:5])} put the same patient in different parts ({len(pairs)} in all)",
            expected="a part a patient",
            fix="correct the split; a patient in two parts would be tested on what was learned from them",
            public="a patient of the site stands in two parts of its split",
        )


def _empty(site: SiteConfig, everybody: int) -> SiteError:
    chosen = site.include
    return SiteError(
        "the site has no patients",
        where=f"table {site.patients_table!r} ({site.tables[site.patients_table].file})",
        found=f"{everybody} patients, none of them selected" if everybody else "no rows below the header",
        expected=f"{chosen.column!r} to be {' or '.join(map(str, chosen.values))}" if chosen else "a row a patient",
        fix="correct `include`" if chosen and everybody else "fill in the table, or correct `patients`",
        public="the site has no patients for this study",
    )


def _strangers(table: Table, patients: Table) -> SiteError:
    return SiteError(
        "a table has none of the site's patients",
        where=f"{table.where}, column {table.settings.patient_id!r}",
        found=f"{len(table.patients)} identifiers, none of them in {patients.where}",
        expected=f"the identifiers of column {patients.settings.patient_id!r} of {patients.where}",
        fix="compare how the two files spell them",
        public="one of the site's tables holds none of its patients",
    )
