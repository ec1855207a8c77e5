"""Benchmark of system D's paper (10.3389/fonc.2025.1593806): its eight models, their tests, and what drives them.

    python benchmarks/paper_d.py cbis_ddsm                  691 patients' masses at five hospitals, about ten minutes
    python benchmarks/paper_d.py synthetic                  five synthetic hospitals
    python benchmarks/paper_d.py cbis_ddsm --folds 2 --rounds 2 --work /tmp/d

Cross-validated by patient: the network trained federated and on the pooled patients, and six classifiers of tables with
settings that validation patients choose; paired DeLong and exact McNemar against the federated one, after Holm.
Written to --work/DATA: comparisons.csv, importance.csv (permutation, and mean |SHAP|), kendall.csv (tau-b of each
feature and the outcome, after Holm), and as SVG and PNG a SHAP beeswarm and violins of each feature by outcome. The two
figures show patients, which only a simulation can.
"""

from __future__ import annotations

import argparse
import csv
import logging
import shutil
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from paper_rows import TABLES
from paper_runs import config_of, sites_of
from rich.console import Console
from scipy.stats import kendalltau

from client.cohort.load import Cohort
from client.training.dataset import select_patients
from client.training.shapley import values_by_patient
from server.study.results.comparison_section import COMPARISONS
from server.study.results.results_file import RESULTS, read_results
from server.study.weights.checkpoint import BEST, load_checkpoint
from shared_models.metrics.paired import holm
from shared_models.pages.drawing import BLUE, ORANGE, canvas, styled
from shared_models.study_settings import StudySettings
from shared_models.task import Task, load_task
from simulation.baselines.comparison import add_comparisons
from simulation.baselines.comparison_table import print_comparisons
from simulation.baselines.pooled_and_local import from_checkpoint
from simulation.baselines.scores import splits_of
from simulation.engines.in_process import run_in_process
from simulation.splits import Sites, fitted_to

TABLE, TARGET = "mammography", "relapse"
MODELS = ("pooled", "logistic-regression", "random-forest", "svm", "gradient-boosting", "xgboost", "catboost")
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Patients:
    """All patients, each explained by the network of the fold that tests them.

    Attributes:
        features: F names.
        values: `(N, F)`, a category as its place in the study's list; means over a patient's masses and views.
        shap: `(N, F)` Shapley values of the probability.
        outcome: `(N,)`.
    """

    features: tuple[str, ...]
    values: Floats
    shap: Floats
    outcome: Floats


def main() -> int:
    """Runs the study with its comparisons, and writes tables and figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = {table.data: table for table in TABLES if table.system == "D"}
    parser.add_argument("data", choices=data, help="what the hospitals have")
    parser.add_argument("--folds", type=int, default=5, metavar="N", help="of each hospital's patients [5]")
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="of the federated study [20]")
    parser.add_argument("--work", type=Path, default=Path("runs/paper_d"), metavar="DIR", help="cohort and results")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    table, work, console = data[options.data], options.work.resolve() / options.data, Console(highlight=False)
    sites = sites_of(table, 0, work)
    changes = {"folds": options.folds, "rounds": options.rounds, "importance": "shap", "study": "D"}
    config = config_of(table, table.rows[0], 0, work).model_copy(update={**changes, "results_dir": str(work / "runs")})
    config = fitted_to(config, sites)
    run_in_process(sites, config, console)
    results = add_comparisons(sites, config, MODELS, False, run_in_process, console)
    folder = Path(config.results_dir) / config.study
    print_comparisons(results, folder, console)
    shutil.copy(folder / COMPARISONS, work / COMPARISONS)
    write_importance(folder, work)
    patients = explained(sites, load_task(config), config)
    write_kendall(patients, work, console)
    draw_violins(patients, work)
    draw_beeswarm(patients, work)
    console.print(f"tables and figures: {work}")
    return 0


def write_importance(folder: Path, work: Path) -> None:
    """Each feature's drop of the AUC when it is shuffled, and its mean absolute Shapley value; the largest first."""
    rows = [one for one in read_results(folder / RESULTS).targets[TARGET].importance["internal"] if one.feature]
    rows.sort(key=lambda one: -(one.drop or 0.0))
    columns = ("feature", "change", "patients", "drop", "drop_low", "drop_high", "mean_shap", "explained")
    write_csv(work / "importance.csv", columns, [[getattr(one, name) for name in columns] for one in rows])


