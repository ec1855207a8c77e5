"""Subgroup of each patient of a cohort, by columns that the site maps as it does features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from client.readers.table import TableReader
from shared_models.subgroups import Grouping
from shared_models.task import Table

if TYPE_CHECKING:
    from client.contract.protocols import Rows, Site
    from shared_models.task import Task


def reader_of(site: Site, task: Task, grouping: Grouping) -> TableReader | None:
    """The site's table that has the column: the study's first, then any other that maps the name."""
    name = grouping.feature.name
    study = [table for table, kind in task.tables.items() if any(each.name == name for each in kind.features)]
    for table in dict.fromkeys([*study, *site.modalities]):
        reader = site.modalities.get(table)
        if not isinstance(reader, TableReader) or not (table in study or name in reader.features):
            continue
        if reader.column(grouping.feature) is not None:
            return reader
    return None


def subgroup_columns(site: Site, task: Task) -> list[tuple[str, str]]:
    """The `(table, column)` pairs to read for subgroups."""
    readers = [(reader_of(site, task, grouping), grouping) for grouping in task.subgroups]
    return [pair for reader, grouping in readers if reader for pair in reader.columns(Table((grouping.feature,)))]


def read_subgroups(cohort_rows: Rows, task: Task, first: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """By column, each patient's subgroup `(N,)`; the others' where the site lacks the column or a patient a value.

    A patient of several lesions or views must have the same value in all that have one: else it is not known.

    Args:
        cohort_rows: The R rows.
        task: The study's.
        first: `(N + 1,)` where each patient's rows start.

    Raises:
        SiteError: If a cell cannot be read, or no patient has a value.
    """
    subgroups = {}
    for grouping in task.subgroups:
        reader = reader_of(cohort_rows.site, task, grouping)
        values = np.full(len(cohort_rows), np.nan)
        if reader is not None:
            values = reader.values(cohort_rows, [grouping.feature]).values[:, 0]
        lowest, highest = (
            each.reduceat(np.where(np.isnan(values), end, values), first[:-1])
            for each, end in ((np.minimum, np.inf), (np.maximum, -np.inf))
        )
        subgroups[grouping.feature.name] = grouping.divide(np.where(lowest == highest, lowest, np.nan))
    return subgroups
