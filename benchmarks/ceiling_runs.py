"""Runs behind `ceilings.py`: one cohort trained in every way, and scored with a modality shuffled or absent."""

from __future__ import annotations

import dataclasses
import functools
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from ceiling_reference import plain_reference

from client import session as client_study
from client.app import app as client_app
from client.cohort.load import Cohort, load_cohort
from client.config.site import load_site
from server.app import run_study
from server.study.weights.checkpoint import BEST, load_checkpoint
from shared_models.metrics.summary import Metrics
from shared_models.study_settings import StudySettings, parse_study_settings
from shared_models.task import Task, load_task
from simulation.baselines.pooled_and_local import Trained, from_checkpoint, measure, pool_cohorts, train_centrally
from simulation.cohort_options import cohort_writer
from simulation.cohorts.ceiling import Ceiling
from simulation.engines.budgets import begin_budgets
from simulation.engines.in_process_grid import InProcessGrid
from simulation.splits import Sites, fitted_to, write_site

STUDIES = Path(__file__).parents[1] / "studies"
EXTERNAL_PATIENTS = 320  # at the site that never trains: they cost no training

MetricsByTarget = dict[str, Metrics]


@dataclass(frozen=True)
class Experiment:
    """A task on its cohort.

    Attributes:
        task: Its name.
        ceilings: The best figure for each target: an AUC, or for a number the least mean absolute error.
        slack: How far below its ceiling an AUC may lie.
        gap: The modality that two sites lose.
        gap_at: The two sites.
        scale: How many times the patients that the cohort has by itself.
    """

    task: str
    ceilings: Callable[[], dict[str, Ceiling]]
    slack: float
    gap: str = ""
    gap_at: tuple[str, str] = ("B", "D")
    scale: float = 1.0

    @property
    def settings(self) -> dict[str, Any]:
        """The study's run config."""
        return tomllib.loads((STUDIES / f"synthetic_{self.task}.toml").read_text(encoding="utf-8"))


def runs(
    experiment: Experiment, seed: int, work: Path, workers: int
) -> Iterator[tuple[str, Callable[[], MetricsByTarget]]]:
    """The name of each run and what does it; a run gives the pooled test metrics of each target."""
    folder = work / f"{experiment.task}-{seed}"
    sites = cohort(experiment, seed, folder / "cohort", workers)
    study = functools.partial(federated, experiment, seed)
    task = load_task(config_of(experiment, seed))
    yield "full", functools.partial(study, folder / "full", sites, sites)
    for modality in task.modalities if len(task.modalities) > 1 else ():
        for how in (shuffled, absent):
            hidden = functools.partial(without, experiment, seed, folder / "full", sites, modality, how)
            yield f"{how.__name__} {modality}", hidden
    if task.tables:
        linear = {"modalities": ", ".join(task.tables), "fusion": "late", "grids": ""}
        yield "linear", functools.partial(study, folder / "linear", sites, sites, **linear)
        yield "deep", functools.partial(study, folder / "deep", sites, sites, wide=False)
    yield "plain", functools.partial(plain, experiment, seed, sites)
    yield "pooled", functools.partial(pooled, experiment, seed, sites)
    for name in list(sites)[:-1]:
        yield f"local {name}", functools.partial(alone, experiment, seed, sites, name)
    yield "permuted", functools.partial(permuted, experiment, seed, folder / "permuted", sites)
    if experiment.gap:
        gappy = without_modality(sites, experiment, folder / "gaps")
        yield "with gaps", functools.partial(study, folder / "gaps" / "runs", gappy, gappy)
        others = {name: file for name, file in sites.items() if name not in experiment.gap_at}
        yield "left out", functools.partial(study, folder / "left out", others, gappy)


def cohort(experiment: Experiment, seed: int, folder: Path, workers: int) -> Sites:
    """The five hospitals' settings files; their files are written first where they are not there yet."""
    if not (written := sorted(folder.glob("*/*.yaml"))):
        write = cohort_writer(experiment.task)
        defaults = write.__kwdefaults__ or {}
        sites = defaults.get("sites") or write.__defaults__[0]  # type: ignore[index]
        external = round(EXTERNAL_PATIENTS / experiment.scale)
        sites = [replace(s, patients=external) if s.role == "evaluate" else s for s in sites]
        written = write(folder, sites, seed=seed, scale=experiment.scale, workers=workers)
    return {path.stem: path for path in written}


def without_modality(sites: Sites, experiment: Experiment, folder: Path) -> Sites:
    """The same sites, two of them without the modality."""
    with_gaps = dict(sites)
    for name in experiment.gap_at:
        site = load_site(sites[name])
        modalities = site.model_dump(mode="json", exclude_defaults=True)["modalities"]
        with_gaps[name] = write_site(
            site, folder, modalities={k: v for k, v in modalities.items() if k != experiment.gap}
        )
    return with_gaps


