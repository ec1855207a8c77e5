"""Runs behind `papers.py`: one row of a table on one cohort or split, federated or by a classifier of pooled tables."""

from __future__ import annotations

import importlib.util
import time
import tomllib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ceiling_runs import STUDIES, Experiment, cohort
from paper_lines import Line
from paper_rows import Learner, Row, Table
from real_data import DATA, DATA_SETS
from real_data_runs import settings

from client.app import app as client_app
from client.cohort.load import load_cohort
from client.config.site import load_site
from server.app import run_study
from server.study.weights.checkpoint import BEST, load_checkpoint
from shared_models.study_settings import StudySettings, parse_study_settings
from shared_models.task import Task, load_task
from simulation.baselines.pooled_and_local import Trained, from_checkpoint, measure, pool_cohorts
from simulation.baselines.tabular import Tabular, fit_classifiers
from simulation.engines.budgets import begin_budgets
from simulation.engines.in_process_grid import InProcessGrid
from simulation.splits import Sites, fitted_to

RANKS = ("auc", "c_index", "mae")


class NotAtHand(Exception):
    """What a row or a table needs is not on this machine."""


def sites_of(table: Table, seed: int, work: Path) -> Sites:
    """The sites' settings files; their files are written first where they are not there yet.

    Raises:
        NotAtHand: If it is a real data set that is not on this machine.
    """
    folder = work / table.key.replace(" ", "-")
    if table.data == "synthetic":
        return cohort(Experiment(table.task, dict, slack=0.0), seed, folder / f"cohort-{seed}", workers=1)
    data_set = DATA_SETS[table.data]
    if not (DATA / data_set.study).is_dir():
        msg = f"{DATA / data_set.study} is not on this machine"
        raise NotAtHand(msg)
    if written := sorted((folder / "sites").rglob("*.yaml")):
        return {load_site(path).site: path for path in written}
    return data_set.make_sites(folder / "sites")


def config_of(table: Table, row: Row, seed: int, work: Path) -> StudySettings:
    """The study of a row; the split is the same for all rows of a seed."""
    own = {
        "results-dir": str(work / table.key.replace(" ", "-") / "runs" / row.name.replace(", ", "-").replace(" ", "_")),
        "overwrite": True,
        **table.settings,
        **row.settings,
    }
    study = f"papers-{seed}"
    if table.data != "synthetic":
        data_set = DATA_SETS[table.data]
        return settings(data_set, work, study, seed, **own, **_features(data_set.study, row))
    experiment = Experiment(table.task, dict, slack=0.0)
    base = {"study": study, "seed": seed, "split-seed": seed, "test-fraction": 0.2}
    values = experiment.settings | base | own
    if values.get("grids", "").partition(":")[0] not in values.get("modalities", values.get("grids", "")):
        values["grids"] = ""  # a row of tables alone has no image to give a grid to
    return parse_study_settings(values)


def _features(study: str, row: Row) -> dict[str, str]:
    """The features of the row's tables, where the study lists those of others, too."""
    listed = tomllib.loads((STUDIES / f"{study}.toml").read_text(encoding="utf-8")).get("features", "")
    chosen = [name.strip() for name in str(row.settings.get("modalities", "")).split(",") if name.strip()]
    lines = [line for line in listed.splitlines() if line.partition(":")[0].strip() in chosen]
    return {"features": "\n".join(lines)} if lines else {}


def run_row(table: Table, row: Row, seed: int, sites: Sites, work: Path) -> Iterator[Line]:
    """Trains and scores one row.

    Raises:
        NotAtHand: If its classifier is not installed.
    """
    started = time.monotonic()
    config = config_of(table, row, seed, work)
    task = load_task(config)
    own = _with_inputs(sites, task)
    config = fitted_to(config, own)
    make = classifier(row.learner, seed) if row.learner else None
    cohorts = [load_cohort(load_site(file), task, config) for file in own.values()]
    trained: Trained | Tabular | None
    if make is None:
        begin_budgets(own, config)
        run_study(InProcessGrid(client_app, own, config.to_flat()), config)
        checkpoint = load_checkpoint(Path(config.results_dir) / config.study / BEST)
        trained = from_checkpoint(checkpoint, task, config)
    else:
        trained = fit_classifiers(make, pool_cohorts([one for one in cohorts if len(one.parts["train"])]), task)
    if trained is None:
        msg = "classifiers need tables and yes/no outcomes with both classes"
        raise NotAtHand(msg)
    minutes = (time.monotonic() - started) / 60
    for target in task.targets:
        metrics = measure(trained, cohorts, task, target=target)["pooled"]
        metric = next(rank for rank in RANKS if rank in metrics)
        low, high = (float(metrics.get(f"{metric}_{end}", np.nan)) for end in ("low", "high"))
        value, patients = float(metrics[metric]), int(metrics["patients"])
        yield Line(table.key, row.name, seed, target, metric, value, low, high, patients, minutes)


def _with_inputs(sites: Sites, task: Task) -> Sites:
    """The sites that have one of the task's modalities at least."""
    return {name: file for name, file in sites.items() if set(load_site(file).modalities) & set(task.modalities)}


def classifier(kind: Learner, seed: int) -> Callable[[], Any]:
    """What makes an estimator with `fit` and `predict_proba`, at its library's own settings but where noted.

    Raises:
        NotAtHand: If its library is not installed.
    """
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.svm import SVC

    match kind:
        case "random forest":
            return partial(RandomForestClassifier, 500, min_samples_leaf=5, random_state=seed)
        case "SVM":  # ranks are its own; the calibration only turns its margins into shares
            return lambda: CalibratedClassifierCV(SVC(random_state=seed), ensemble=False)
        case "logistic regression":
            return partial(LogisticRegression, max_iter=2000)
        case "MLP":  # without early stopping it learns some hundred patients by heart
            return partial(MLPClassifier, (64,), early_stopping=True, max_iter=500, random_state=seed)
        case "XGBoost":
            return partial(_installed("xgboost").XGBClassifier, n_jobs=1, random_state=seed)
        case _:
            return partial(_installed("catboost").CatBoostClassifier, verbose=False, random_seed=seed)


def _installed(name: str) -> Any:
    if importlib.util.find_spec(name) is None:
        msg = f"{name} is not installed"
        raise NotAtHand(msg)
    return importlib.import_module(name)
