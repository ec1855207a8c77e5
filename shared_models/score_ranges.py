"""Ranges in which a study's validation scores lie: half of the bins of later scores divide them.

The center reads them off the summed counts of one round's validation scores and sends them with the next request, two
numbers for each score, the same to every site. Test patients have no say. They are counted in the very bins that the
threshold was chosen in, and so is everybody who is scored by the finished network; all folds of a study after the first
use the first one's, so that their counts add up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from shared_models.metrics.arrays import Array
from shared_models.metrics.binary import ScoreHistogram
from shared_models.metrics.one_versus_rest import OneVersusRest
from shared_models.metrics.scores import NARROWEST, RANGE_LIMIT, range_of
from shared_models.metrics.survival import ConcordanceTable
from shared_models.pooled_scores import Summaries
from shared_models.targets import Regression
from shared_models.task import Task

Arrays = Mapping[str, np.ndarray[Any, Any]]


def ranges_from(validation: Summaries) -> dict[str, Array]:
    """Where each target's validation scores lie, `(K, 2)` on the logit scale; none of targets without bins or patients.

    Args:
        validation: Summed over the sites.
    """
    by_target: dict[str, Array] = {}
    for name, summary in validation.items():
        for statistic in summary.values():
            ranges = [range_of(counts, before) for counts, before in _by_bin(statistic)]
            if ranges and None not in ranges:
                by_target[name] = np.array(ranges, dtype=np.float64)
    return by_target


def with_score_ranges(task: Task, ranges: Arrays) -> Task:
    """The task whose statistics count in bins of these ranges; itself without any.

    Raises:
        ValueError: If one is of no target that has scores in bins, or is no range.
    """
    targets = dict(task.targets)
    for name, array in ranges.items():
        target = targets.get(name)
        if target is None or isinstance(target, Regression) or array.shape != (target.scores, 2):
            msg = f"the range of scores of {name} has shape {array.shape}, and the study has no such target"
            raise ValueError(msg)
        low, high = array.astype(np.float64).T
        if not ((low >= -RANGE_LIMIT) & (high - low >= NARROWEST / 2) & (high <= RANGE_LIMIT)).all():
            msg = f"the range of scores of {name} is {array.tolist()}, expected two logits, the lower one first"
            raise ValueError(msg)
        targets[name] = replace(target, score_ranges=tuple((float(one[0]), float(one[1])) for one in array))
    return replace(task, targets=targets) if ranges else task


def _by_bin(statistic: object) -> list[tuple[Array, tuple[float, float] | None]]:
    """Patients in each bin of each score, and what the bins were made of; nothing of other statistics."""
    match statistic:
        case ScoreHistogram():
            return [(statistic.positives + statistic.negatives, statistic.score_range)]
        case ConcordanceTable():
            return [((statistic.events + statistic.censored).sum(axis=0), statistic.score_range)]
        case OneVersusRest():
            return [(one.positives + one.negatives, one.score_range) for one in statistic.histograms()]
        case _:
            return []