def config_of(experiment: Experiment, seed: int, **changes: Any) -> StudySettings:
    """The study's run config with one seed for weights, batches and splits."""
    # The ceilings are those of an outcome, not of a time to it; a run that was cut off starts again.
    base = {"study": "ceilings", "seed": seed, "split-seed": seed, "test-fraction": 0.2, "outcome": "binary"}
    base |= {"overwrite": True}
    return parse_study_settings(experiment.settings | base | changes)


def federated(
    experiment: Experiment, seed: int, results: Path, sites: Sites, tested_at: Sites, **changes: Any
) -> MetricsByTarget:
    """A whole study through the ServerApp and the sites' ClientApps."""
    # named, as a center would name them: only then are validation patients added up unseen, and none is suppressed
    config = fitted_to(config_of(experiment, seed, **{"results-dir": str(results)}, **changes), sites)
    begin_budgets(sites, config)
    run_study(InProcessGrid(client_app, sites, config.to_flat()), config)
    return tested(from_best(config), tested_at, config_of(experiment, seed, **changes))


def from_best(config: StudySettings) -> Trained:
    """The weights of a study's best round."""
    task = load_task(config)
    return from_checkpoint(load_checkpoint(Path(config.results_dir) / config.study / BEST), task, config)


def without(
    experiment: Experiment,
    seed: int,
    results: Path,
    sites: Sites,
    modality: str,
    hide: Callable[[Cohort, str, Task, int], Cohort],
) -> MetricsByTarget:
    """The full network, as it was trained, on test patients whose modality is hidden."""
    config = config_of(experiment, seed, **{"results-dir": str(results)})
    if not (results / config.study / BEST).exists():
        federated(experiment, seed, results, sites, sites)
    task = load_task(config)
    hidden = [hide(one, modality, task, seed) for one in cohorts_of(sites, config)]
    return metrics(from_best(config), hidden, config)


def shuffled(cohort: Cohort, modality: str, task: Task, seed: int) -> Cohort:
    """The same patients with the modality of others of their site."""
    (rows,) = np.nonzero(cohort.present[:, list(task.modalities).index(modality)])
    order = np.arange(len(cohort.present))
    order[rows] = np.random.default_rng(seed).permutation(rows)
    return dataclasses.replace(cohort, inputs={**cohort.inputs, modality: np.asarray(cohort.inputs[modality][order])})


def absent(cohort: Cohort, modality: str, task: Task, seed: int) -> Cohort:
    """The same patients without the modality."""
    del seed
    present = cohort.present.copy()
    present[:, list(task.modalities).index(modality)] = False
    return dataclasses.replace(cohort, present=present)


def plain(experiment: Experiment, seed: int, sites: Sites) -> MetricsByTarget:
    """The plain reference network on pooled patients."""
    config = config_of(experiment, seed)
    return plain_reference(cohorts_of(sites, config), load_task(config), seed)


def permuted(experiment: Experiment, seed: int, results: Path, sites: Sites) -> MetricsByTarget:
    """The same study where each site's outcomes belong to other patients: nothing is left to learn."""

    def reassigned(*arguments: Any, **keywords: Any) -> Cohort:
        cohort = load_cohort(*arguments, **keywords)
        order = np.random.default_rng(seed).permutation(len(cohort.patients))
        return dataclasses.replace(cohort, truths={name: truth[order] for name, truth in cohort.truths.items()})

    config = fitted_to(config_of(experiment, seed, **{"results-dir": str(results)}), sites)
    with mock.patch.object(client_study, "load_cohort", reassigned):
        client_study.forget_cohorts()
        begin_budgets(sites, config)
        run_study(InProcessGrid(client_app, sites, config.to_flat()), config)
    client_study.forget_cohorts()
    task = load_task(config)
    return metrics(from_best(config), [reassigned(load_site(file), task, config) for file in sites.values()], config)


def pooled(experiment: Experiment, seed: int, sites: Sites) -> MetricsByTarget:
    """All training patients in one place."""
    config = config_of(experiment, seed)
    training = [cohort for cohort in cohorts_of(sites, config) if len(cohort.parts["train"])]
    return tested(train_centrally(pool_cohorts(training), load_task(config), config), sites, config)


def alone(experiment: Experiment, seed: int, sites: Sites, name: str) -> MetricsByTarget:
    """One site's training patients."""
    config = config_of(experiment, seed)
    task = load_task(config)
    return tested(train_centrally(load_cohort(load_site(sites[name]), task, config), task, config), sites, config)


def tested(trained: Trained, sites: Sites, config: StudySettings) -> MetricsByTarget:
    """Exact metrics of each target over the test patients of all sites."""
    return metrics(trained, cohorts_of(sites, config), config)


def metrics(trained: Trained, cohorts: list[Cohort], config: StudySettings) -> MetricsByTarget:
    """Exact metrics of each target over the test patients of some cohorts."""
    task = load_task(config)
    return {name: measure(trained, cohorts, task, target=name)["pooled"] for name in task.targets}


def cohorts_of(sites: Sites, config: StudySettings) -> list[Cohort]:
    """The sites' cohorts, from their caches."""
    task = load_task(config)
    return [load_cohort(load_site(file), task, config) for file in sites.values()]
