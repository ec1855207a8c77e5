"""Gene matrices for `init` whose columns are patients, as `data_mrna_*.txt` of cBioPortal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from client.onboarding.table_discovery import DiscoveredTable

MIN_PATIENTS = 0.5  # of the columns, which are named as patients of another table
PATIENT = "the header"  # in place of a column's name


def with_patients_in_rows(tables: Sequence[DiscoveredTable]) -> list[DiscoveredTable]:
    """The tables; one whose header names another one's patients is turned, and its rows are genes."""
    return [next((turned for other in tables if (turned := _turned(table, other))), table) for table in tables]


def _turned(table: DiscoveredTable, other: DiscoveredTable) -> DiscoveredTable | None:
    patients = [name for name in table.columns if name in other.patients]
    if other is table or len(patients) < max(3, MIN_PATIENTS * len(table.columns)):
        return None
    first = next(iter(table.columns))
    genes = table.columns[first]
    rows = dict(zip(genes, zip(*(table.columns[name] for name in patients), strict=True), strict=True))
    twice = {"duplicates": "mean"} if len(rows) < len(genes) else {}
    form = {**table.form, "genes": {"orientation": "genes_in_rows", **twice}}
    columns = {PATIENT: tuple(patients), **{gene: texts for gene, texts in rows.items() if gene}}
    return replace(table, form=form, columns=columns, patient_id=PATIENT, several=False)
