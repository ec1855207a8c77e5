"""Loss of AUC by weights that travel in bfloat16: each task trained with both numbers, on the same patients and seed.

    python benchmarks/wire_precision.py                                  # exits nonzero where more than .005 is lost
    python benchmarks/wire_precision.py --tasks relapse_mammogram --scale 1 --seeds 0 1 2

The five synthetic hospitals of each task, in one process, without secure aggregation, whose sums are of whole numbers
either way. The AUC is that of the test patients of all sites that train, at the horizon for a time to event; it is the
mean over seeds. The interval is that of one study: what other patients would change.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from rich.console import Console
from rich.table import Table

from client.config.site import load_site
from shared_models.study_settings import StudySettings, parse_study_settings
from simulation.cohort_options import cohort_writer
from simulation.engines.in_process import run_in_process
from simulation.splits import write_site

BAR = 0.005
STUDIES = Path(__file__).parents[1] / "studies"
TASKS = (
    "recurrence_clinical",
    "recurrence_mri",
    "subtype_histology",
    "receptors_dce_mri",
    "relapse_mammogram",
    "receptors_brain_metastasis",
)
WIRES = get_args(StudySettings.model_fields["wire"].annotation)


def main() -> int:
    """Prints the table and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--scale", type=float, default=1.0, help="of the cohorts' sizes [1]")
    parser.add_argument("--rounds", type=int, help="[those of the task's synthetic study]")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    heads = ("task", "target", "test patients", *(f"AUC, {wire}" for wire in WIRES), "95 % interval", "lost")
    table, worst = Table(*heads), 0.0
    for task in options.tasks:
        for target, patients, values, interval in of_task(task, options):
            lost = values[0] - values[1]
            worst = max(worst, lost)
            shown = (f"{patients:.0f}", *(f"{value:.4f}" for value in values), interval, f"{lost:+.4f}")
            table.add_row(task, target, *shown)
            Console().print(task, target, *shown, sep=" | ", highlight=False)
    Console().print(table)
    Console().print(f"at most {worst:.4f} lost (bar {BAR}): {'passes' if worst < BAR else 'TOO MUCH'}")
    return int(worst >= BAR)


def of_task(task: str, options: argparse.Namespace) -> Iterator[tuple[str, float, list[float], str]]:
    """Each target's name, test patients, mean AUC by wire, and the interval of the first seed's float32."""
    figures: dict[str, list[list[dict[str, Any]]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for seed in options.seeds:
            files = cohort_writer(task)(folder / f"cohort-{seed}", seed=seed, scale=options.scale)
            little_withheld = {"minimum_count": 5}  # made-up patients
            sites = {
                file.stem: write_site(load_site(file), folder / f"sites-{seed}", policy=little_withheld)
                for file in files
            }
            for index, wire in enumerate(WIRES):
                config = settings(task, options.rounds, seed, wire, folder / f"{wire}-{seed}")
                results = run_in_process(sites, config)
                for target, one in results["targets"].items():
                    if one["internal"].get("auc") is not None:
                        figures.setdefault(target, [[] for _ in WIRES])[index].append(one["internal"])
    for target, by_wire in figures.items():
        first = by_wire[0][0]
        means = [statistics.fmean(metrics["auc"] for metrics in one) for one in by_wire]
        yield target, first["patients"], means, f"{first['auc_low']:.3f} to {first['auc_high']:.3f}"


def settings(task: str, rounds: int | None, seed: int, wire: str, results: Path) -> StudySettings:
    """The synthetic study of a task, with two fifths of the patients for the test."""
    file = STUDIES / f"synthetic_{task}.toml"
    values: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8")) if file.exists() else {"task": task}
    values |= {"rounds": rounds} if rounds else {}
    values |= {"study": "wire", "wire": wire, "seed": seed, "split-seed": seed, "test-fraction": 0.4}
    return parse_study_settings({**values, "secure-aggregation": "off", "results-dir": str(results)})


if __name__ == "__main__":
    sys.exit(main())
