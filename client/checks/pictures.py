"""Pictures for the readiness report: a few patients' images with the outline of the tumour's mask."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client.checks.exam_list import is_unusual, remarks_of
from client.checks.readiness import Readiness
from client.cohort.parse import read_modality
from client.cohort.rows import CohortRows
from client.errors import SiteError
from client.imaging.planes import Picture, planes
from client.readers.exam_artefacts import ExamArtefacts
from client.readers.tiles import TilesReader
from shared_models.task import Volume

PATIENTS, MAX_UNUSUAL = 6, 200
# Without a study the voxels' size is not known.
SHOWN_SHAPE, SHOWN_SPACING_MM = (48, 72, 72), (2.0, 2.0, 2.0)

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class PatientPictures:
    """The planes of one patient's exam, for the page, which stays at the site.

    Attributes:
        patient: Who, with the lesion or view if there are several; empty where nothing looks wrong.
        remarks: What does.
        planes: The pictures.
    """

    patient: str
    remarks: tuple[str, ...]
    planes: tuple[Picture, ...]


def pictures(readiness: Readiness) -> dict[str, list[PatientPictures]]:
    """For each image modality the planes of the patients whose exam looks wrong, and of up to 6 by a seed."""
    return {
        name: shown
        for name, kind in readiness.task.modalities.items()
        if isinstance(kind, Volume)
        and (shown := [_of_patient(readiness, name, *one) for one in _chosen(readiness, name, kind)])
    }


def _of_patient(readiness: Readiness, name: str, row: int, array: Floats, kind: Volume) -> PatientPictures:
    assert readiness.cohort_rows is not None
    facts = readiness.exams.get(name, {}).get(row)
    remarks = remarks_of(facts) if facts else ()
    patient = " ".join(filter(None, readiness.cohort_rows.keys[row])) if remarks else ""
    return PatientPictures(patient, remarks, tuple(_planes(readiness, name, array, kind)))


def _planes(readiness: Readiness, name: str, array: Floats, kind: Volume) -> list[Picture]:
    assert readiness.cohort_rows is not None
    return list(planes(array, dataclasses.replace(kind, tiles=_are_tiles(readiness.cohort_rows, name))))


def _are_tiles(cohort_rows: CohortRows, name: str) -> bool:
    """Whether a modality is of tiles; without a study its kind does not say so."""
    return isinstance(cohort_rows.site.modalities[name], TilesReader)


def _chosen(readiness: Readiness, name: str, kind: Volume) -> Iterator[tuple[int, Floats, Volume]]:
    """Rows of the cohort and their arrays `(C, D, H, W)`, of a few patients, on the study's grid or one to look at."""
    cohort_rows, cohort = readiness.cohort_rows, readiness.cohort
    if cohort_rows is None or name not in readiness.present or name not in cohort_rows.site.modalities:
        return
    rows = _unusual_and_few(readiness, name, cohort_rows.owner)
    if cohort is not None:
        yield from ((row, np.asarray(cohort.inputs[name][row], dtype=np.float32), kind) for row in rows)
        return
    depth = kind.shape[1] if kind.shape[1] == 1 or _are_tiles(cohort_rows, name) else SHOWN_SHAPE[0]
    shape = (kind.shape[0], depth, *SHOWN_SHAPE[1:])
    kind = dataclasses.replace(kind, shape=shape, spacing_mm=SHOWN_SPACING_MM, field_of_view="tumour")
    with suppress(SiteError):  # what cannot be read is counted elsewhere
        chosen = _only(cohort_rows, rows)
        read = read_modality(chosen, name, kind, ExamArtefacts(chosen, {name: kind}))
        there = np.flatnonzero(read.present).tolist()
        yield from ((rows[at], np.array(read.values[at], dtype=np.float32), kind) for at in there)


def _unusual_and_few(readiness: Readiness, name: str, owner: NDArray[np.int64]) -> list[int]:
    """The rows whose exam looks wrong, up to many of them, and a few others by a seed."""
    present = np.flatnonzero(readiness.present[name])
    facts = readiness.exams.get(name, {})
    unusual = [int(row) for row in present if row in facts and is_unusual(facts[int(row)])][:MAX_UNUSUAL]
    return [*unusual, *(row for row in _few(owner, present) if row not in unusual)]


def _few(owner: NDArray[np.int64], rows: NDArray[np.int64]) -> list[int]:
    """One row each of a few patients, by a seed."""
    _, first = np.unique(owner[rows], return_index=True)
    chosen = np.random.default_rng(0).permutation(rows[first])[:PATIENTS]
    return [int(row) for row in sorted(chosen)]


def _only(cohort_rows: CohortRows, rows: list[int]) -> CohortRows:
    positions = {table: table_rows[rows] for table, table_rows in cohort_rows.positions.items()}
    keys = tuple(cohort_rows.keys[row] for row in rows)
    return dataclasses.replace(cohort_rows, owner=cohort_rows.owner[rows], keys=keys, positions=positions)
