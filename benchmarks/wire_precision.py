"""Loss of AUC by weights that travel in bfloat16: each task trained with both numbers, on the same patients and seed.

    python benchmarks/wire_precision.py                                  # exits nonzero where more than .005 is lost
    python benchmarks/wire_precision.py --only relapse_mammogram --seeds 3

The cohorts and studies of `ceilings.py`, with five hospitals. The AUC is of the exact scores of all their test
patients, by the best round. Nothing is summed in secret, where whole numbers travel to the center either way.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

from ceiling_runs import cohort, federated
from ceilings import EXPERIMENTS
from rich.console import Console
from rich.table import Table

from shared_models.study_settings import StudySettings

BAR = 0.005
WIRES = get_args(StudySettings.model_fields["wire"].annotation)


def main() -> int:
    """Prints the table and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [experiment.task for experiment in EXPERIMENTS]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="TASK", help=", ".join(names))
    parser.add_argument("--seeds", type=int, default=1, help="cohorts of each task [1]")
    parser.add_argument("--rounds", type=int, help="[those of the task's study]")
    parser.add_argument("--scale", type=float, help="of the cohorts' sizes [those of ceilings.py]")
    options = parser.parse_args()
    console, table, worst = Console(soft_wrap=True), Table("task", "target", *WIRES, "lost"), 0.0
    for task in options.only:
        for target, values in of_task(task, options):
            lost = values[0] - values[1]
            worst = max(worst, lost)
            row = (task, target, *(f"{value:.4f}" for value in values), f"{lost:+.4f}")
            table.add_row(*row)
            console.print(" | ".join(row), highlight=False)
    console.print(table)
    console.print(f"at most {worst:.4f} lost (bar {BAR}): {'passes' if worst < BAR else 'TOO MUCH'}")
    return int(worst >= BAR)


def of_task(task: str, options: argparse.Namespace) -> Iterator[tuple[str, list[float]]]:
    """Each target, and its mean AUC by wire."""
    (experiment,) = (one for one in EXPERIMENTS if one.task == task)
    experiment = replace(experiment, scale=options.scale or experiment.scale)
    changes = {"rounds": options.rounds} if options.rounds else {}
    values: dict[str, list[list[float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        for seed in range(options.seeds):
            folder = Path(name) / str(seed)
            sites = cohort(experiment, seed, folder / "cohort", workers=1)
            for index, wire in enumerate(WIRES):
                own = {**changes, "wire": wire, "secure-aggregation": "off"}
                for target, metrics in federated(experiment, seed, folder / wire, sites, sites, **own).items():
                    if "auc" in metrics:
                        values.setdefault(target, [[] for _ in WIRES])[index].append(metrics["auc"])
    for target, by_wire in values.items():
        yield target, [statistics.fmean(one) for one in by_wire]


if __name__ == "__main__":
    sys.exit(main())
