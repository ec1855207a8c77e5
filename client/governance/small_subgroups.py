"""Disclosure control of subgroups: small ones are counted with others, and none leaves that follows from the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from shared_models.metrics.by_subgroup import (
    outcomes_by_subgroup,
    read_subgroups,
    releasable_subgroups,
    subgroups_without_small_cells,
)

if TYPE_CHECKING:
    from shared_models.messages import Arrays
    from shared_models.task import Task


def releasable_metrics(
    metrics: Mapping[str, Mapping[str, float]], counted: Arrays, task: Task, least: int
) -> dict[str, Mapping[str, float]]:
    """A site's own metrics, by target and by `TARGET/COLUMN.SUBGROUP`, without those of small subgroups.

    Args:
        metrics: As coarse as they may leave.
        counted: Statistics of the same patients by subgroup.
        task: The study's.
        least: The site's `policy.minimum_count`.
    """
    large_enough = {
        f"{name}/{column}.{index}"
        for column in range(len(task.subgroups))
        for name in task.targets
        for index in np.flatnonzero(releasable_subgroups(outcomes_by_subgroup(counted, column, name), least))
    }
    return {key: own for key, own in metrics.items() if key in task.targets or key in large_enough}


def counted_without_small_cells(counted: Arrays, task: Task, least: int) -> Arrays:
    """Statistics by subgroup as a site may send them outside of secure aggregation."""
    return subgroups_without_small_cells(read_subgroups(counted, task, summed=False), task, least)
