"""Benchmark of secure aggregation: each task's synthetic study with and without it, in one process.

    python benchmarks/secure_aggregation.py --scale 0.3
    python benchmarks/secure_aggregation.py --only relapse_mammogram subtype_histology --rounds 5

Prints the error of the final weights over the norm of what training changed in them (at most 1e-3), the difference of
the AUC (at most .002), the processor time of both studies, and what one site sends in a training round. Exits nonzero
where a bar is missed. A deployment adds two exchanges to each, of some seconds of waiting.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from client.governance.chained_log import read
from server.study.checkpoint import LAST, load_checkpoint
from server.study.initial_weights import initial_model
from shared_models.study_settings import parse_study_settings
from shared_models.task import load_task
from simulation.__main__ import cohort_writer
from simulation.engines.in_process import run_in_process
from simulation.splits import Sites

ROOT = Path(__file__).resolve().parents[1]
TASKS = (
    "recurrence_mri",
    "subtype_histology",
    "receptors_dce_mri",
    "relapse_mammogram",
    "receptors_brain_metastasis",
)
MAX_ERROR, MAX_AUC = 1e-3, 0.002


def main() -> int:
    """Prints the table and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=TASKS, choices=TASKS, metavar="TASK")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--scale", type=float, default=0.3, help="of the cohorts' sizes")
    options = parser.parse_args()
    console, missed = Console(), False
    table = Table(title=f"{options.rounds} rounds, cohorts times {options.scale:g}", title_justify="left")
    for head in ("task", "weights", "error", "AUC differs", "plain s", "secure s", "plain MB", "secure MB"):
        table.add_column(head, justify="left" if head == "task" else "right")
    for task in options.only:
        with tempfile.TemporaryDirectory() as folder, console.status(task):
            row, well = compare(task, options, Path(folder))
        missed |= not well
        table.add_row(task, *row)
        console.print(task, *row)
    console.print(table)
    return int(missed)


def compare(task: str, options: argparse.Namespace, folder: Path) -> tuple[list[str], bool]:
    """A line of the table, and whether it clears the bars."""
    sites = {file.stem: file for file in cohort_writer(task)(folder / "cohort", scale=options.scale)}
    study = tomllib.loads((ROOT / "studies" / f"synthetic_{task}.toml").read_text(encoding="utf-8"))
    study |= {"rounds": options.rounds, "min-sites": 3}
    plain, secure = (run(sites, study, secure, folder) for secure in ("off", "on"))
    config = parse_study_settings(study)
    made = load_task(config)
    nobody = {name: target.counts(np.zeros(0)) for name, target in made.targets.items()}
    first = initial_model(made, config, nobody)  # but for the last layers' bias, which starts at the base rates
    change = _norm({name: plain["model"][name] - array for name, array in first.items()})
    error = _norm({name: array - secure["model"][name] for name, array in plain["model"].items()}) / change
    apart = max(abs(a - b) for a, b in zip(plain["aucs"], secure["aucs"], strict=True))
    numbers = sum(array.size for array in first.values())
    cells = [f"{numbers:,}", f"{error:.1e}", f"{apart:.4f}", f"{plain['s']:.1f}", f"{secure['s']:.1f}"]
    cells += [f"{plain['mb']:.2f}", f"{secure['mb']:.2f}"]
    return cells, error <= MAX_ERROR and apart <= MAX_AUC


def run(sites: Sites, study: dict[str, Any], secure: str, folder: Path) -> dict[str, Any]:
    """One study: its last weights, pooled figures, processor seconds, and the largest reply to `train` in MB."""
    name = {"on": "secure", "off": "plain"}[secure]
    config = parse_study_settings({**study, "secure-aggregation": secure, "results-dir": str(folder / name)})
    started = time.process_time()
    results = run_in_process(sites, config)
    seconds = time.process_time() - started
    lines = read(folder / name / config.study / "audit.jsonl")
    sent = [line["bytes"] for line in lines if line["event"] == "received" and line["message"] == "train"]
    figures = [target["pooled"] for target in results["targets"].values()]
    aucs = [figure.get("auc", figure.get("r2", 0.0)) or 0.0 for figure in figures]
    model = load_checkpoint(folder / name / config.study / LAST).model
    return {"model": model, "aucs": aucs, "s": seconds, "mb": max(sent) / 1e6}


def _norm(arrays: dict[str, np.ndarray[Any, Any]]) -> float:
    return float(np.sqrt(sum(np.square(array.astype(np.float64)).sum() for array in arrays.values())))


if __name__ == "__main__":
    sys.exit(main())
