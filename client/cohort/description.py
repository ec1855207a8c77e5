"""Counts of a site's patients for a study's results, and a fingerprint of the data that they were read from."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from client.cache.row_files import RowFiles
from client.cohort.load import Cohort
from client.private_files import write_private
from shared_models.description import (
    DESCRIBED_PARTS,
    LEFT_OUT,
    PARTS,
    Description,
    count_outcomes,
    is_unknown,
    one_site_counts,
)
from shared_models.metrics.arrays import Array
from shared_models.task import Task

KEY_FILE = "fingerprint_key"
KEY_BYTES, SHOWN_DIGITS = 32, 16


def describe(cohort: Cohort, task: Task, least: int = 0) -> Description:
    """The cohort's patients by part of the split and outcome, who is in none and why, and their characteristics.

    Args:
        cohort: The site's.
        task: The study's.
        least: Of a column in which fewer differ from the commonest value there are no sums (`without_rare_values`).
    """
    return Description(
        outcomes={
            name: {
                part: one_site_counts(count_outcomes(target, cohort.truths[name][cohort.parts[part]])) for part in PARTS
            }
            for name, target in task.targets.items()
        },
        left_out={why: one_site_counts(count) for why, count in zip(LEFT_OUT, _left_out(cohort), strict=True)},
        excluded={
            name: one_site_counts(np.array([len({each.patient for each in cohort.excluded if each.modality == name})]))
            for name in task.modalities
        },
        tables={part: cohort.table_sums(task, cohort.parts[part], least) for part in DESCRIBED_PARTS},
    )


def _left_out(cohort: Cohort) -> tuple[Array, Array]:
    """Patients in no part of the split: without a known outcome, and of the others those without a modality."""
    inside = np.concatenate([cohort.parts[part] for part in PARTS])
    outside = np.setdiff1d(np.arange(len(cohort.patients)), inside)
    known = np.any([~is_unknown(truth[outside]) for truth in cohort.truths.values()], axis=0)
    return np.array([float((~known).sum())]), np.array([float(known.sum())])


def data_fingerprint(cohort: Cohort, task: Task, state_dir: Path, parts: Sequence[str] = PARTS) -> str:
    """Sixteen digits that are the same where the site reads the same values, outcomes and files, with the same parts.

    In whatever order the tables list the patients: a database has none, and a person may sort a workbook.

    They are a keyed hash (HMAC-SHA256) with a secret of the site, which never leaves: two studies on the same data have
    the same fingerprint, and no one else can tell by trying whether a patient is among them.
    """
    digest = hmac.new(_key(state_dir / KEY_FILE), digestmod=hashlib.sha256)
    for part in _contents(cohort, task, parts):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:SHOWN_DIGITS]


def _contents(cohort: Cohort, task: Task, parts: Sequence[str]) -> Iterator[bytes]:
    """Everything that a study is given of the site's patients, by identifier; of images the hash of their files."""
    order = np.argsort(np.array(cohort.patients))
    rows = cohort.rows(order)
    yield "\n".join(cohort.patients[patient] for patient in order).encode()
    yield np.diff(cohort.first)[order].tobytes()
    yield cohort.present[rows].tobytes()
    for name in sorted(task.modalities):
        values = cohort.inputs[name]
        if isinstance(values, RowFiles):  # a file's name is a hash of what it was made of
            files = (values.files[row] for row in rows)
            yield "\n".join(file.stem if file else "" for file in files).encode()
        else:
            yield np.ascontiguousarray(values[rows]).tobytes()
    for name in sorted(task.targets):
        yield np.ascontiguousarray(cohort.truths[name][order]).tobytes()
    for part in parts:
        yield np.isin(order, cohort.parts[part]).tobytes()


def _key(file: Path) -> bytes:
    if not file.exists():
        write_private(file, secrets.token_bytes(KEY_BYTES))
    return file.read_bytes()
