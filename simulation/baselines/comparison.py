"""Other models beside a federated study (`--compare`, `--matrix`): pooled, local, ablated networks, and tables' own.

All are scored on the study's test patients, and stored as rows of its results, with paired tests.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.app import finish
from server.study.results.comparison_section import (
    MatrixCell,
    ModelComparison,
    SiteScores,
    cell,
    compare,
    corrected,
    write_comparisons,
)
from server.study.results.results_file import RESULTS, read_results
from server.study.results.schema import Results
from server.study.weights.checkpoint import BEST, load_checkpoint
from shared_models.settings import SettingsError, nearest
from shared_models.study_settings import StudySettings
from shared_models.task import Task, load_task
from simulation.baselines.ablations import Run, ablations, run_ablation, without_each_site
from simulation.baselines.pooled_and_local import Trained, from_checkpoint, pool_cohorts, train_centrally
from simulation.baselines.scores import Model, Scored, Split, scored, splits_of
from simulation.baselines.tabular import KINDS, Tabular, fit_tabular, is_installed, require_installed, why_not

if TYPE_CHECKING:
    from rich.console import Console

Fit = Callable[[], Trained | Tabular | None]
NETWORKS = ("pooled", "local", "modalities", "targets")
MODELS = (*NETWORKS, "sites", *KINDS)
DEFAULT = (*NETWORKS, "logistic-regression", "random-forest", "svm", "gradient-boosting", "cox")


def chosen_models(text: str | None) -> tuple[str, ...]:
    """The models of `--models`, or the usual ones that are installed.

    Raises:
        SettingsError: If there is no such model, or its library is not installed.
    """
    if text is None:
        return tuple(name for name in DEFAULT if is_installed(name))
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if name not in MODELS:
            msg = f"models: there is no model {name!r}; {nearest(name, MODELS)}"
            raise SettingsError(msg)
    require_installed(names)
    return names


def require_fit(models: Sequence[str], config: StudySettings) -> None:
    """Refuses models that cannot learn the study, before anything is trained.

    Raises:
        SettingsError: If one cannot.
    """
    task = load_task(config)
    for kind in KINDS:
        if kind in models and (why := why_not(kind, task)):
            msg = f"models: {kind} cannot be compared with the study: {why}; leave it out of --models"
            raise SettingsError(msg)


def add_comparisons(
    sites: dict[str, Path], config: StudySettings, models: Sequence[str], matrix: bool, run: Run, console: Console
) -> Results:
    """Trains other models, and stores how they do in the study's results, two CSV files and its report.

    Of a study of folds each model is trained again in each, and its scores are beside those of the study's network of
    that fold.

    Args:
        sites: The sites' settings.
        config: The study's, which has been run.
        models: Of `MODELS`; none for the matrix alone.
        matrix: Whether each site's own model is scored at every site.
        run: Runs a study over the sites, for the ablated networks.
        console: Where progress is shown.
    """
    task, folder = load_task(config), Path(config.results_dir) / config.study
    results, splits = read_results(folder / RESULTS), splits_of(sites, task, config)
    name = f"federated ({config.strategy})"
    study = {split.label: _federated(name, split, sites, task) for split in splits}
    rows, cells = list[ModelComparison](), matrix_of(study, name, task) if matrix else []
    wanted = {*models, *(["local"] if matrix else [])}
    for kind, place, other in _others(sites, splits, task, config, wanted, run, console):
        rows += compared(study, other, task) if kind in models else []
        cells += matrix_of(other, place, task) if matrix and kind == "local" else []
    results = results.model_copy(update={"comparisons": corrected(rows), "matrix": cells})
    write_comparisons(results.comparisons, results.matrix, folder)
    finish(results, folder)
    return results


def _federated(name: str, split: Split, sites: dict[str, Path], task: Task) -> Scored:
    """The study's own network of a split as each site scores with it, with its own thresholds."""
    folder = Path(split.config.results_dir) / split.config.study
    trained = from_checkpoint(load_checkpoint(folder / BEST), task, split.config, sites)
    own = read_results(folder / RESULTS).targets.items()
    thresholds = {name: one.threshold for name, one in own if one.threshold is not None}
    return replace(scored(name, trained, split, task), thresholds=thresholds)


