"""The cohort's rows in each of the site's tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from client.cohort.near_misses import NearMiss, near_miss_warnings, near_misses
from client.cohort.subgroup_columns import subgroup_columns
from client.config.site import PublishedSplit, Selection, SiteConfig
from client.contract.cells import Cells
from client.contract.columns import Code, Column
from client.contract.paths import Instance
from client.errors import SiteError, named_rows
from client.tables.read import Table, read_table
from client.tables.source import extracted
from client.tables.values import normal_code, without_missing
from shared_models.task import Task


@dataclass(frozen=True)
class CohortRows:
    """Who belongs to the cohort, and where each of them is in the site's tables.

    A row of the cohort is a patient, or, at a site with `instances`, one of the patient's lesions or views.

    Attributes:
        site: The site's settings.
        patients: The N patients, in the order of the patients table.
        known: Everybody in the patients table, before `include`.
        tables: The tables that the study needs.
        owner: `(R,)` the patient of each row, ascending; a patient without instances has one row of nothing.
        keys: The R rows' patients and instances.
        positions: For each table, `(R,)` positions of the rows in it, -1 for none.
        near_misses: Rows that are not used, since their identifiers nearly fit.
        may_lack: Whether a column may be empty for all of them, as for a few new patients.
    """

    site: SiteConfig
    patients: tuple[str, ...]
    known: frozenset[str]
    tables: Mapping[str, Table]
    owner: NDArray[np.int64]
    keys: tuple[Instance, ...]
    positions: Mapping[str, NDArray[np.int64]]
    near_misses: Sequence[NearMiss] = ()
    may_lack: bool = False

    def __len__(self) -> int:
        return len(self.keys)

    def cells(self, column: Column | Selection | PublishedSplit, table: str = "") -> Cells:
        """The R rows' cells of a column; `table` is the default where the column names none."""
        source = self.tables[column.table or table or self.site.patients_table]
        if not isinstance(column, Column):
            return self._cells(source, column.column, source.settings.missing)
        missing = (*source.settings.missing, *column.missing)
        own = self._cells(source, column.column, missing, column.extract)
        if not column.since:
            return own
        start = self.tables[column.since_table] if column.since_table else source
        return replace(own, since=self._cells(start, column.since, (*start.settings.missing, *column.missing)))

    def _cells(self, table: Table, name: str, missing: Sequence[Code], extract: str = "") -> Cells:
        decimal, column, (positions, rows) = table.settings.decimal, table.cells[name], self._places[table.name]
        texts = [column[i] if i >= 0 else "" for i in positions]
        if extract:
            texts = [extracted(text, extract) for text in texts]
        return Cells(
            where=f"{table.where}, column {name!r}",
            texts=without_missing(texts, missing, decimal),
            rows=rows,
            decimal=decimal,
        )

    @cached_property
    def _places(self) -> dict[str, tuple[list[int], tuple[int, ...]]]:
        """Of each table, the positions of the R rows, and their numbers in the file."""
        lists = {name: table_rows.tolist() for name, table_rows in self.positions.items()}
        return {n: (at, tuple([self.tables[n].rows[i] if i >= 0 else 0 for i in at])) for n, at in lists.items()}

    def of_patients(self) -> tuple[CohortRows, NDArray[np.int64]]:
        """The first row of each patient, as what is the patient's stands in all of them, and which rows these are."""
        first = np.flatnonzero(np.diff(self.owner, prepend=-1))
        positions = {name: at[first] for name, at in self.positions.items()}
        keys = tuple(self.keys[row] for row in first)
        return replace(self, owner=self.owner[first], keys=keys, positions=positions), first

    @property
    def remarks(self) -> list[str]:
        """What a person should know of how the tables were read; no patient is named."""
        remarks = [f"{table.where}: {remark}" for table in self.tables.values() for remark in table.remarks]
        return remarks + near_miss_warnings(self.near_misses, self.tables, self.site.patients_table)

    @property
    def row_table(self) -> str:
        """The table whose rows are the cohort's, for messages."""
        return self.tables[_row_table(self.site)].where

    @property
    def row_numbers(self) -> tuple[int, ...]:
        """The R rows' numbers in that table's file, for messages; 0 for a patient without instances."""
        table = self.tables[_row_table(self.site)]
        return tuple(table.rows[i] if i >= 0 else 0 for i in self.positions[table.name])


def open_rows(site: SiteConfig, task: Task, *, may_lack: bool = False) -> CohortRows:
    """Reads the tables that the task needs and selects the cohort.

    Args:
        site: The site's settings.
        task: The task.
        may_lack: Whether a column may be empty for all patients.

    Raises:
        SiteError: If a table or column is missing, a patient appears twice in a table of patients, or none is left.
    """
    tables = {name: read_table(site, name, columns) for name, columns in needed_columns(site, task).items()}
    if site.split is not None:
        _check_one_part(tables[site.split.table or site.patients_table], site.split)
    several = site.instances.table if site.instances else ""
    first = {name: table.first_rows() if name == several else table.positions() for name, table in tables.items()}
    everybody = tuple(dict.fromkeys(tables[site.patients_table].patients))
    patients = _included(everybody, site, tables, first)
    if not patients:
        raise _empty(site, len(everybody))
    rows = _rows(tables[several], site, patients) if several else [(n, "", -1) for n in range(len(patients))]
    owner = np.asarray([patient for patient, _, _ in rows], dtype=np.int64)
    positions = {
        name: np.asarray([rows_of.get(patient, -1) for patient in patients], dtype=np.int64)[owner]
        for name, rows_of in first.items()
    }
    if several:
        positions[several] = np.asarray([position for _, _, position in rows], dtype=np.int64)
    near = near_misses(tables, site.patients_table)
    for name, position in positions.items():
        if (position < 0).all():
            raise _strangers(tables[name], tables[site.patients_table], len([one for one in near if one.table == name]))
    keys = tuple(Instance(patients[patient], instance) for patient, instance, _ in rows)
    return CohortRows(site, patients, frozenset(everybody), tables, owner, keys, positions, near, may_lack)


