"""Identifiers that nearly fit the patients table, listed beside the nearest in a file that stays at the site."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from client.contract.identifiers import loose_identifier
from client.errors import named_rows
from client.private_files import write_private, writing
from client.tables.read import Table

FILE = "near_identifiers.csv"
_HEAD = ("table", "row", "identifier", "nearest")


class NearMiss(NamedTuple):
    """A row whose identifier is a patient's but for zeros, capitals, blanks or signs; it stays at the site."""

    table: str
    row: int
    identifier: str
    nearest: str


def near_misses(tables: Mapping[str, Table], patients_table: str) -> list[NearMiss]:
    """Rows of other tables that nearly fit a patient without a row there, and patients who nearly are another one."""
    patients = tables[patients_table]
    nearest: dict[str, str] = {}
    pairs = []
    for patient, row in zip(patients.patients, patients.rows, strict=True):
        other = nearest.setdefault(loose_identifier(patient), patient)
        if other != patient:
            pairs.append(NearMiss(patients_table, row, patient, other))
    known = set(patients.patients)
    for name, table in tables.items():
        there = set(table.patients)
        for patient, row in zip(table.patients, table.rows, strict=True) if there - known else ():
            near = None if patient in known else nearest.get(loose_identifier(patient))
            if near and near not in there:
                pairs.append(NearMiss(name, row, patient, near))
    return pairs


def near_miss_warnings(misses: Sequence[NearMiss], tables: Mapping[str, Table], patients_table: str) -> list[str]:
    """A sentence on each table that has some; it names rows, and no patient."""
    warnings = []
    for name in dict.fromkeys(one.table for one in misses):
        rows = [one.row for one in misses if one.table == name]
        differ = "only in leading zeros, capitals, blanks or signs"
        what = (
            f"differ from another one's {differ}: they may be one patient"
            if name == patients_table
            else f"differ from a patient's {differ}, and are not used"
        )
        place = "columns " if tables[name].settings.genes_in_rows else ""
        listed = named_rows(rows).removeprefix("rows ").removeprefix("row ") if place else named_rows(rows)
        warnings.append(f"{tables[name].where}: {len(rows)} identifiers, in {place}{listed}, {what}; see {FILE}")
    return warnings


def write_near_misses(state_dir: Path, misses: Sequence[NearMiss]) -> None:
    """Writes the file, or removes it where there are none.

    Args:
        state_dir: The site's own folder.
        misses: The near misses.

    Raises:
        SiteError: If the folder cannot be written.
    """
    path = state_dir / FILE
    if not misses:
        with writing(path):
            path.unlink(missing_ok=True)
        return
    text = io.StringIO(newline="")
    csv.writer(text).writerows([_HEAD, *misses])
    write_private(path, text.getvalue())
