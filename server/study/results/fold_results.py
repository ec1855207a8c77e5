"""Results of a study of several folds: what its folds counted, added up.

Where folds are parts of each site's patients, the statistics of a repeat's folds add up to those of all patients, each
scored by the network that was trained without that patient; of several repeats the mean is given. Where each site is
left out in turn, those of the left-out sites add up, and of the others the mean over folds is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version

from server.study.results.aggregation_section import aggregation_section
from server.study.results.finished_fold import Finished
from server.study.results.fold_means import mean_number
from server.study.results.fold_targets import target_over_folds
from server.study.results.privacy_section import privacy_section
from server.study.results.schema import SCHEMA_VERSION, FoldResults, Results
from server.study.results.sites_section import SiteResults
from server.study.weights.checkpoint import BEST, now
from shared_models.installation import hardware, software
from shared_models.metrics.arrays import Number
from shared_models.score_ranges import with_score_ranges
from shared_models.study_settings import StudySettings
from shared_models.task import Task


def combine(task: Task, config: StudySettings, finished: Sequence[Finished]) -> Results:
    """The results of the study, from those of its folds."""
    sites, task = _sites(finished, config), with_score_ranges(task, finished[0].score_ranges)
    trained = set() if config.leave_out == "each" else {site.site for site in sites if site.role == "train"}
    own = {name: {site.site: site.targets.get(name, {}) for site in sites} for name in task.targets}
    targets = {name: target_over_folds(name, task, finished, config, own[name], trained) for name in task.targets}
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
        unscored=_unscored(finished),
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


def _unscored(finished: Sequence[Finished]) -> str:
    """Which folds took their last round unjudged, and why the first of them did."""
    ones = {one.fold.label: one.results.unscored for one in finished if one.results.unscored}
    return f"In {', '.join(ones)}: {next(iter(ones.values()))}" if ones else ""


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