def compared(study: Model, other: Model, task: Task) -> list[ModelComparison]:
    """A row for each target that both score, over the patients whom both do.

    A patient whom several splits test, those of a site that only evaluates, counts in the first of them.
    """
    rows = []
    for name, target in task.targets.items():
        both, model = dict[str, list[SiteScores]](), ""
        shared = {label: one for label, one in study.items() if label in other}
        for label, site, (patients, scores, truth) in _tested_once(shared, name):
            one, theirs = study[label], other[label]
            if site not in theirs.test.get(name, {}):
                continue
            known, others, _ = theirs.test[name][site]
            place = {patient: index for index, patient in enumerate(known)}
            mine = [index for index, patient in enumerate(patients) if patient in place]
            if mine:
                rest = [place[patients[index]] for index in mine]
                thresholds = (one.thresholds.get(name, 0.5), theirs.thresholds.get(name, 0.5))
                model = theirs.name
                both.setdefault(site, []).append(SiteScores(scores[mine], others[rest], truth[mine], thresholds))
        if both:
            rows.append(compare(name, target, model, both))
    return rows


def matrix_of(model: Model, trained_on: str, task: Task) -> list[MatrixCell]:
    """How a model does at each site; a patient counts once, as in `compared`."""
    cells = []
    for name, target in task.targets.items():
        by_site: dict[str, list[tuple[Any, Any]]] = {}
        for _, site, (_, scores, truth) in _tested_once(model, name):
            by_site.setdefault(site, []).append((scores, truth))
        cells += [cell(name, target, trained_on, site, folds) for site, folds in by_site.items()]
    return cells


def _tested_once(model: Model, target: str) -> Iterator[tuple[str, str, tuple[Sequence[str], Any, Any]]]:
    """Label of the split, site, and the test patients there whom no split before it tests, with scores and truths."""
    seen = set[tuple[str, str]]()
    for label, one in model.items():
        for site, (patients, scores, truth) in one.test.get(target, {}).items():
            new = [index for index, patient in enumerate(patients) if (site, patient) not in seen]
            seen.update((site, patient) for patient in patients)
            if new:
                yield label, site, ([patients[index] for index in new], scores[new], truth[new])


def _others(
    sites: dict[str, Path],
    splits: Sequence[Split],
    task: Task,
    config: StudySettings,
    models: Collection[str],
    run: Run,
    console: Console,
) -> Iterator[tuple[str, str, Model]]:
    """Each other model as it has been trained: of which of `MODELS` it is, the one site that it saw, its scores."""
    baselines = [kind for kind in KINDS if kind in models]
    if baselines and all(reasons := [why_not(kind, task) for kind in baselines]):
        console.print(f"No baselines on tables: {reasons[0]}.", highlight=False)
    made: dict[tuple[str, str], dict[str, Scored]] = {}
    for split in splits:
        for kind, place, name, fit in _fits(split, task, models):
            with console.status(f"{split.label}: training {name}".removeprefix(": ")):
                if trained := fit():
                    made.setdefault((kind, place), {})[split.label] = scored(name, trained, split, task)
    yield from ((kind, place, model) for (kind, place), model in made.items())
    for kind, name, ablated in (*ablations(task, config), *without_each_site(config)):
        if kind in models:
            with console.status(f"training {name}"):
                study = run_ablation(sites, name, ablated, run)
            if study:
                yield kind, "", study


def _fits(split: Split, task: Task, models: Collection[str]) -> Iterator[tuple[str, str, str, Fit]]:
    """What trains each model that sees rows of one site or of all: its kind, the one site, its name."""
    training = [cohort for cohort in split.cohorts if len(cohort.parts["train"])]
    pooled = pool_cohorts(training)
    if "pooled" in models:
        yield "pooled", "", "pooled", partial(train_centrally, pooled, task, split.config)
    for cohort in training if "local" in models else ():
        yield "local", cohort.site, f"{cohort.site} alone", partial(train_centrally, cohort, task, split.config)
    for kind in KINDS:
        if kind in models and not why_not(kind, task):
            name = f"pooled, {kind.replace('-', ' ')} on tables"
            yield kind, "", name, partial(fit_tabular, kind, pooled, task, split.config)
