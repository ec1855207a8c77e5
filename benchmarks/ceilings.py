"""Benchmark of every task against the Bayes-optimal score of its synthetic cohort.

    python benchmarks/ceilings.py                      all tasks, three cohorts each
    python benchmarks/ceilings.py --only relapse_mammogram --seeds 1
    python benchmarks/ceilings.py --write docs/ceilings.md

Each seed is a cohort of its own: five hospitals, four train, the fifth never does and has 320 patients, so that the
figures are sharp. The settings, `studies/synthetic_TASK.toml`, were chosen on cohorts with other seeds. What was run
is in WORK/TASK.json and is not run again: tasks may run side by side, each in its own process, and a command
that was stopped continues with the run it was at. Exit code 0 if every bar is cleared.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ceiling_runs import Experiment, MetricsByTarget, runs
from rich.console import Console
from rich.table import Table

from simulation.cohorts import ceiling
from simulation.cohorts.brain import ceiling as ceiling_brain
from simulation.cohorts.ceiling import Ceiling
from simulation.cohorts.expression import ceiling as ceiling_expression
from simulation.cohorts.mammography import ceiling as ceiling_mammography
from simulation.cohorts.population import LATENTS

SINGLE_PHASE = tuple(index for index, name in enumerate(LATENTS) if name != "wash_out")
Z95 = 1.959964
COLUMNS = ("full", "linear", "deep", "plain", "pooled", "local", "permuted", "with gaps", "left out")
NEEDED = ("full", "plain", "pooled", "local", "permuted")


PAGE = """\
# Each task against its ceiling

Written by `python benchmarks/ceilings.py --write docs/ceilings.md`, whose docstring says how. AUC (Ki-67: mean
absolute error in points) over the pooled test patients of five synthetic hospitals, mean over cohorts, each with its
own seed, and 95 % interval. *full*: the task's network, federated, with its defaults. *linear*: the linear path of the
tables alone. *deep*: the network without that path. *plain*: three convolutions or a hidden layer, nothing tuned, on
pooled patients. *pooled*: the task's network on these. *local*: the mean of the four sites that train, each alone.
*permuted*: outcomes of other patients. *with gaps*: two sites lack a modality. *left out*: those two do not train at
all. No model can exceed the ceiling, the score of the exact posterior: `ceiling.py` in `simulation/cohorts/`.
"""
HIDDEN_PAGE = """\
## A modality shuffled, or absent

The full network, as trained, on test patients who have a modality of other patients of their hospital, or none.
"""


def dce_ceilings() -> dict[str, Ceiling]:
    """A single phase does not show wash-out."""
    return {**ceiling.receptor_auc(SINGLE_PHASE), "ki67_percent": ceiling.ki67_error(SINGLE_PHASE)}


EXPERIMENTS = (
    Experiment("recurrence_mri", lambda: {"recurrence": ceiling.bayes_auc()}, slack=0.08, gap="mri", scale=2.0),
    Experiment(
        "subtype_histology",
        lambda: {"basal_or_her2": ceiling_expression.subtype_auc()},
        slack=0.08,
        gap="tiles",
        gap_at=("A", "B"),  # C has no genes, D no slides
    ),
    Experiment("receptors_dce_mri", dce_ceilings, slack=0.08, scale=2.0),
    Experiment("relapse_mammogram", lambda: {"relapse": ceiling_mammography.relapse_auc()}, slack=0.05, scale=4.0),
    Experiment("receptors_brain_metastasis", ceiling_brain.receptor_auc, slack=0.08, gap="radiomics", scale=2.0),
)


def main() -> int:
    """Runs what has not been run, prints the table and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [experiment.task for experiment in EXPERIMENTS]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="TASK", help=", ".join(names))
    parser.add_argument("--seeds", type=int, default=3, help="cohorts of each task; 0 shows what was run before")
    parser.add_argument("--work", type=Path, default=Path("runs/ceilings"), help="cohorts, checkpoints, results")
    parser.add_argument("--write", type=Path, metavar="MD", help="also write the table there")
    options = parser.parse_args()
    console = Console()
    chosen = [experiment for experiment in EXPERIMENTS if experiment.task in options.only]
    for experiment in chosen:
        for seed in range(options.seeds):
            run_all(experiment, seed, options.work, console)
    rows, hidden, failures = [], [], []
    for experiment in chosen:
        if not (file := options.work / f"{experiment.task}.json").exists():
            continue
        done = json.loads(file.read_text())
        cohorts = len({name.partition("/")[0] for name in done})
        for target, best in experiment.ceilings().items():
            values = summary(done, target)
            rows.append((f"{experiment.task} ({cohorts})", target, best, values))
            hidden += [(experiment.task, target, what, cell) for what, cell in _hidden(done, target)]
            failures += list(judged(experiment, target, best, values))
    show(rows, console)
    if options.write:
        options.write.write_text(markdown(rows, hidden, failures), encoding="utf-8")
    for failure in failures:
        console.print(f"FALLS SHORT  {failure}", style="red")
    return int(bool(failures))


def run_all(experiment: Experiment, seed: int, work: Path, console: Console) -> None:
    """Does the runs of one cohort that have no results yet."""
    logging.getLogger("server").setLevel(logging.WARNING)
    work.mkdir(parents=True, exist_ok=True)
    file = work / f"{experiment.task}.json"
    done: dict[str, MetricsByTarget] = json.loads(file.read_text()) if file.exists() else {}
    for name, run in runs(experiment, seed, work, os.cpu_count() or 1):
        key = f"{seed}/{name}"
        if key not in done:
            started = time.monotonic()
            done[key] = run()
            file.write_text(json.dumps(done, indent=1))
            figures = ", ".join(f"{target} {value(values)[0]:.3f}" for target, values in done[key].items())
            console.print(
                f"{experiment.task} {key}: {figures} ({time.monotonic() - started:.0f} s)", style="dim", highlight=False
            )


