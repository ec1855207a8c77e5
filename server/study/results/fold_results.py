"""Results of a study of several folds: what its folds counted, added up.

Where folds are parts of each site's patients, the statistics of a repeat's folds add up to those of all patients, each
scored by the network that was trained without that patient; of several repeats the mean is given. Where each site is
left out in turn, those of the left-out sites add up, and of the others the mean over folds is given.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

from server.study.results.aggregation_section import aggregation_section
from server.study.results.contents import Role, between_sites
from server.study.results.fold_means import mean_metrics, mean_number
from server.study.results.fold_subgroups import TestedSubgroups, subgroups_over_folds
from server.study.results.importance_section import ImportanceResults, importance_section, mean_importance
from server.study.results.privacy_section import privacy_section
from server.study.results.results_file import RESULTS, read_results
from server.study.results.rounding import rounded
from server.study.results.schema import SCHEMA_VERSION, FoldResults, Metric, Number, Results, SiteResults, TargetResults
from server.study.results.subgroups_section import pool_subgroups
from server.study.scoring import Summaries, pack, unpack
from server.study.study_files import writing
from server.study.weights.checkpoint import BEST, load_checkpoint, now
from shared_models.atomic_files import write_atomically
from shared_models.folds import Fold, fold_settings
from shared_models.importance import Importance
from shared_models.installation import hardware, software
from shared_models.messages import Arrays
from shared_models.metrics.confusion_counts import ConfusionCounts, threshold_metrics
from shared_models.metrics.rates import rate_bounds
from shared_models.metrics.summary import Summary, pack_summary, pooled_metrics, total_summary
from shared_models.score_ranges import with_score_ranges
from shared_models.secure_aggregation.choice import uses_secure_aggregation
from shared_models.study_settings import StudySettings
from shared_models.task import Task

TESTED = "tested.safetensors"
ALL_FOLDS = "all folds"
ROLES: tuple[Role, ...] = ("internal", "external")
TESTED_AS = (*ROLES, ALL_FOLDS)
AT_THRESHOLD = (*threshold_metrics(ConfusionCounts(0, 0, 0, 0)), "accuracy", "balanced_accuracy", "mcc")
CELLS = ("tp", "fp", "tn", "fn")
BOUNDS = tuple(rate_bounds(ConfusionCounts(0, 0, 0, 0), ConfusionCounts(0, 0, 0, 0)))
"""Of the rates; those of weighted counts, as at a horizon, do not follow from the sums over folds."""
Metrics = Mapping[str, Metric]


@dataclass(frozen=True)
class Finished:
    """A fold that has been tested.

    Attributes:
        fold: Which.
        results: Its own.
        tested: Its test patients' statistics, by role; and those of sites that tell of all their folds at once.
        by_subgroup: The same by subgroup.
        lost: What their scores lose with a part of the input changed, by role.
        score_ranges: What the bins of all these were made of.
    """

    fold: Fold
    results: Results
    tested: Mapping[str, Summaries]
    by_subgroup: Mapping[str, Arrays]
    lost: Mapping[str, Importance]
    score_ranges: Arrays = field(default_factory=dict)


def store_tested(
    tested: tuple[Summaries, Summaries, Summaries],
    by_subgroup: tuple[Arrays, Arrays, Arrays],
    lost: Mapping[Role, Importance],
    folder: Path,
) -> None:
    """Keeps the test patients' statistics of a fold beside its results.

    Args:
        tested: Those of the sites that train and of those that do not, of this fold; and those of sites that tell of
            all their folds at once, after the last one of a repeat.
        by_subgroup: The same by subgroup.
        lost: What their scores lose with a part of the input changed, by role.
        folder: The fold's.
    """
    by_role = zip(TESTED_AS, tested, by_subgroup, strict=True)
    arrays = {f"{role}:{name}": a for role, sums, also in by_role for name, a in {**pack(sums), **also}.items()}
    arrays |= {f"{role}:{name}": array for role, one in lost.items() for name, array in one.pack().items()}
    with writing(folder / TESTED):
        write_atomically(folder / TESTED, save(arrays))


def read_finished(fold: Fold, folder: Path, task: Task, config: StudySettings) -> Finished:
    """A fold that was tested, from its folder; `config` is the study's."""
    arrays: dict[str, dict[str, Any]] = {role: {} for role in TESTED_AS}
    for key, array in load_file(folder / TESTED).items():
        role, _, name = key.partition(":")
        arrays[role][name] = array
    own, ranges = fold_settings(config, fold), load_checkpoint(folder / BEST).score_ranges
    task = with_score_ranges(task, ranges)
    tested = {role: unpack(counted, task, own) for role, counted in arrays.items()}
    by_subgroup = {role: pool_subgroups({fold.label: counted}, task, own) for role, counted in arrays.items()}
    merged = not uses_secure_aggregation(own)
    lost: dict[str, Importance] = {role: Importance.unpack(arrays[role], task, own, merged) for role in ROLES}
    return Finished(fold, read_results(folder / RESULTS), tested, by_subgroup, lost, ranges)


