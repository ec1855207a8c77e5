"""Statistics of test patients by subgroup, as arrays that add up over sites.

Of each subgroup and each target there are patients by outcome, and in a sum over sites what is counted of all patients
but the table of times by scores, whose size would be multiplied; the C-index is of pairs within sites. One site by
itself tells only what no difference to its totals makes exact: subgroups of enough patients of each outcome, small ones
being counted with the others, and pairs in steps; no scores in bins, since those of a subgroup that is withheld would
follow from those of all and of the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shared_models.description import count_outcomes, outcome_names
from shared_models.metrics.arrays import Array, CoarseStatistic, PooledMetrics, TargetStatistic, from_arrays
from shared_models.metrics.regression import RegressionSums
from shared_models.metrics.summary import Summary, Values, empty_summary, pack_summary, pooled_metrics, summarise
from shared_models.metrics.survival import ConcordanceTable
from shared_models.metrics.within_site import WithinSitePairs
from shared_models.subgroups import Grouping
from shared_models.targets import Binary, Target, TimeToEvent

if TYPE_CHECKING:
    from shared_models.task import Task

PREFIX = "subgroups"
Arrays = dict[str, np.ndarray[Any, Any]]


def count_by_subgroup(
    task: Task,
    scores: Mapping[str, Values],
    truths: Mapping[str, Values],
    subgroups: Mapping[str, NDArray[np.int64]],
    *,
    summed: bool,
) -> Arrays:
    """The statistics of N patients.

    Args:
        task: The study's.
        scores: By target, `(N,)` or `(N, K)`.
        truths: By target, `(N,)` or `(N, 2)`.
        subgroups: By column, each patient's subgroup, `(N,)`.
        summed: Whether they leave in sums over sites only.
    """
    arrays: Arrays = {}
    for column, grouping in enumerate(task.subgroups):
        for name in scores:
            target, outcomes = task.targets[name], []
            for index in range(len(grouping.all_names)):
                inside = subgroups[grouping.feature.name] == index
                counted = _released(summarise(target, scores[name][inside], truths[name][inside]), summed=summed)
                arrays |= pack_summary(counted, _prefix(column, index, name))
                outcomes.append(count_outcomes(target, truths[name][inside]))
            arrays[_outcomes(column, name)] = np.stack(outcomes)
    return arrays


def empty_statistics(task: Task, *, summed: bool) -> Arrays:
    """The zero of the sum, and the shapes that a site's answer must have."""
    arrays: Arrays = {}
    for column, grouping in enumerate(task.subgroups):
        for name, target in task.targets.items():
            for index in range(len(grouping.all_names)):
                arrays |= pack_summary(_released(empty_summary(target), summed=summed), _prefix(column, index, name))
            arrays[_outcomes(column, name)] = np.zeros((len(grouping.all_names), len(outcome_names(target))))
    return arrays


def read_subgroups(arrays: Mapping[str, np.ndarray[Any, Any]], task: Task, *, summed: bool) -> Arrays:
    """Those of a site's arrays that are of subgroups, checked.

    Raises:
        ValueError: If an array is missing, of another shape, negative where it counts, or not finite.
    """
    read: Arrays = {}
    zeros = empty_statistics(task, summed=summed)
    for column, _, name, target in _each(task):
        like = zeros[key := _outcomes(column, name)]
        counts = np.asarray(arrays.get(key, np.empty(0)), dtype=np.float64)
        if counts.shape != like.shape or not np.isfinite(counts).all() or (counts < 0).any():
            msg = f"{key} is missing, or holds no counts of shape {like.shape}"
            raise ValueError(msg)
        read[key] = counts
        for index in range(len(like)):
            read |= pack_summary(
                _summary(arrays, _prefix(column, index, name), target, summed), _prefix(column, index, name)
            )
    return read


def add_subgroups(parts: Iterable[Arrays], task: Task, *, summed: bool) -> Arrays:
    """All of them together."""
    total = empty_statistics(task, summed=summed)
    for part in parts:
        total = {key: np.asarray(array + part[key]) for key, array in total.items()}
    return total


def metrics_by_subgroup(
    arrays: Arrays, task: Task, name: str, threshold: float, *, summed: bool
) -> Iterator[tuple[Grouping, str, PooledMetrics]]:
    """One target's metrics in each subgroup, each with the column and the subgroup's name.

    Args:
        arrays: Added up.
        task: The study's.
        name: The target's.
        threshold: Its decision threshold.
        summed: Whether they are sums over sites.
    """
    target = task.targets[name]
    for column, grouping in enumerate(task.subgroups):
        for index, subgroup in enumerate(grouping.all_names):
            counts = _counts(target, arrays[_outcomes(column, name)][index])
            summary = _summary(arrays, _prefix(column, index, name), target, summed)
            yield grouping, subgroup, pooled_metrics(summary, threshold) | counts


