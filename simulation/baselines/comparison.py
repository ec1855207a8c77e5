"""Other models beside a federated study (`--compare`, `--matrix`): pooled, local, ablated networks, and tables' own.

All are scored on the study's test patients, and stored as rows of its results, with paired tests.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from client.cohort.load import Cohort, load_cohort
from client.config.site import load_site
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
from shared_models.errors import UserError
from shared_models.metrics.binary import ScoreHistogram
from shared_models.settings import SettingsError, nearest
from shared_models.study_settings import StudySettings
from shared_models.targets import Binary
from shared_models.task import Task, load_task
from simulation.baselines.pooled_and_local import (
    Trained,
    from_checkpoint,
    pool_cohorts,
    score,
    study_cohorts,
    train_centrally,
)
from simulation.baselines.tabular import KINDS, Tabular, fit_tabular, require_installed, why_not

if TYPE_CHECKING:
    from rich.console import Console

log = logging.getLogger("simulation")
Run = Callable[[dict[str, Path], StudySettings], object]
NETWORKS = ("pooled", "local", "modalities", "targets")
MODELS = (*NETWORKS, *KINDS)
DEFAULT = (*NETWORKS, "logistic-regression", "random-forest", "svm", "gradient-boosting")


def chosen_models(text: str | None) -> tuple[str, ...]:
    """The models of `--models`, or those that need no extra.

    Raises:
        SettingsError: If there is no such model, or its library is not installed.
    """
    names = DEFAULT if text is None else tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if name not in MODELS:
            msg = f"models: there is no model {name!r}; {nearest(name, MODELS)}"
            raise SettingsError(msg)
    require_installed(names)
    return names


@dataclass(frozen=True)
class Scored:
    """A model's scores of each site's patients.

    Attributes:
        name: What it is called.
        test: By target and site: patients' identifiers, scores, truths.
        thresholds: By binary target, from validation patients.
    """

    name: str
    test: Mapping[str, Mapping[str, tuple[Sequence[str], Any, Any]]]
    thresholds: Mapping[str, float]


def scored(name: str, trained: Trained | Tabular, cohorts: Sequence[Cohort], task: Task, rule: str) -> Scored:
    """Scores every site's test patients, and finds thresholds on all validation patients."""
    test: dict[str, dict[str, tuple[Sequence[str], Any, Any]]] = {}
    validation: dict[str, list[tuple[Any, Any]]] = {}
    for cohort in cohorts:
        for part in ("validation", "test"):
            patients = [cohort.patients[index] for index in cohort.parts[part]]
            for target, (scores, truth) in score(trained, cohort, task, part).items() if patients else ():
                if part == "test":
                    test.setdefault(target, {})[cohort.site] = (patients, scores, truth)
                elif isinstance(task.targets[target], Binary):
                    validation.setdefault(target, []).append((scores, truth))
    thresholds = {}
    for target, parts in validation.items():
        scores, truth = (np.concatenate(values) for values in zip(*parts, strict=True))
        threshold = ScoreHistogram.of(scores, truth).threshold(rule)
        thresholds[target] = 0.5 if np.isnan(threshold) else threshold
    return Scored(name, test, thresholds)


def add_comparisons(
    sites: dict[str, Path], config: StudySettings, models: Sequence[str], matrix: bool, run: Run, console: Console
) -> Results:
    """Trains other models, and stores how they do in the study's results, two CSV files and its report.

    Args:
        sites: The sites' settings.
        config: The study's, which has been run.
        models: Of `MODELS`; none for the matrix alone.
        matrix: Whether each site's own model is scored at every site.
        run: Runs a study over the sites, for the ablated networks.
        console: Where progress is shown.
    """
    task, folder = load_task(config), Path(config.results_dir) / config.study
    results, cohorts = read_results(folder / RESULTS), study_cohorts(sites, task, config)
    federated = from_checkpoint(load_checkpoint(folder / BEST), task, config)
    study = scored(f"federated ({config.strategy})", federated, cohorts, task, config.threshold)
    own = {name: one.threshold for name, one in results.targets.items() if one.threshold is not None}
    study = replace(study, thresholds=own)
    rows, cells = list[ModelComparison](), matrix_of(study, study.name, task) if matrix else []
    for kind, place, other in _others(
        sites, cohorts, task, config, {*models, *(["local"] if matrix else [])}, run, console
    ):
        rows += compared(study, other, task) if kind in models else []
        cells += matrix_of(other, place, task) if matrix and kind == "local" else []
    results = results.model_copy(update={"comparisons": corrected(rows), "matrix": cells})
    write_comparisons(results.comparisons, results.matrix, folder)
    finish(results, folder)
    return results


