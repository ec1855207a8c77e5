"""Disclosure control of what one site sends without secure aggregation: no cell holds fewer patients than allowed.

Scores, counts of outcomes and sums of features leave as `policy.minimum_count` lets them: small cells are merged with
their neighbours, what cannot be merged is not sent. How many patients there are, in each part and with each modality,
leaves as it is; a site's own metrics are the concern of `small_cells`. In sums over three sites or more
nothing is merged: the center sees no site's cells.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from client.governance.small_cells import STEP_PATIENTS, suppress_small_cells
from client.governance.small_subgroups import counted_without_small_cells, releasable_metrics
from shared_models.comparison import targets_compared
from shared_models.description import Description, withheld_if_small
from shared_models.features import Feature, FeatureStatistics
from shared_models.folds import FoldSettings
from shared_models.importance import PREFIX, Importance
from shared_models.messages import (
    EvaluateComparisonReply,
    EvaluateExternalReply,
    EvaluateTestReply,
    EvaluateValidationReply,
    Payload,
    PrepareReply,
    TrainReply,
)
from shared_models.metrics.arrays import Array
from shared_models.metrics.compared import Compared
from shared_models.metrics.merged_cells import group_small_classes, merged_cells
from shared_models.metrics.summary import merge_small_cells, pack_summary, unpack_summary
from shared_models.targets import Regression, Target, TimeToEvent

if TYPE_CHECKING:
    from client.config.policy import Policy
    from shared_models.messages import Arrays
    from shared_models.study_settings import StudySettings
    from shared_models.task import Task

P = TypeVar("P", bound=Payload)


def disclose(reply: P, task: Task, config: StudySettings, policy: Policy, *, summed: bool) -> P:
    """The reply as it may leave.

    Args:
        reply: What the handler gave.
        task: The study's.
        config: Its settings.
        policy: The site's; its `minimum_count` counts.
        summed: Whether it leaves in secure aggregation; then only the site's own metrics are coarsened.
    """
    least, changed = policy.minimum_count, dict[str, Any]()
    if isinstance(reply, EvaluateTestReply):
        for which in ("metrics", "personal", "out_of_fold"):
            changed[which] = {n: suppress_small_cells(exact, least) for n, exact in getattr(reply, which).items()}
        if task.subgroups:
            # of a site's own parts, one is without patients
            counted = {name: array + reply.external[name] for name, array in reply.test.items()}
            changed["metrics"] = releasable_metrics(changed["metrics"], counted, task, least)
    if not summed and isinstance(reply, EvaluateTestReply):
        changed["test"] = tested_without_small_cells(reply.test, task, config, least)
        changed["external"] = tested_without_small_cells(reply.external, task, config, least)
        if reply.all_folds:
            late, by_subgroup = reply.all_folds, counted_without_small_cells(reply.all_folds, task, least)
            changed["all_folds"] = scores_without_small_cells(late, task, least) | by_subgroup
    if isinstance(reply, EvaluateExternalReply):
        changed["metrics"] = {name: suppress_small_cells(exact, least) for name, exact in reply.metrics.items()}
        changed["external"] = tested_without_small_cells(reply.external, task, config, least)
    if not summed and isinstance(reply, EvaluateComparisonReply):
        compared = Compared.unpack(reply.compared, targets_compared(config))
        changed["compared"] = compared.without_small_cells(least).pack()
    if not summed and isinstance(reply, TrainReply | EvaluateValidationReply):
        changed["validation"] = scores_without_small_cells(reply.validation, task, least)
    if not summed and isinstance(reply, PrepareReply):
        targets, tables = task.targets, task.tables
        counts, features, in_fold = reply.counts.items(), reply.features.items(), isinstance(config, FoldSettings)
        changed["counts"] = {n: counts_without_small_cells(targets[n], c, least, in_fold=in_fold) for n, c in counts}
        changed["features"] = {n: features_without_small_cells(tables[n].features, f, least) for n, f in features}
        if in_fold:
            changed["features"] = {
                n: features_in_steps(tables[n].features, sums) for n, sums in changed["features"].items()
            }
    return replace(reply, **changed) if changed else reply  # type: ignore[type-var]


def tested_without_small_cells(tested: Arrays, task: Task, config: StudySettings, least: int) -> Arrays:
    """What leaves of test patients: scores, also by subgroup, their losses by changes of the input, who they are."""
    if not tested:
        return scores_without_small_cells(tested, task, least)
    described = description_without_small_cells(Description.unpack(tested, task), task, least).pack()
    by_subgroup = counted_without_small_cells(tested, task, least)
    released = scores_without_small_cells(tested, task, least) | described | by_subgroup
    if f"{PREFIX}.patients" not in tested:
        return released
    return released | Importance.unpack(tested, task, config).without_small_cells(task, least).pack()


def description_without_small_cells(description: Description, task: Task, least: int) -> Description:
    """Counts of patients without a small cell; of a part's outcomes all leave or none, since others are exact."""
    return Description(
        outcomes={
            target: {part: withheld_if_small(counts, least) for part, counts in parts.items()}
            for target, parts in description.outcomes.items()
        },
        left_out={why: withheld_if_small(counts, least) for why, counts in description.left_out.items()},
        excluded={name: withheld_if_small(counts, least) for name, counts in description.excluded.items()},
        tables={
            part: {
                name: features_without_small_cells(task.tables[name].features, sums, least)
                for name, sums in tables.items()
            }
            for part, tables in description.tables.items()
        },
    )


