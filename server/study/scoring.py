"""Pooled metrics, best round and decision thresholds from the sites' additive statistics."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from shared_models.messages import Arrays
from shared_models.metrics.summary import pack_summary, total_summary
from shared_models.pooled_scores import Summaries as Summaries
from shared_models.pooled_scores import no_scores
from shared_models.pooled_scores import thresholds as thresholds
from shared_models.pooled_scores import unpack as unpack
from shared_models.study_settings import StudySettings
from shared_models.task import Task

log = logging.getLogger("server")


def pool(scores: Mapping[str, Arrays], task: Task, config: StudySettings) -> Summaries:
    """Adds up the sites' statistics of each target, given by site; one that fails its check is left out."""
    return total(readable(scores, task, config).values(), task, config)


def readable(scores: Mapping[str, Arrays], task: Task, config: StudySettings) -> dict[str, Summaries]:
    """The sites' statistics by site, without those that fail their check."""
    read = {}
    for site, arrays in scores.items():
        try:
            read[site] = unpack(arrays, task, config)
        except ValueError as error:
            log.warning("%s: its statistics are left out: %s", site, error)
    return read


def total(summaries: Iterable[Summaries], task: Task, config: StudySettings) -> Summaries:
    """Statistics of all patients together, from those of each site."""
    parts = [no_scores(task, config), *summaries]
    return {name: total_summary([part[name] for part in parts]) for name in task.targets}


def pack(summaries: Summaries) -> Arrays:
    """Summaries as named arrays, for a checkpoint."""
    arrays: Arrays = {}
    for name, summary in summaries.items():
        arrays |= pack_summary(summary, name)
    return arrays