def value(metrics: dict[str, float]) -> tuple[float, float]:
    """A metric and its standard error: the AUC with that of its DeLong interval, or the mean absolute error."""
    if "auc" in metrics:
        return metrics["auc"], (metrics["auc_high"] - metrics["auc_low"]) / (2 * Z95)
    return metrics["mae"], metrics["rmse"] / np.sqrt(metrics["patients"])


def summary(done: dict[str, MetricsByTarget], target: str) -> dict[str, tuple[float, float]]:
    """For each column the mean over the cohorts that were run and its standard error; local is the mean over sites."""
    return {column: mean for column in COLUMNS if (mean := mean_of(done, column, target))}


def mean_of(done: dict[str, MetricsByTarget], column: str, target: str) -> tuple[float, float] | None:
    """Mean over cohorts and its standard error of one column; None where it has not been run.

    The error is that over test patients, or that between cohorts where this is larger.
    """
    by_seed = []
    for seed in sorted({name.partition("/")[0] for name in done}):
        names = [name for name in done if name == f"{seed}/{column}" or name.startswith(f"{seed}/{column} ")]
        values = np.array([value(done[name][target]) for name in names if target in done[name]])
        if len(values):
            by_seed.append(values.mean(axis=0))
    if not by_seed:
        return None
    means, errors = np.array(by_seed).T
    error = float(np.sqrt((errors**2).sum()) / len(errors))
    between = float(means.std(ddof=1) / np.sqrt(len(means))) if len(means) > 1 else 0.0
    return float(means.mean()), max(error, between)


def _hidden(done: dict[str, MetricsByTarget], target: str) -> Iterator[tuple[str, str]]:
    """What was hidden, `shuffled tiles`, and what the network reaches without it."""
    names = dict.fromkeys(name.partition("/")[2] for name in done)
    for name in names:
        if name.startswith(("shuffled ", "absent ")) and (mean := mean_of(done, name, target)):
            yield name, cell(*mean)


def judged(experiment: Experiment, target: str, best: Ceiling, values: dict[str, tuple[float, float]]) -> Iterator[str]:
    """What is not as it should be."""
    name = f"{experiment.task} {target}"
    if missing := [column for column in NEEDED if column not in values]:
        yield f"{name}: not run: {', '.join(missing)}"
        return
    full = values["full"][0]
    if target == "ki67_percent":
        if full > best.value + 1.5:
            yield f"{name}: mean absolute error {full:.1f}, best {best.value:.1f} + 1.5"
        return
    if full < best.value - experiment.slack:
        yield f"{name}: {full:.3f}, ceiling {best.value:.3f} - {experiment.slack}"
    if full <= values["local"][0]:
        yield f"{name}: {full:.3f} is no better than local training, {values['local'][0]:.3f}"
    for column in ("pooled", "plain"):
        if full < values[column][0] - 0.02:
            yield f"{name}: {full:.3f} is more than .02 below {column}, {values[column][0]:.3f}"
    for column in ("full", "plain", "pooled", "local"):
        if values[column][0] > best.value + 3 * np.hypot(values[column][1], best.standard_error):
            yield f"{name}: {column} {values[column][0]:.3f} is above its ceiling {best.value:.3f}: a leak?"
    if abs(values["permuted"][0] - 0.5) > 3 * values["permuted"][1]:
        yield f"{name}: permuted outcomes give {values['permuted'][0]:.3f}: a leak?"
    if "left out" in values:
        gaps, out = values["with gaps"][0], values["left out"][0]
        if gaps < full - 0.03:
            yield f"{name}: with gaps at two sites {gaps:.3f}, without {full:.3f}"
        if gaps <= out:
            yield f"{name}: with gaps {gaps:.3f}, no better than without those sites, {out:.3f}"


def cells(best: Ceiling, values: dict[str, tuple[float, float]]) -> list[str]:
    """A row's figures with 95 % intervals."""
    return [f"{best.value:.3f}", *(cell(*values[column]) if column in values else "-" for column in COLUMNS)]


def cell(mean: float, error: float) -> str:
    """A figure with its 95 % interval."""
    digits = 2 if mean < 2 else 1
    return f"{mean:.{digits + 1}f} ({mean - Z95 * error:.{digits}f}-{mean + Z95 * error:.{digits}f})"


def show(rows: list[tuple[str, str, Ceiling, dict[str, tuple[float, float]]]], console: Console) -> None:
    """Prints the table."""
    table = Table(title="AUC (Ki-67: mean absolute error) on pooled test patients, 95 % interval", title_justify="left")
    for head in ("task (cohorts)", "target", "ceiling", *COLUMNS):
        table.add_column(head)
    for task, target, best, values in rows:
        table.add_row(task, target, *cells(best, values))
    console.print(table)


def markdown(
    rows: list[tuple[str, str, Ceiling, dict[str, tuple[float, float]]]],
    hidden: list[tuple[str, str, str, str]],
    failures: list[str],
) -> str:
    """The page of `docs/`."""
    heads = ("task (cohorts)", "target", "ceiling", *COLUMNS)
    lines = [
        PAGE,
        f"| {' | '.join(heads)} |",
        f"|{'---|' * len(heads)}",
        *(f"| {task} | {target} | {' | '.join(cells(best, values))} |" for task, target, best, values in rows),
        "",
        "Below target:" if failures else "Every target is reached.",
        *(f"- {failure}" for failure in failures),
    ]
    if hidden:
        lines += ["", HIDDEN_PAGE, "| task | target | hidden | |", "|---|---|---|---|"]
        lines += [f"| {' | '.join(one)} |" for one in hidden]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