def scores_without_small_cells(scores: Arrays, task: Task, least: int) -> Arrays:
    """Each target's statistic of some patients, by name, as a statistic of merged cells."""
    sent: Arrays = {}
    for name, target in task.targets.items():
        sent |= pack_summary(merge_small_cells(target, unpack_summary(target, scores, name), least), name)
    return sent


def counts_without_small_cells(target: Target, counts: Array, least: int, *, in_fold: bool = False) -> Array:
    """Training patients by outcome, as `target.counts` gave them; the total stays exact, or nothing leaves.

    Outcomes of a fold leave in steps of several patients, as its columns do (`features_in_steps`). The sum of a
    continuous target always does: where all but one patient share a number, the exact sum would be that patient's.
    """
    if isinstance(target, Regression):
        patients, total = counts
        step = STEP_PATIENTS * target.scale
        return np.array([patients, _in_steps(total, step)]) if patients >= least else np.zeros_like(counts)
    if isinstance(target, TimeToEvent):
        return _intervals_without_small_cells(counts, least, in_fold=in_fold)
    grouped = group_small_classes(counts, least)
    return _counts_in_steps(grouped) if in_fold else grouped


def _counts_in_steps(counts: Array) -> Array:
    """Counts in steps of several patients, whose total stays exact; none that is 0 becomes another number."""
    order = np.argsort(counts, kind="stable")
    edges = _in_steps(np.cumsum(counts[order]), STEP_PATIENTS)
    edges[-1] = counts.sum()
    stepped = np.empty_like(counts)
    stepped[order] = np.diff(edges, prepend=0.0)
    return stepped


def _intervals_without_small_cells(counts: Array, least: int, *, in_fold: bool) -> Array:
    """`(2, K)` who survived and who failed in each interval: neither failures nor those lost in one are few."""
    survived, failed = counts
    there = survived[0] + failed[0]
    lost = np.append(np.maximum(survived[:-1] - survived[1:] - failed[1:], 0.0), survived[-1])
    if any(0 < part.sum() < least for part in (failed, lost)):
        return np.zeros_like(counts)
    failed, lost = _merged(failed, least), _merged(lost, least)
    if in_fold:
        failed, lost = np.split(_counts_in_steps(np.concatenate([failed, lost])), 2)
    before = np.concatenate([[0.0], np.cumsum(lost)[:-1]])
    return np.stack([there - np.cumsum(failed) - before, failed])


def _merged(counts: Array, least: int) -> Array:
    merged = np.zeros_like(counts)
    for cell in merged_cells(counts, least):
        merged[cell.middle] += cell.patients
    return merged


def features_without_small_cells(
    features: tuple[Feature, ...], statistics: FeatureStatistics, least: int
) -> FeatureStatistics:
    """Sums of a table's columns: none of a feature that fewer than `least` have, no rare category alone."""
    known, total, squares = statistics.known.copy(), statistics.total.copy(), statistics.squares.copy()
    start = 0
    for feature in features:
        columns = slice(start, start := start + len(feature.columns))
        if known[columns].max(initial=0.0) < least:
            known[columns] = total[columns] = squares[columns] = 0.0
        elif feature.categories:  # a sum of ones is a count
            total[columns] = squares[columns] = group_small_classes(total[columns], least)
    return FeatureStatistics(statistics.patients if statistics.patients >= least else 0.0, known, total, squares)


def features_in_steps(features: tuple[Feature, ...], statistics: FeatureStatistics) -> FeatureStatistics:
    """Sums of a table's columns in a fold, in steps of several patients.

    Those of two folds are over nearly the same patients, and their exact difference is a sum over the few who are in
    one of them; over many folds each patient's row follows. A number's step is that many deviations, rounded up to a
    power of two so that folds share it.
    """
    known = np.maximum(statistics.known, 1.0)
    spread = np.maximum(statistics.squares - statistics.total**2 / known, 0.0)
    is_category = np.repeat([bool(one.categories) for one in features], [len(one.columns) for one in features])
    deviation = np.where(is_category, 1.0, np.sqrt(spread / known))
    unit = np.where(deviation > 0, np.exp2(np.ceil(np.log2(np.where(deviation > 0, deviation, 1.0)))), 0.0)
    total = _in_steps(statistics.total, STEP_PATIENTS * unit)
    coarse = np.maximum(_in_steps(spread, STEP_PATIENTS * unit**2), STEP_PATIENTS * unit**2)
    counted = np.minimum(total, statistics.known)
    squares = np.where(is_category, counted, coarse + total**2 / known)
    return FeatureStatistics(statistics.patients, statistics.known, np.where(is_category, counted, total), squares)


def _in_steps(values: Array | float, step: Array | float) -> Array:
    return np.where(step > 0, np.rint(values / np.where(step > 0, step, 1.0)) * step, values)