def _counts(target: Target, outcomes: Array) -> PooledMetrics:
    """Patients whose outcome is known, and which it is."""
    known = outcomes[:-1]
    counts: PooledMetrics = {"patients": float(known.sum())}
    if isinstance(target, Binary):
        counts["positives"] = float(known[1])
    if isinstance(target, TimeToEvent):
        names = ("events_by_horizon", "free_at_horizon", "censored_before_horizon")
        counts |= dict(zip(names, map(float, known), strict=True))
    return counts


def releasable_subgroups(outcomes: Array, least: float) -> NDArray[np.bool_]:
    """Which of L subgroups one site may tell of by itself, `(L,)`; it counts the rest with the others.

    Those with a few patients of an outcome are not; nor is the smallest of the remaining ones, as long as the others
    would be few: they would follow from the totals.

    Args:
        outcomes: `(L + 1, K)` patients by outcome, the others last; the last outcome is that it is not known.
        least: Fewest patients of an outcome, if there are any.

    Example:
        >>> releasable_subgroups(np.array([[30.0, 20, 0], [40, 3, 0], [25, 25, 0], [0, 8, 0]]), 10).tolist()
        [True, False, True]
    """
    known = outcomes[:, :-1]
    sizes = known[:-1].sum(axis=1)
    releasable = ~_few(known[:-1], least)
    while releasable.any():
        rest = known[-1] + known[:-1][~releasable].sum(axis=0)
        if not _few(rest[None], least)[0]:
            break
        releasable[np.argmin(np.where(releasable & (sizes > 0), sizes, np.inf))] = False
        if not (releasable & (sizes > 0)).any():
            releasable[:] = False
    return releasable


def _few(counts: Array, least: float) -> NDArray[np.bool_]:
    return np.asarray(((counts > 0) & (counts < least)).any(axis=1))


def subgroups_without_small_cells(arrays: Arrays, task: Task, least: float) -> Arrays:
    """One site's statistics as it may send them outside of secure aggregation."""
    sent = dict(empty_statistics(task, summed=False))
    for column, grouping, name, target in _each(task):
        outcomes = arrays[_outcomes(column, name)]
        releasable = releasable_subgroups(outcomes, least)
        if not releasable.any() and _few(outcomes[:, :-1].sum(axis=0, keepdims=True), least)[0]:
            continue
        released = np.zeros_like(outcomes)
        others: Summary = {}
        for index in range(len(grouping.all_names)):
            summary = _summary(arrays, _prefix(column, index, name), target, summed=False)
            if index < len(releasable) and releasable[index]:
                released[index, :-1] = outcomes[index, :-1]
                sent |= pack_summary(_coarse(summary, least), _prefix(column, index, name))
            else:
                released[-1, :-1] += outcomes[index, :-1]
                others = {key: others[key] + one for key, one in summary.items()} if others else summary
        sent |= pack_summary(_coarse(others, least), _prefix(column, len(releasable), name))
        sent[_outcomes(column, name)] = released
    return sent


def outcomes_by_subgroup(arrays: Arrays, column: int, target: str) -> Array:
    """Patients of a target by subgroup of a column and outcome, `(L + 1, K)`."""
    return np.asarray(arrays[_outcomes(column, target)])


def _coarse(summary: Summary, least: float) -> Summary:
    coarse: Summary = {}
    for name, statistic in summary.items():
        assert isinstance(statistic, CoarseStatistic)
        coarse[name] = statistic.without_small_cells(least)
    return coarse


def _released(summary: Summary, *, summed: bool) -> Summary:
    return {name: statistic for name, statistic in summary.items() if _may_leave(statistic, summed=summed)}


def _may_leave(statistic: TargetStatistic, *, summed: bool) -> bool:
    if isinstance(statistic, ConcordanceTable):
        return False
    return summed or isinstance(statistic, WithinSitePairs | RegressionSums)


def _summary(arrays: Mapping[str, np.ndarray[Any, Any]], prefix: str, target: Target, summed: bool) -> Summary:
    zeros = _released(empty_summary(target), summed=summed)
    return {name: from_arrays(type(zero), arrays, f"{prefix}.{name}", like=zero) for name, zero in zeros.items()}


def _each(task: Task) -> Iterator[tuple[int, Grouping, str, Target]]:
    for column, grouping in enumerate(task.subgroups):
        for name, target in task.targets.items():
            yield column, grouping, name, target


def _prefix(column: int, index: int, target: str) -> str:
    return f"{PREFIX}.{column}.{index}.{target}"


def _outcomes(column: int, target: str) -> str:
    return f"{PREFIX}.{column}.outcomes.{target}"
