"""Pooled metrics, best round and decision thresholds from the sites' additive statistics."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Literal

from shared_models.messages import Arrays
from shared_models.metrics.arrays import from_arrays, to_arrays, total
from shared_models.metrics.binary import ScoreHistogram
from shared_models.metrics.summary import Summary, empty_summary
from shared_models.secure_sum_choice import uses_secure_sums
from shared_models.study_settings import StudySettings
from shared_models.task import Task

log = logging.getLogger("server")
Summaries = dict[str, Summary]


def pool(scores: Mapping[str, Arrays], task: Task, config: StudySettings) -> Summaries:
    """Adds up the sites' statistics of each target, given by site; one that fails its check is left out."""
    pooled = {name: [zero] for name, zero in _zeros(task, config).items()}
    for site, arrays in scores.items():
        try:
            own = unpack(arrays, task, config)
        except ValueError as error:
            log.warning("%s: its statistics are left out: %s", site, error)
            continue
        for name, summary in own.items():
            pooled[name].append(summary)
    return {name: total(summaries) for name, summaries in pooled.items()}


def pack(summaries: Summaries) -> Arrays:
    """Summaries as named arrays, for a checkpoint."""
    return {key: array for name, summary in summaries.items() for key, array in to_arrays(summary, name).items()}


def unpack(arrays: Arrays, task: Task, config: StudySettings) -> Summaries:
    """The inverse of `pack`; of no patients where nothing was packed."""
    zeros = _zeros(task, config)
    if not arrays:
        return zeros
    return {name: from_arrays(type(zero), arrays, name, like=zero) for name, zero in zeros.items()}


def _zeros(task: Task, config: StudySettings) -> Summaries:
    """Statistics of no patients; what a site sends outside a secure sum is of merged cells."""
    merged = not uses_secure_sums(config)
    return {name: empty_summary(target, merged) for name, target in task.targets.items()}


def thresholds(validation: Summaries, rule: Literal["f1", "youden"]) -> dict[str, tuple[float, str]]:
    """The cut of each yes/no target and where it comes from: pooled validation patients, never test patients."""
    cuts: dict[str, tuple[float, str]] = {}
    for name, summary in validation.items():
        if isinstance(summary, ScoreHistogram):
            both = 0 < summary.n_positive < summary.n
            cuts[name] = (
                (summary.threshold(rule), f"{rule}, pooled validation") if both else (0.5, "0.5, no validation")
            )
    return cuts