def explained(sites: Sites, task: Task, config: StudySettings) -> Patients:
    """Every test patient of every fold, as far as the Shapley values of a fold's site go."""
    features = task.tables[TABLE].features
    rows: list[tuple[Floats, Floats, float]] = []
    for split in splits_of(sites, task, config):
        best = load_checkpoint(Path(split.config.results_dir) / split.config.study / BEST)
        trained = from_checkpoint(best, task, split.config)
        for cohort in split.cohorts:
            tested, values = select_patients(cohort, "test", task, trained.statistics), codes_of(cohort, task)
            for place, shap in values_by_patient(trained.model, tested, task, split.config, split.config.seed):
                patient = cohort.parts["test"][place]
                own = values[cohort.first[patient] : cohort.first[patient + 1]]
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", RuntimeWarning)  # a feature that is missing in all views stays so
                    mean = np.nanmean(own, axis=0)
                rows.append((mean, shap[:, 0], float(cohort.truths[TARGET][patient])))
    values, shaps, outcomes = (np.array(column) for column in zip(*rows, strict=True))
    return Patients(tuple(one.name for one in features), values, shaps, outcomes)


def codes_of(cohort: Cohort, task: Task) -> Floats:
    """`(R, F)`: a number as it is, a category as its place in the study's list; NaN where missing."""
    table, columns, start = np.asarray(cohort.inputs[TABLE]), [], 0
    for feature in task.tables[TABLE].features:
        own = table[:, start : (start := start + len(feature.columns))]
        code = own.argmax(axis=1) if feature.categories else own[:, 0]
        columns.append(np.where(np.isnan(own).any(axis=1), np.nan, code))
    return np.stack(columns, axis=1).astype(np.float64)


def write_kendall(patients: Patients, work: Path, console: Console) -> None:
    """Tau-b of each feature and the outcome, over patients whose both are known."""
    rows = []
    for feature, values in zip(patients.features, patients.values.T, strict=True):
        known = ~np.isnan(values) & ~np.isnan(patients.outcome)
        tau, p_value = kendalltau(values[known], patients.outcome[known])
        rows.append((feature, int(known.sum()), float(tau), float(p_value)))
    corrected = holm([row[3] for row in rows])
    table = [[*row[:2], *(f"{value:.4g}" for value in (*row[2:], p))] for row, p in zip(rows, corrected, strict=True)]
    write_csv(work / "kendall.csv", ("feature", "patients", "tau_b", "p", "p_holm"), table)
    for feature, count, tau, _, p in table:
        console.print(f"Kendall's tau of {feature} and the outcome: {tau} ({count} patients, p {p} after Holm)")


def draw_violins(patients: Patients, work: Path) -> None:
    """A pair of violins a feature: patients without the outcome, and with it."""
    with styled("violins"):
        drawing, axes = canvas(3.0, columns=len(patients.features))
        for one, feature, values in zip(axes, patients.features, patients.values.T, strict=True):
            for place, colour in enumerate((BLUE, ORANGE)):
                own = values[(patients.outcome == place) & ~np.isnan(values)]
                parts: Any = one.violinplot([own], [place], widths=0.8, showmedians=True)
                for body in parts["bodies"]:
                    body.set(facecolor=colour, alpha=0.6)
            one.set(title=feature, xticks=[0, 1], xticklabels=["no", "yes"])
        save(drawing, work / "violins")


def draw_beeswarm(patients: Patients, work: Path) -> None:
    """The beeswarm of the shap library."""
    import matplotlib.pyplot as plt
    import shap

    explanation = shap.Explanation(patients.shap, data=patients.values, feature_names=list(patients.features))
    shap.plots.beeswarm(explanation, show=False)
    plt.xlabel("Shapley value of the probability")
    save(plt.gcf(), work / "beeswarm")
    plt.close("all")


def save(drawing: Any, path: Path) -> None:
    """As SVG and PNG."""
    for kind in ("svg", "png"):
        drawing.savefig(path.with_suffix(f".{kind}"), bbox_inches="tight", dpi=150)


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([columns, *rows])


if __name__ == "__main__":
    import matplotlib as mpl

    mpl.use("agg")
    sys.exit(main())