def combine(task: Task, config: StudySettings, finished: Sequence[Finished]) -> Results:
    """The results of the study, from those of its folds."""
    sites, task = _sites(finished, config), with_score_ranges(task, finished[0].score_ranges)
    trained = set() if config.leave_out == "each" else {site.site for site in sites if site.role == "train"}
    targets = {
        name: _target(name, task, finished, config, {site.site: site.targets.get(name, {}) for site in sites}, trained)
        for name in task.targets
    }
    folds = [one.results for one in finished]
    history = [attempt.model_dump() for results in folds for attempt in results.rounds]
    unverified = dict.fromkeys(site for results in folds for site in results.privacy.sites_with_unverified_keys)
    return Results(
        schema_version=SCHEMA_VERSION,
        package_version=version("breast-federation"),
        started=folds[0].started,
        finished=now(),
        software=software(),
        hardware=hardware(),
        study=config.study,
        task=task.name,
        strategy=config.strategy,
        rounds_completed=sum(results.rounds_completed for results in folds),
        best_round=0,
        selected_by="; ".join(dict.fromkeys(results.selected_by for results in folds)),
        targets=targets,
        sites=sites,
        flow=folds[0].flow,
        not_enrolled=_by_fold(finished, lambda results: results.not_enrolled),
        problems=_by_fold(finished, lambda results: results.problems),
        missing=_by_fold(finished, lambda results: results.missing),
        validation=[],
        rounds=[],
        start=folds[0].start,
        aggregation=aggregation_section(config, history),
        privacy=privacy_section(config, [*unverified]),
        config=config.to_flat(),
        checkpoints={one.fold.label: f"{one.fold.label}/{BEST}" for one in finished},
        folds=[_fold(one) for one in finished],
    )


def _target(
    name: str,
    task: Task,
    finished: Sequence[Finished],
    config: StudySettings,
    own: Mapping[str, Mapping[str, Number]],
    trained: set[str],
) -> TargetResults:
    repeats = [[*group] for _, group in itertools.groupby(finished, lambda one: one.fold.repeat)]
    each = [[one] for one in finished]
    leaves_sites_out = config.leave_out == "each"
    inside = each if leaves_sites_out else repeats
    internal = mean_metrics(_over(name, "internal", group) for group in inside)
    # sites that never train are tested in every fold: their statistics are not of other patients each time
    together = leaves_sites_out and not config.never_train
    outside = [[*finished]] if together else each
    external = mean_metrics(_over(name, "external", group) for group in outside)
    evaluating = any(site.role == "evaluate" for one in finished for site in one.results.sites)
    thresholds = [one.results.targets[name].threshold for one in finished]
    return TargetResults(
        threshold=None,
        threshold_source="" if None in thresholds else "each fold's own",
        horizon_days=finished[0].results.targets[name].horizon_days,
        internal=internal,
        external=external,
        pooled=mean_metrics(one.results.targets[name].pooled for one in finished) if evaluating else internal,
        classes=finished[0].results.targets[name].classes,
        survival={"internal": None, "external": None},
        subgroups=subgroups_over_folds(
            name,
            task,
            config,
            {
                "internal": [_tested_subgroups(name, group, "internal", ALL_FOLDS) for group in inside],
                "external": [_tested_subgroups(name, group, "external") for group in outside],
            },
            hidden={*AT_THRESHOLD, *BOUNDS, *CELLS},
        ),
        between_sites=between_sites(own, trained),
        importance={
            "internal": _lost(name, "internal", inside, task, config),
            "external": _lost(name, "external", outside, task, config),
        },
    )


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


