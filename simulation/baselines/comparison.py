"""Comparison (`--compare`) of a federated study with pooled and local training, and with trees."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from client.cohort.load import Cohort, load_cohort
from client.config.site import load_site
from server.study.checkpoint import BEST, load_checkpoint
from shared_models.metrics.delong import delong_test
from shared_models.metrics.summary import Metrics
from shared_models.study_settings import StudySettings
from shared_models.targets import Binary, Target
from shared_models.task import Task, load_task
from simulation.baselines.pooled_and_local import (
    Scores,
    Trained,
    from_checkpoint,
    harmonised,
    metrics,
    pool_cohorts,
    score_everywhere,
    train_centrally,
)
from simulation.baselines.trees import Trees, fit_trees

if TYPE_CHECKING:
    from rich.console import Console

# The metric that a row shows, where a target has it, and whether it comes with an interval.
SHOWN = (("auc", "AUC"), ("c_index", "C-index"), ("macro_f1", "macro F1"), ("mae", "mean absolute error"))


def print_comparison(sites: Mapping[str, Path], config: StudySettings, console: Console) -> None:
    """Trains the pooled cohort and each training site alone, and prints all of it beside the federated study."""
    from rich.progress import track

    task = load_task(config)
    cohorts = harmonised([load_cohort(load_site(file), task, config) for file in sites.values()], task, config)
    training = [cohort for cohort in cohorts if len(cohort.parts["train"])]
    federated = load_checkpoint(Path(config.results_dir) / config.study / BEST)
    rows = {f"federated ({config.strategy})": score_everywhere(from_checkpoint(federated, task, config), cohorts, task)}
    places = {"pooled": pool_cohorts(training), **{f"{cohort.site} alone": cohort for cohort in training}}
    for name, cohort in track(places.items(), description="training for comparison", console=console, transient=True):
        for way, trained in ways(cohort, task, config):
            rows[f"{name}{way}"] = score_everywhere(trained, cohorts, task)
    for target, kind in task.targets.items():
        _print_target(target, kind, {name: scores[target] for name, scores in rows.items()}, console)


def ways(cohort: Cohort, task: Task, config: StudySettings) -> Iterator[tuple[str, Trained | Trees]]:
    """The task's network trained on one cohort, and trees where its tables and targets allow them."""
    yield "", train_centrally(cohort, task, config)
    for kind in ("random forest", "gradient boosting"):
        if trees := fit_trees(kind, cohort, task, config):
            yield f", {kind} on tables", trees


def _print_target(target: str, kind: Target, rows: Mapping[str, Mapping[str, Scores]], console: Console) -> None:
    from rich.table import Table

    by_model = {name: metrics(scores, kind) for name, scores in rows.items()}
    first = next(iter(by_model.values()))
    places = ["pooled", *(place for place in first if place != "pooled")]
    key, title = next(pair for pair in SHOWN if pair[0] in first["pooled"])
    table = Table(title=f"{target}: {title} on test patients (95 % interval)", title_justify="left")
    table.add_column("trained on")
    for place in places:
        table.add_column(f"{place}\n{first[place]['patients']:.0f} patients", justify="right")
    if isinstance(kind, Binary):
        table.add_column("pooled, against\nfederated: p", justify="right")
    federated = next(iter(rows.values()))
    for name, metric in by_model.items():
        cells = [_cell(metric[place], key) for place in places]
        if isinstance(kind, Binary):
            cells.append("" if rows[name] is federated else _p_value(federated, rows[name]))
        table.add_row(name, *cells)
    console.print(table)


def _cell(metric: Metrics, key: str) -> str:
    low, high = metric.get(f"{key}_low", math.nan), metric.get(f"{key}_high", math.nan)
    return f"{metric[key]:.2f}" + ("" if math.isnan(low) else f" ({low:.2f}-{high:.2f})")


def _p_value(one: Mapping[str, Scores], other: Mapping[str, Scores]) -> str:
    """DeLong's test of two models on the same patients."""
    scores_one, truths = (np.concatenate(values) for values in zip(*one.values(), strict=True))
    scores_other, _ = (np.concatenate(values) for values in zip(*other.values(), strict=True))
    p_value = delong_test(scores_one, scores_other, truths).p_value
    return "-" if math.isnan(p_value) else f"{p_value:.2f}" if p_value >= 0.01 else "< 0.01"
