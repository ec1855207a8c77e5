"""Suspicions of a site's identifiers: lines that are no patients, and tables that know many others."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from client.checks.feature_column import FEW
from client.checks.suspicion import Suspicion, suspicion
from client.cohort.rows import CohortRows
from client.errors import named_rows
from client.onboarding.vocabulary import words
from client.tables.read import Table

NEARLY_ALL = 0.9  # of the identifiers, which have a digit
MAX_NOTES = 5
_TESTS = frozenset({"test", "dummy", "demo", "example", "muster", "prueba", "prova", "essai", "teste", "phantom"})
_TEST = re.compile("|".join(_TESTS), re.IGNORECASE)  # most identifiers name none
_LAST_PART = re.compile(r"[-_.: ][^-_.: ]+$")
MANY, LEAST = 0.1, 3  # of a table's rows, and of the patients


def identifier_warnings(cohort_rows: CohortRows) -> Iterator[Suspicion]:
    """What looks wrong in the identifiers, with what to do about it; it names rows, and no patient."""
    table = cohort_rows.tables[cohort_rows.site.patients_table]
    cells = [texts for name, texts in table.cells.items() if name != table.settings.patient_id]
    if rows := sorted({*_notes(table.patients, cells, table.rows), *_sums(table.patients, table.rows)}):
        text = (
            f"{table.where}: the identifier in {named_rows(rows)} is unlike all others, as in a line of notes, means "
            "or totals; if that is no patient, delete it"
        )
        yield suspicion(text, _of_cohort(rows, table, cohort_rows))
    if rows := [row for patient, row in zip(table.patients, table.rows, strict=True) if _names_a_test(patient)]:
        text = f"{table.where}: the identifier in {named_rows(rows)} names a test; if that is no patient, delete it"
        yield suspicion(text, _of_cohort(rows, table, cohort_rows) if len(rows) < len(table.rows) else [])
    for name, other in cohort_rows.tables.items():
        if name != cohort_rows.site.patients_table:
            yield from map(Suspicion, _strangers(other, cohort_rows))


def _of_cohort(rows: Sequence[int], table: Table, cohort_rows: CohortRows) -> list[int]:
    """The cohort's rows of the patients in some rows of a file."""
    wanted = set(rows)
    patients = {patient for patient, row in zip(table.patients, table.rows, strict=True) if row in wanted}
    return [row for row, key in enumerate(cohort_rows.keys) if key.patient in patients]


def _notes(patients: Sequence[str], cells: Sequence[Sequence[str]], rows: Sequence[int]) -> list[int]:
    """Rows that hold nothing but an identifier of another form, as a line of notes below a table."""
    forms: dict[str, list[int]] = {}
    for index, patient in enumerate(patients):
        forms.setdefault(_form(patient), []).append(index)
    empty = [same for same in forms.values() if cells and not any(texts[index] for index in same for texts in cells)]
    return [rows[index] for same in empty for index in same] if len(empty) < len(forms) else []


def _sums(patients: Sequence[str], rows: Sequence[int]) -> list[int]:
    """A few rows whose identifiers have no digit, or a sign of equality, where nearly all others are numbered."""
    odd = [row for patient, row in zip(patients, rows, strict=True) if "=" in patient or not re.search(r"\d", patient)]
    return odd if len(patients) >= FEW and len(odd) <= min(MAX_NOTES, (1 - NEARLY_ALL) * len(patients)) else []


def _strangers(table: Table, cohort_rows: CohortRows) -> Iterator[str]:
    """A table of which many rows belong to no patient, and many patients have no row: usually two spellings."""
    there, patients, known = set(table.patients), cohort_rows.patients, cohort_rows.known
    others = [(patient, row) for patient, row in zip(table.patients, table.rows, strict=True) if patient not in known]
    strangers = [row for _, row in others]
    lacking = sum(patient not in there for patient in patients)
    if len(strangers) >= max(LEAST, MANY * len(table.rows)) and lacking >= max(LEAST, MANY * len(patients)):
        samples = sum(_LAST_PART.sub("", patient) in known for patient, _ in others)
        cure = (
            "they are a patient's with more behind, as those of samples: choose one sample a patient by "
            "`patient_extract`, as ^(TCGA-..-....)-01 for primary tumours"
        )
        yield (
            f"{table.where}: {len(strangers)} of {len(table.rows)} identifiers are not in the patients table, as in "
            f"{named_rows(strangers)}, and {lacking} patients have no row here; "
            f"{cure if samples > len(others) / 2 else 'are they spelled alike?'}"
        )


def _names_a_test(identifier: str) -> bool:
    return _TEST.search(identifier) is not None and bool(
        _TESTS & {word.strip("0123456789") for word in words(identifier)}
    )


def _form(identifier: str) -> str:
    return re.sub(r"\d+", "0", re.sub(r"[^\W\d]+", "a", identifier))
