"""Gaps between a study and a site's tables, for the page on which the study is approved."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from client.checks.unmapped import advice
from client.cohort.outcomes import read_truth
from client.errors import SiteError
from client.readers.table import TableReader

if TYPE_CHECKING:
    from client.cohort.rows import CohortRows
    from shared_models.task import Task


def gaps(rows: CohortRows, task: Task) -> Iterator[str]:
    """Features and outcomes that are not mapped, and columns that the study cannot use; images are not read.

    An approval does not need what is missing here: another hospital may have it. But a site that learns of a code which
    is none of the study's only from the study's first message has no part in it.
    """
    for name, kind in task.tables.items():
        reader = rows.site.modalities.get(name)
        if not isinstance(reader, TableReader):
            continue
        try:
            read = reader.values(rows, kind.features)
        except SiteError as error:
            yield f"{name}: {_indented(error)}"
            continue
        if lacking := [one.name for one, mapped in zip(kind.features, read.mapped, strict=True) if not mapped]:
            what = f"{name}: {', '.join(lacking)} not mapped: missing for every patient"
            yield f"{what}; {advice(rows.site, task, name, lacking)}"
    for name, target in task.targets.items():
        try:
            unknown = bool(np.isnan(read_truth(rows, name, target)).all())
        except SiteError as error:
            yield f"outcome {name}: {_indented(error)}"
            continue
        if unknown:
            yield f"outcome {name}: unknown for every patient"


def _indented(error: SiteError) -> str:
    return error.summary.replace("\n", "\n  ")
