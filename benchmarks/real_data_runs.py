"""Runs behind `real_data.py` on one data set: federated, pooled, local, and leave-one-site-out training."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from client.app import app as client_app
from client.cohort.load import Cohort, load_cohort
from client.config.site import load_site
from server.app import run_study
from server.study.weights.checkpoint import BEST, load_checkpoint
from shared_models.metrics.summary import Metrics, site_metrics
from shared_models.study_settings import StudySettings, parse_study_settings
from shared_models.task import Task, load_task
from simulation.baselines.pooled_and_local import Trained, from_checkpoint, pool_cohorts, score, train_centrally
from simulation.engines.in_process_grid import InProcessGrid
from simulation.splits import Sites

ROOT = Path(__file__).resolve().parents[1]
GRAD_SAMPLE_MODES = ("federated", "pooled", "local")

Outcomes = dict[str, tuple[Any, Any]]  # of each target, scores and truths
MetricsByTarget = dict[str, Metrics]  # of each target


@dataclass(frozen=True)
class DataSet:
    """How a data set becomes sites, and where the federated result has to lie.

    Attributes:
        study: A file of `studies/`.
        make_sites: From a folder to write in, the sites.
        changes: Of the study's settings.
        choices: Settings of which the best on validation patients is taken.
        seeds: How many, where not as many as the command says.
        bar: Lowest and highest mean over seeds, for each target that has one.
        gap: How far below pooled training it may be.
        leave_out: Whether each site in turn is also left out of training and tested on.
    """

    study: str
    make_sites: Callable[[Path], Sites]
    changes: dict[str, Any] = field(default_factory=dict)
    choices: tuple[dict[str, Any], ...] = ({},)
    seeds: int = 0
    bar: dict[str, tuple[float, float]] = field(default_factory=dict)
    gap: float = np.inf
    leave_out: bool = False


def settings(data_set: DataSet, work: Path, study: str, seed: int, **changes: Any) -> StudySettings:
    """A study's settings, with a split of its own."""
    values = tomllib.loads((ROOT / "studies" / f"{data_set.study}.toml").read_text(encoding="utf-8"))
    values |= data_set.changes | {"study": study, "seed": seed, "split-seed": seed, "results-dir": str(work / "runs")}
    return parse_study_settings(values | changes)


def train(data_set: DataSet, sites: Sites, work: Path, seed: int) -> Iterator[tuple[str, MetricsByTarget]]:
    """Trains federated, on pooled patients, and at each site alone; what each reaches on all test patients."""
    # the study's name is part of what draws a split: the choices share it, and so their patients
    configs = [settings(data_set, work, f"{data_set.study}-{seed}", seed, **choice) for choice in data_set.choices]
    task = load_task(configs[0])
    runs = [federated(sites, config, task) for config in configs]
    best = int(np.argmax([value for _, value in runs]))
    config, trained = configs[best], runs[best][0]
    cohorts = [load_cohort(load_site(file), task, config) for file in sites.values()]
    yield "federated", metrics(outcomes(trained, cohorts, task), task)
    training = [cohort for cohort in cohorts if len(cohort.parts["train"])]
    for way, cohort in [("pooled", pool_cohorts(training)), *(("local", cohort) for cohort in training)]:
        yield way, metrics(outcomes(train_centrally(cohort, task, config), cohorts, task), task)


def leave_out(data_set: DataSet, sites: Sites, work: Path, seed: int) -> dict[str, list[MetricsByTarget]]:
    """Each site in turn only evaluates the others' network; its metrics, and those of all sites' patients together."""
    parts, rows = [], {}
    for name, file in sites.items():
        config = settings(
            data_set, work, f"without-{name}", seed, **{"evaluation-only-sites": name, "test-fraction": 0.0}
        )
        task = load_task(config)
        trained, _ = federated(sites, config, task)
        parts.append(outcomes(trained, [load_cohort(load_site(file), task, config)], task))
        rows[name] = [metrics(parts[-1], task)]

    return rows | {"all of them": [metrics(_joined(parts), task)]}


def federated(sites: Sites, config: StudySettings, task: Task) -> tuple[Trained, float]:
    """The weights of the round that was best on validation patients, and its value there."""
    run_study(InProcessGrid(client_app, sites, config.to_flat()), config)
    best = load_checkpoint(Path(config.results_dir) / config.study / BEST)
    return from_checkpoint(best, task, config), float(best.best_value or 0.0)


def outcomes(trained: Trained, cohorts: Sequence[Cohort], task: Task) -> Outcomes:
    """Scores and truths of all cohorts' test patients."""
    return _joined([score(trained, cohort, task) for cohort in cohorts if len(cohort.parts["test"])])


def metrics(scores: Outcomes, task: Task) -> MetricsByTarget:
    """Metrics of each target."""
    return {name: site_metrics(task.targets[name], *pair, threshold=0.5) for name, pair in scores.items()}


def _joined(parts: Sequence[Outcomes]) -> Outcomes:
    """Several sites' patients as one group."""
    both = {name: list(zip(*(part[name] for part in parts), strict=True)) for name in parts[0]}
    return {name: (np.concatenate(scores), np.concatenate(truths)) for name, (scores, truths) in both.items()}