def _tested_subgroups(name: str, group: Sequence[Finished], *roles: str) -> TestedSubgroups:
    """What a group of folds tells of one target by subgroup."""
    of_one_fold = group[0].results.targets[name].subgroups if len(group) == 1 else None
    return TestedSubgroups(of_one_fold, [one.by_subgroup[role] for one in group for role in roles])


def _threshold_rates(own: Sequence[Metrics], known_metrics: Mapping[str, Any]) -> dict[str, float]:
    """Rates of calls over folds, each by its own threshold."""
    cells = np.array([[metrics.get(cell) or 0.0 for cell in CELLS] for metrics in own])
    counts = ConfusionCounts(*map(float, cells.sum(axis=0)))
    further = ("accuracy", "balanced_accuracy", "mcc")
    rates = threshold_metrics(counts) | {key: float(getattr(counts, key)) for key in further if key in known_metrics}
    return rates | {key: bound for key, bound in rate_bounds(counts, counts).items() if key in known_metrics}


def _threshold_missing(summary: Summary) -> bool:
    """Whether scores of a site are known only over all its folds, where each has a threshold of its own."""
    scores = {name: statistic for name, statistic in summary.items() if "tp" in statistic.metrics(0.5)}
    return any(np.any(array) for array in pack_summary(scores, "").values())


def _sites(finished: Sequence[Finished], config: StudySettings) -> list[SiteResults]:
    names = dict.fromkeys(site.site for one in finished for site in one.results.sites)
    return [_site(name, finished, config) for name in names]


def _site(name: str, finished: Sequence[Finished], config: StudySettings) -> SiteResults:
    """A site's own metrics: of all its patients in a repeat, or as a site left out; else the mean over folds."""
    rows = {one.fold: row for one in finished for row in one.results.sites if row.site == name}
    if left_out := [row for fold, row in rows.items() if fold.left_out == name]:
        return left_out[0]
    first = next(iter(rows.values()))
    over_folds = [row.out_of_fold for row in rows.values() if row.out_of_fold]
    trains = first.role == "train"
    own = over_folds if trains and config.folds else [row.targets for row in rows.values() if row.targets]
    tested = [row.patients.get("test", 0) for fold, row in rows.items() if fold.repeat == 1]
    patients = {"test": sum(tested) if trains and config.folds else first.patients.get("test", 0)}
    keys = {target: [*metrics] for target, metrics in own[0].items()} if own else {}
    metrics = {target: {name: _number(own, target, name) for name in names} for target, names in keys.items()}
    scorings = max(row.scorings for row in rows.values())
    of_all: dict[str, object] = {"patients": patients, "targets": metrics, "out_of_fold": {}, "scorings": scorings}
    return first.model_copy(update={**of_all, "curves": {}})  # each fold's are of some of its patients


def _number(own: Sequence[Mapping[str, Mapping[str, Number]]], target: str, key: str) -> Number:
    return mean_number([metrics.get(target, {}).get(key) for metrics in own])


def _fold(one: Finished) -> FoldResults:
    results = one.results
    return FoldResults(
        fold=one.fold.label,
        repeat=one.fold.repeat,
        left_out=one.fold.left_out,
        rounds_completed=results.rounds_completed,
        best_round=results.best_round,
        targets=results.targets,
        sites=results.sites,
    )


def _by_fold(finished: Sequence[Finished], problems: Callable[[Results], Mapping[str, str]]) -> dict[str, str]:
    """Why sites gave nothing, with the folds in which they did not."""
    by_site: dict[str, list[str]] = {}
    for one in finished:
        for site, why in problems(one.results).items():
            by_site.setdefault(site, []).append(f"{one.fold.label}: {why}")
    return {site: "; ".join(reasons) for site, reasons in by_site.items()}
