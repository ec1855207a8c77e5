"""Pooled scores without rows: sums of what the sites counted, checked before they are added."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from math import isnan
from typing import Literal

from server.study.exchange import Answer
from shared_models.messages import RESULTS, Arrays, unpack_arrays
from shared_models.metrics.binary import ScoreHistogram
from shared_models.metrics.summary import Summary, empty_summary, pack_summary, total_summary, unpack_summary
from shared_models.task import Task

log = logging.getLogger("server")
Summaries = dict[str, Summary]


def pool(answers: Sequence[Answer], part: str, task: Task) -> Summaries:
    """Adds up the sites' statistics of `part` for each target; an answer that fails its check is left out."""
    pooled: dict[str, list[Summary]] = {name: [empty_summary(target)] for name, target in task.targets.items()}
    for answer in answers:
        if answer.content is None:
            continue
        try:
            arrays = unpack_arrays(answer.content.array_records[RESULTS])
            if any(name.startswith(f"{part}.") for name in arrays):
                found = unpack(arrays, part, task)
                for name, summary in found.items():
                    pooled[name].append(summary)
        except (KeyError, ValueError) as error:
            log.warning("%s: its %s statistics are left out: %s", answer.site, part, error)
    return {name: total_summary(summaries) for name, summaries in pooled.items()}


def pack(summaries: Summaries, part: str) -> Arrays:
    """Summaries as named arrays, for a checkpoint."""
    arrays: Arrays = {}
    for name, summary in summaries.items():
        arrays |= pack_summary(summary, f"{part}.{name}")
    return arrays


def unpack(arrays: Arrays, part: str, task: Task) -> Summaries:
    """The inverse of `pack`; of no patients where nothing was packed."""
    if not arrays:
        return {name: empty_summary(target) for name, target in task.targets.items()}
    return {name: unpack_summary(target, arrays, f"{part}.{name}") for name, target in task.targets.items()}


def thresholds(validation: Summaries, rule: Literal["f1", "youden"]) -> dict[str, tuple[float, str]]:
    """The decision threshold of each binary target and where it comes from: pooled validation, never test patients.

    Where the validation patients are all of one class there is no best threshold, and it is 0.5.
    """
    chosen: dict[str, tuple[float, str]] = {}
    for name, summary in validation.items():
        for scores in summary.values():
            if isinstance(scores, ScoreHistogram):
                value = scores.threshold(rule)
                chosen[name] = (value, f"{rule}, pooled validation")
                if isnan(value):
                    chosen[name] = (0.5, "0.5: no validation patients of both classes")
    return chosen