def compared(study: Scored, other: Scored, task: Task) -> list[ModelComparison]:
    """A row for each target that both score, over the patients whom both do."""
    rows = []
    for name, target in task.targets.items():
        both = {}
        for site, (patients, scores, truth) in study.test.get(name, {}).items():
            theirs, others, _ = other.test.get(name, {}).get(site, ((), np.zeros(0), None))
            place = {patient: index for index, patient in enumerate(theirs)}
            mine = [index for index, patient in enumerate(patients) if patient in place]
            if mine:
                rest = [place[patients[index]] for index in mine]
                both[site] = SiteScores(scores[mine], others[rest], truth[mine])
        if both:
            thresholds = (study.thresholds.get(name, 0.5), other.thresholds.get(name, 0.5))
            rows.append(compare(name, target, other.name, both, thresholds))
    return rows


def matrix_of(model: Scored, trained_on: str, task: Task) -> list[MatrixCell]:
    """How a model does at each site."""
    return [
        cell(name, task.targets[name], trained_on, site, scores, truth)
        for name, by_site in model.test.items()
        for site, (_, scores, truth) in by_site.items()
    ]


def _others(
    sites: dict[str, Path],
    cohorts: Sequence[Cohort],
    task: Task,
    config: StudySettings,
    models: Collection[str],
    run: Run,
    console: Console,
) -> Iterator[tuple[str, str, Scored]]:
    """Each other model as it has been trained: of which of `MODELS` it is, the one site that it saw, its scores."""
    training = [cohort for cohort in cohorts if len(cohort.parts["train"])]
    pooled = pool_cohorts(training)
    rule = config.threshold
    if "pooled" in models:
        with console.status("training on the pooled patients"):
            yield "pooled", "", scored("pooled", train_centrally(pooled, task, config), cohorts, task, rule)
    for cohort in training if "local" in models else ():
        with console.status(f"training at {cohort.site} alone"):
            trained = train_centrally(cohort, task, config)
            yield "local", cohort.site, scored(f"{cohort.site} alone", trained, cohorts, task, rule)
    for kind, name, ablated in ablations(task, config):
        if kind in models:
            with console.status(f"training {name}"):
                scored_ablation = _run_ablation(sites, name, ablated, run)
            if scored_ablation:
                yield kind, "", scored_ablation
    tabular = [kind for kind in KINDS if kind in models]
    if tabular and (why := why_not(task)):
        console.print(f"No baselines on tables: {why}.", highlight=False)
        return
    for kind in tabular:
        with console.status(f"training {kind} on the pooled patients"):
            fitted = fit_tabular(kind, pooled, task, config)
        if fitted:
            yield kind, "", scored(f"pooled, {kind.replace('-', ' ')} on tables", fitted, cohorts, task, rule)


def ablations(task: Task, config: StudySettings) -> Iterator[tuple[str, str, StudySettings]]:
    """The study with each modality alone, and with each target alone where it has several."""
    place = {"results_dir": str(Path(config.results_dir) / config.study / "ablations"), "resume": False}
    plain = config.model_copy(update={**place, "overwrite": True, "importance": "off"})
    for name in task.modalities if len(task.modalities) > 1 else ():
        changes = {"modalities": name, "features": _of(config.features, name), "grids": _of(config.grids, name)}
        harmonised_tables = [table for table in config.harmonised_tables if table == name]
        changes |= {"harmonised": ", ".join(harmonised_tables), "study": f"{name}-alone"}
        changes |= {} if harmonised_tables else {"harmonisation": "none"}
        yield "modalities", f"federated, {name} alone", plain.model_copy(update=changes)
    for name in task.targets if len(task.targets) > 1 else ():
        yield (
            "targets",
            f"federated, {name} alone",
            plain.model_copy(update={"targets": name, "study": f"{name}-alone"}),
        )


def _of(lines: str, modality: str) -> str:
    """The lines of a setting by modality, `modality: ...`, that are of one."""
    each = (line.strip() for line in re.split(r"[;\n]", lines))
    return "; ".join(line for line in each if line.partition(":")[0].strip() == modality)


def _run_ablation(sites: dict[str, Path], name: str, config: StudySettings, run: Run) -> Scored | None:
    """An ablated network, trained as the study is; None, with the reason, where it cannot be."""
    task = load_task(config)
    there = {site: file for site, file in sites.items() if _has_patients(file, task, config, name)}
    named = [site for site in config.expected_sites if site in there]
    outside = [site for site in config.never_train if site in there]
    config = config.model_copy(update={"sites": ", ".join(named), "evaluation_only_sites": ", ".join(outside)})
    try:
        run(there, config)
        best = load_checkpoint(Path(config.results_dir) / config.study / BEST)
        trained, cohorts = from_checkpoint(best, task, config), study_cohorts(there, task, config)
        return scored(name, trained, cohorts, task, config.threshold)
    except UserError as error:
        log.warning("%s is not compared: %s", name, error.public)
        return None


def _has_patients(file: Path, task: Task, config: StudySettings, name: str) -> bool:
    """Whether a site has patients of an ablated study: some record none of its modality."""
    try:
        load_cohort(load_site(file), task, config)
    except UserError as error:
        log.warning("%s: %s takes no part: %s", name, file.stem, error.public)
        return False
    return True
