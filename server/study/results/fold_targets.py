"""Results of one target over a study's folds: statistics of folds that test different patients are added up."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from server.study.results.finished_fold import ALL_FOLDS, ROLES, Finished
from server.study.results.fold_means import Metrics, mean_metrics
from server.study.results.fold_subgroups import TestedSubgroups, subgroups_over_folds
from server.study.results.importance_section import ImportanceResults, importance_section, mean_importance
from server.study.results.rounding import rounded
from server.study.results.target_results import Role, between_sites
from server.study.results.targets_section import TargetResults
from shared_models.importance import Importance
from shared_models.metrics.arrays import Number
from shared_models.metrics.confusion_counts import ConfusionCounts, threshold_metrics
from shared_models.metrics.rates import rate_bounds
from shared_models.metrics.score_metrics import BESIDE_COUNTS
from shared_models.metrics.summary import Summary, pack_summary, pooled_metrics, total_summary
from shared_models.secure_aggregation.choice import uses_secure_aggregation
from shared_models.study_settings import StudySettings
from shared_models.task import Task

AT_THRESHOLD = (*threshold_metrics(ConfusionCounts(0, 0, 0, 0)), *BESIDE_COUNTS)
CELLS = ("tp", "fp", "tn", "fn")
BOUNDS = tuple(rate_bounds(ConfusionCounts(0, 0, 0, 0), ConfusionCounts(0, 0, 0, 0)))
"""Of the rates; those of weighted counts, as at a horizon, do not follow from the sums over folds."""


def target_over_folds(
    name: str,
    task: Task,
    finished: Sequence[Finished],
    config: StudySettings,
    own: Mapping[str, Mapping[str, Number]],
    trained: Collection[str],
) -> TargetResults:
    """One target's results over all folds.

    Args:
        name: The target's.
        task: The study's.
        finished: Its folds.
        config: Its settings.
        own: The target's metrics by site, over all folds.
        trained: The sites that train in every fold.
    """
    by_role = {role: _groups(role, finished, config) for role in ROLES}
    internal, external = (mean_metrics(_over(name, role, group) for group in by_role[role]) for role in ROLES)
    evaluating = any(site.role == "evaluate" for one in finished for site in one.results.sites)
    of_folds = [one.results.targets[name] for one in finished]
    tested: dict[str, list[TestedSubgroups]] = {
        role: [_tested_subgroups(name, group, role) for group in groups] for role, groups in by_role.items()
    }
    return TargetResults(
        threshold=None,
        threshold_source="" if any(one.threshold is None for one in of_folds) else "each fold's own",
        horizon_days=of_folds[0].horizon_days,
        internal=internal,
        external=external,
        pooled=mean_metrics(one.pooled for one in of_folds) if evaluating else internal,
        classes=of_folds[0].classes,
        survival={"internal": None, "external": None},
        subgroups=subgroups_over_folds(name, task, config, tested, hidden={*AT_THRESHOLD, *BOUNDS, *CELLS}),
        between_sites=between_sites(own, trained),
        importance={role: _lost(name, role, groups, task, config) for role, groups in by_role.items()},
    )


def _groups(role: Role, finished: Sequence[Finished], config: StudySettings) -> list[list[Finished]]:
    """The folds in groups that test different patients of a role."""
    each, leaves_sites_out = [[one] for one in finished], config.leave_out == "each"
    if role == "external":
        # sites that never train are tested in every fold: their statistics are not of other patients each time
        return [[*finished]] if leaves_sites_out and not config.never_train else each
    repeats = itertools.groupby(finished, lambda one: one.fold.repeat)
    return each if leaves_sites_out else [[*group] for _, group in repeats]


def _lost(
    name: str, role: Role, groups: Sequence[Sequence[Finished]], task: Task, config: StudySettings
) -> list[ImportanceResults]:
    """What a role's scores lose: pairs are of patients of the same fold and site, and add up over folds."""
    nothing = Importance.empty(task, config, merged=not uses_secure_aggregation(config))
    totals = [sum((one.lost[role] for one in group), start=nothing) for group in groups]
    return mean_importance(importance_section(name, total, task, config) for total in totals)


def _over(name: str, role: str, group: Sequence[Finished]) -> Metrics:
    """A role's metrics over some folds, from their added statistics; calls are by each fold's own threshold."""
    own: list[Metrics] = [getattr(one.results.targets[name], role) for one in group]
    if len(own) == 1:
        return own[0]
    also = [one.tested[ALL_FOLDS][name] for one in group if role == "internal"]
    metrics = pooled_metrics(total_summary([*(one.tested[role][name] for one in group), *also]), 0.5)
    if "tp" in metrics:
        late = any(map(_threshold_missing, also))
        undefined = {name: math.nan for name in AT_THRESHOLD if name in metrics}
        metrics |= undefined if late else _threshold_rates(own, metrics)
        metrics |= {name: math.nan for name in BOUNDS if name in metrics and (late or "event_probability" in metrics)}
    return rounded(metrics)


def _tested_subgroups(name: str, group: Sequence[Finished], role: Role) -> TestedSubgroups:
    """What a group of folds tells of one target by subgroup."""
    of_one_fold = group[0].results.targets[name].subgroups if len(group) == 1 else None
    parts = (role, ALL_FOLDS) if role == "internal" else (role,)  # only sites that train tell of all folds at once
    return TestedSubgroups(of_one_fold, [one.by_subgroup[part] for one in group for part in parts])


def _threshold_rates(own: Sequence[Metrics], known_metrics: Mapping[str, Any]) -> dict[str, float]:
    """Rates of calls over folds, each by its own threshold."""
    cells = np.array([[metrics.get(cell) or 0.0 for cell in CELLS] for metrics in own])
    counts = ConfusionCounts(*map(float, cells.sum(axis=0)))
    rates = threshold_metrics(counts) | {
        key: float(getattr(counts, key)) for key in BESIDE_COUNTS if key in known_metrics
    }
    return rates | {key: bound for key, bound in rate_bounds(counts, counts).items() if key in known_metrics}


def _threshold_missing(summary: Summary) -> bool:
    """Whether scores of a site are known only over all its folds, where each has a threshold of its own."""
    scores = {name: statistic for name, statistic in summary.items() if "tp" in statistic.metrics(0.5)}
    return any(np.any(array) for array in pack_summary(scores, "").values())
