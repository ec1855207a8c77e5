"""Reading of a cohort from a site's tables and files, before it is split: rows, labels, modalities, published split."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from client.cache.entry import Entry
from client.cache.row_files import RowFiles
from client.cohort.exclusions import Exclusion
from client.cohort.outcomes import read_truth
from client.cohort.rows import CohortRows, open_rows
from client.cohort.split_file import PARTS
from client.cohort.subgroup_columns import read_subgroups
from client.config.site import PublishedSplit, SiteConfig
from client.errors import ExitCode, SiteError, named_rows
from client.readers.exam_artefacts import ExamArtefacts
from client.readers.modality_data import ModalityData
from client.tables.values import mask_out_of_range, normal_code, numbers
from shared_models.task import Modality, Table, Task


def parse_cohort(site: SiteConfig, task: Task, may_lack: bool = False) -> Entry:
    """Reads a site's patients for a task, as the cache stores them.

    Args:
        site: The site's settings.
        task: The task, with the study's features.
        may_lack: Whether a column may be empty and no outcome known, as of a few new patients.

    Raises:
        SiteError: If the data cannot be used, or no outcome is known where one must be.
    """
    cohort_rows = open_rows(site, task, may_lack=may_lack)
    first = np.append(np.flatnonzero(np.diff(cohort_rows.owner, prepend=-1)), len(cohort_rows))
    truths = {name: read_truth(cohort_rows, name, kind) for name, kind in task.targets.items()}
    if truths and not has_known_outcome(truths).any() and not may_lack:
        raise _no_outcome(site, task)
    arrays: dict[str, NDArray[Any] | RowFiles] = {f"truth.{name}": truth for name, truth in truths.items()}
    exams = ExamArtefacts(cohort_rows, task.modalities)
    read = {name: read_modality(cohort_rows, name, kind, exams) for name, kind in task.modalities.items()}
    arrays |= {f"input.{name}": data.values for name, data in read.items()}
    present = np.stack([data.present for data in read.values()], axis=1)
    arrays |= {"present": present, "first": first, "sampling_weight": _sampling_weight(cohort_rows)}
    arrays |= {f"subgroup.{name}": each for name, each in read_subgroups(cohort_rows, task, first).items()}
    facts = {
        "patients": cohort_rows.patients,
        "published": _published_parts(cohort_rows, site.split) if site.split else None,
        "excluded": [
            Exclusion(*cohort_rows.keys[row], name, str(why))
            for name, data in read.items()
            for row, why in data.excluded.items()
        ],
        "exams": {
            name: {str(row): dataclasses.asdict(facts) for row, facts in data.facts.items()}
            for name, data in read.items()
            if data.facts
        },
        "warnings": list(dict.fromkeys(warning for data in read.values() for warning in data.warnings))
        + _without_modalities(present, first),
    }
    return Entry(facts, arrays)


def _without_modalities(present: NDArray[np.bool_], first: NDArray[np.int64]) -> list[str]:
    """A sentence on patients of whom there is nothing to learn from, if there are any."""
    empty = int((~np.logical_or.reduceat(present.any(axis=1), first[:-1])).sum()) if len(present) else 0
    who = "1 patient has" if empty == 1 else f"{empty} patients have"
    return [f"{who} none of the study's modalities: in no part of the split, not learned from"] if empty else []


def read_modality(cohort_rows: CohortRows, name: str, kind: Modality, exams: ExamArtefacts) -> ModalityData:
    """One modality of the R rows.

    Args:
        cohort_rows: The rows.
        name: The modality's.
        kind: What the study wants.
        exams: What the study needs of the rows' exams.

    Raises:
        SiteError: If it cannot be read.
    """
    reader = cohort_rows.site.modalities.get(name)
    if reader is not None:
        if not isinstance(kind, reader.supported_kinds):
            raise _wrong_reader(name, type(kind).__name__.lower(), reader.reader)
        return reader.read(cohort_rows, name, cast(Any, kind), exams)
    shape, absent = (len(cohort_rows), *kind.shape), np.zeros(len(cohort_rows), dtype=bool)
    if isinstance(kind, Table):
        return ModalityData(np.full(shape, np.nan, dtype=np.float32), absent)
    return ModalityData(RowFiles([None] * len(cohort_rows), kind.shape), absent)


def _sampling_weight(cohort_rows: CohortRows) -> NDArray[np.float64]:
    """`(R,)`: by the square root of the volume, so that a large lesion does not hide the others; else alike."""
    instances = cohort_rows.site.instances
    if instances is None or instances.volume is None:
        return np.ones(len(cohort_rows))
    cells = cohort_rows.cells(instances.volume, instances.table)
    volume = mask_out_of_range(numbers(cells, instances.volume), instances.volume)[0]
    known = volume[volume > 0]
    return np.sqrt(np.where(volume > 0, volume, np.median(known) if len(known) else 1.0))


def _published_parts(cohort_rows: CohortRows, split: PublishedSplit) -> list[str]:
    cells = cohort_rows.cells(split)
    parts = {normal_code(code): part for part in PARTS for code in getattr(split, part)}
    first = np.flatnonzero(np.diff(cohort_rows.owner, prepend=-1))
    assigned = [parts.get(normal_code(cells.texts[row], cells.decimal), "") for row in first]
    bad = [int(row) for row, part in zip(first, assigned, strict=True) if not part]
    if bad:
        texts = sorted({repr(cells.texts[index]) for index in bad})[:5]
        rows = [cells.rows[index] for index in bad if cells.rows[index]]
        raise SiteError(
            what="patients without a split in the published split",
            where=cells.where,
            found=f"{len(bad)} patients: {', '.join(texts)}" + (f" in {named_rows(rows)}" if rows else ""),
            expected=f"one of {', '.join(map(repr, parts))}",
            fix="list the code under `split`, or leave the patients out with `include`",
            public="the site's published split does not cover its patients",
        )
    return assigned


def has_known_outcome(truths: Mapping[str, NDArray[np.float32]]) -> NDArray[np.bool_]:
    """`(N,)`: whose outcome is known for at least one target."""
    return np.any([~np.isnan(truth.reshape(len(truth), -1)).any(axis=1) for truth in truths.values()], axis=0)


def _no_outcome(site: SiteConfig, task: Task) -> SiteError:
    mapped = [name for name in task.targets if name in site.targets]
    return SiteError(
        what="no patient's outcome is known",
        where=f"targets {', '.join(mapped)}" if mapped else "targets",
        found="empty cells and missing codes only" if mapped else f"targets {', '.join(site.targets)}",
        expected=f"an outcome for {' or '.join(task.targets)}",
        fix="check the columns and their missing codes" if mapped else "map one of the study's targets",
        public="no outcome of this study is known at the site",
        exit_code=ExitCode.DATA if mapped else ExitCode.STUDY,
    )


def _wrong_reader(name: str, kind: str, reader: str) -> SiteError:
    return SiteError(
        what="a modality has another reader than the study needs",
        where=f"modalities.{name}",
        found=f"reader: {reader}",
        expected=f"a reader that makes a {kind}",
        fix="correct the reader, or rename or remove the modality",
        public="the site's settings do not fit the study",
        exit_code=ExitCode.STUDY,
    )