def _rows(table: Table, site: SiteConfig, patients: Sequence[str]) -> list[tuple[int, str, int]]:
    """`(patient, instance, position in the table)` of each instance; one without a position where there is none."""
    assert site.instances is not None
    names = table.cells[site.instances.column] if site.instances.column else [""] * len(table.patients)
    by_patient: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for position, (patient, name) in enumerate(zip(table.patients, names, strict=True)):
        by_patient[patient].append((name, position))
    if site.instances.column:
        _check_distinct(table, site.instances.column, by_patient)
    nothing = [("", -1)]
    return [
        (number, instance, position)
        for number, patient in enumerate(patients)
        for instance, position in by_patient.get(patient, nothing)
    ]


def _check_distinct(table: Table, column: str, by_patient: Mapping[str, list[tuple[str, int]]]) -> None:
    twice = []
    for instances in by_patient.values():
        names = [name for name, _ in instances]
        twice += [table.rows[position] for index, (name, position) in enumerate(instances) if name in names[:index]]
    if twice:
        raise SiteError(
            what="two rows of a patient have the same name",
            where=f"{table.where}, column {column!r}",
            found=f"a name that the patient has already in {named_rows(twice)}",
            expected="a name of its own for each lesion or view of a patient",
            fix="correct the names, or leave `instances.column` out if no file is named by it",
            public="one of the site's tables holds a row twice",
        )


def _row_table(site: SiteConfig) -> str:
    return site.instances.table if site.instances else site.patients_table


def needed_columns(site: SiteConfig, task: Task) -> dict[str, list[str]]:
    """The columns to read from each table: the cohort's own, and what the site maps of the task."""
    needed: dict[str, list[str]] = defaultdict(list)
    needed[site.patients_table] = []
    for part in (site.include, site.split):
        if part is not None:
            needed[part.table or site.patients_table].append(part.column)
    if site.instances is not None:
        volume = site.instances.volume
        needed[site.instances.table] += [site.instances.column] if site.instances.column else []
        for table, column in volume.places(site.instances.table) if volume else ():
            needed[table].append(column)
    for name, kind in task.modalities.items():
        reader = site.modalities.get(name)
        if reader is not None and isinstance(kind, reader.supported_kinds):
            for table, column in reader.columns(cast(Any, kind)):
                needed[table or site.patients_table].append(column)
    for table, column in subgroup_columns(site, task):
        needed[table or site.patients_table].append(column)
    for name in task.targets:
        for outcome in site.targets[name].columns if name in site.targets else ():
            for table, column in outcome.places(site.patients_table):
                needed[table].append(column)
    return needed


def _included(
    everybody: tuple[str, ...],
    site: SiteConfig,
    tables: Mapping[str, Table],
    positions: Mapping[str, Mapping[str, int]],
) -> tuple[str, ...]:
    """Those whose row has one of the values of `include`; all of them without one."""
    if site.include is None:
        return everybody
    table = tables[site.include.table or site.patients_table]
    decimal, row_of, cells = table.settings.decimal, positions[table.name], table.cells[site.include.column]
    wanted = {normal_code(value) for value in site.include.values}
    return tuple(one for one in everybody if one in row_of and normal_code(cells[row_of[one]], decimal) in wanted)


def _check_one_part(table: Table, split: PublishedSplit) -> None:
    seen: dict[str, tuple[str, int]] = {}
    pairs = []
    for patient, row, text in zip(table.patients, table.rows, table.cells[split.column], strict=True):
        part, first = seen.setdefault(patient, (text, row))
        if part != text:
            pairs.append(f"rows {first} and {row}")
    if pairs:
        raise SiteError(
            what="a patient appears in more than one split",
            where=f"{table.where}, column {split.column!r}",
            found=f"{'; '.join(pairs[:5])} put the same patient in different parts ({len(pairs)} in all)",
            expected="a part a patient",
            fix="correct the split; a patient in two splits would be tested on what was learned from them",
            public="a patient of the site appears in more than one split",
        )


def _empty(site: SiteConfig, everybody: int) -> SiteError:
    chosen = site.include
    return SiteError(
        "the site has no patients",
        where=f"table {site.patients_table!r} ({site.tables[site.patients_table].name})",
        found=f"{everybody} patients, none of them selected" if everybody else "no rows below the header",
        expected=f"{chosen.column!r} to be {' or '.join(map(str, chosen.values))}" if chosen else "a row a patient",
        fix="correct `include`" if chosen and everybody else "fill in the table, or correct `patients`",
        public="the site has no patients for this study",
    )


def _strangers(table: Table, patients: Table, near: int) -> SiteError:
    fix = "compare how the two files spell them"
    if near:
        fix = f"spell them alike: {near} would fit without leading zeros, capitals, blanks or signs"
    return SiteError(
        "a table has none of the site's patients",
        where=f"{table.where}, column {table.settings.patient_id!r}",
        found=f"{len(table.patients)} identifiers, none of them in {patients.where}",
        expected=f"the identifiers of column {patients.settings.patient_id!r} of {patients.where}",
        fix=fix,
        public="one of the site's tables holds none of its patients",
    )
