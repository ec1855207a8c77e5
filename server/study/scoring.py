"""Pooled metrics, best round and decision thresholds from the sites' additive statistics."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from math import isnan

from shared_models.messages import Arrays
from shared_models.metrics.binary import ScoreHistogram
from shared_models.metrics.horizon import HorizonTable
from shared_models.metrics.summary import Summary, empty_summary, pack_summary, total_summary, unpack_summary
from shared_models.secure_aggregation.choice import uses_secure_aggregation
from shared_models.study_settings import StudySettings
from shared_models.task import Task

log = logging.getLogger("server")
Summaries = dict[str, Summary]


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
    parts = [_zeros(task, config), *summaries]
    return {name: total_summary([part[name] for part in parts]) for name in task.targets}


def pack(summaries: Summaries) -> Arrays:
    """Summaries as named arrays, for a checkpoint."""
    arrays: Arrays = {}
    for name, summary in summaries.items():
        arrays |= pack_summary(summary, name)
    return arrays


def unpack(arrays: Arrays, task: Task, config: StudySettings) -> Summaries:
    """The inverse of `pack`; of no patients where nothing was packed."""
    merged = not uses_secure_aggregation(config)  # what a site sends outside of secure aggregation is of merged cells
    if not arrays:
        return _zeros(task, config)
    return {name: unpack_summary(target, arrays, name, merged) for name, target in task.targets.items()}


def _zeros(task: Task, config: StudySettings) -> Summaries:
    """Statistics of no patients; what a site sends outside of secure aggregation is of merged cells."""
    merged = not uses_secure_aggregation(config)
    return {name: empty_summary(target, merged) for name, target in task.targets.items()}


def thresholds(validation: Summaries, rule: str) -> dict[str, tuple[float, str]]:
    """The decision threshold of each binary target and time to event: from pooled validation, never test patients.

    Where the validation patients are all of one class there is no best threshold, and it is 0.5.
    """
    chosen: dict[str, tuple[float, str]] = {}
    for name, summary in validation.items():
        for scores in summary.values():
            if isinstance(scores, ScoreHistogram | HorizonTable):
                histogram = scores.histogram() if isinstance(scores, HorizonTable) else scores
                value = histogram.threshold(rule)
                chosen[name] = (value, f"{rule}, pooled validation")
                if isnan(value):
                    chosen[name] = (0.5, "0.5: no validation patients of both classes")
    return chosen
