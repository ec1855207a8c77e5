"""Benchmark of what each network learns of its phantoms, federated with its defaults, beside a plain network.

    python benchmarks/phantom_studies.py                                  every phantom, five cohorts each
    python benchmarks/phantom_studies.py --only "receptors_dce_mri rim" --seeds 3
    python benchmarks/phantom_studies.py --seeds 0 --write docs/phantoms.md    the table, from what was run before

Four hospitals train and a fifth never does; grids and rounds are set, and modalities where `STUDIES` names them, and
nothing else. The plain network of `plain_networks.py` learns from the same training patients pooled, from the same
inputs. Both are scored on the test patients of all five. Each run is a line of `--csv`, and is not run again.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ceiling_reference import plain_reference
from ceiling_runs import cohorts_of, from_best
from paper_lines import Line, append, read
from phantom_page import with_table
from rich.console import Console

from client.app import app as client_app
from server.app import run_study
from shared_models.metrics.summary import Metrics
from shared_models.study_settings import StudySettings, parse_study_settings
from shared_models.task import load_task
from simulation.baselines.pooled_and_local import measure
from simulation.engines.budgets import begin_budgets
from simulation.engines.in_process_grid import InProcessGrid
from simulation.phantoms.cohort import phantom_writer
from simulation.splits import Sites, find_sites, fitted_to

RANKS = ("auc", "c_index", "mae")


@dataclass(frozen=True)
class Study:
    """A phantom and what is set of its study.

    Attributes:
        task: Its name.
        kind: Of the phantom.
        settings: Beside the rounds.
    """

    task: str
    kind: str
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """As `receptors_dce_mri rim`."""
        return f"{self.task} {self.kind}"


A = {"grids": "mri: 16x32x32 at 4x2x2 mm"}
B = {"grids": "tiles: 8x32x32 at 1x2x2 mm", "modalities": "tiles, expression", "targets": "basal_or_her2"}
C = {"grids": "dce_mri: 16x32x32 at 3x3x3 mm"}
# Radiomics are measured in the image: they would show what the network is to find by itself.
E = {"grids": "brain_mri: 16x16x16 at 2x2x2 mm", "modalities": "brain_mri, anatomical_position"}
STUDIES = (
    *(Study("recurrence_mri", kind, A) for kind in ("texture", "shape", "interaction")),
    *(Study("subtype_histology", kind, B) for kind in ("image", "interaction")),
    *(Study("receptors_dce_mri", kind, C) for kind in ("rim", "texture", "shape", "interaction")),
    *(Study("relapse_mammogram", kind) for kind in ("linear", "interaction", "threshold")),
    *(Study("receptors_brain_metastasis", kind, E) for kind in ("texture", "shape", "interaction")),
)


def main() -> int:
    """Runs what has not been run, prints each run, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [study.name for study in STUDIES]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="STUDY", help=", ".join(names))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], metavar="N", help="of the cohorts")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--work", type=Path, default=Path("runs/phantoms"), metavar="DIR", help="cohorts, checkpoints")
    parser.add_argument("--csv", type=Path, default=Path("docs/phantoms.csv"), metavar="CSV", help="what was measured")
    parser.add_argument("--write", type=Path, metavar="MD", help="only write the table there, between its marks")
    options = parser.parse_args()
    if options.write:
        text = options.write.read_text(encoding="utf-8")
        options.write.write_text(with_table(text, names, read(options.csv)), encoding="utf-8")
        return 0
    logging.disable(logging.WARNING)
    console = Console(highlight=False)
    for seed in options.seeds:
        for study in (one for one in STUDIES if one.name in options.only):
            run(study, seed, options.rounds, options.work.resolve(), options.csv, console)
    return 0


def run(study: Study, seed: int, rounds: int, work: Path, file: Path, console: Console) -> None:
    """Does the runs of one cohort that the CSV does not have yet."""
    known = {(line.table, line.row, line.seed) for line in read(file)}
    models = [name for name in ("federated", "plain") if (study.name, name, seed) not in known]
    if not models:
        return
    folder = work / study.name.replace(" ", "-") / str(seed)
    sites = cohort(study, seed, folder / "sites")
    values = {"task": study.task, "rounds": rounds, "seed": seed, "results-dir": str(folder / "runs"), **study.settings}
    config = fitted_to(parse_study_settings({**values, "overwrite": True}), sites)
    for model in models:
        started = time.monotonic()
        results = federated(sites, config) if model == "federated" else plain(sites, config)
        minutes = (time.monotonic() - started) / 60
        append(file, list(lines(study, model, seed, results, minutes)))
        figures = ", ".join(f"{target} {_rank(metrics)[1]:.3f}" for target, metrics in results.items())
        console.print(f"{study.name} {seed}, {model}: {figures} ({60 * minutes:.0f} s)")


def cohort(study: Study, seed: int, folder: Path) -> Sites:
    """The hospitals' settings files; their files are written first where they are not there yet."""
    if not (written := sorted(folder.glob("*/*.yaml"))):
        written = phantom_writer(study.task, [study.kind, f"seed={seed}"])(folder, workers=1)
    return find_sites(written)


def federated(sites: Sites, config: StudySettings) -> dict[str, Metrics]:
    """A whole study through the ServerApp and the sites' ClientApps: exact metrics of each target."""
    begin_budgets(sites, config)
    run_study(InProcessGrid(client_app, sites, config.to_flat()), config)
    task, trained = load_task(config), from_best(config)
    return {name: measure(trained, cohorts_of(sites, config), task, target=name)["pooled"] for name in task.targets}


def plain(sites: Sites, config: StudySettings) -> dict[str, Metrics]:
    """The plain network on pooled patients; a time to event is an event by the horizon to it, known of all of them."""
    config = config.model_copy(update={"outcome": "binary"})
    return plain_reference(cohorts_of(sites, config), load_task(config), config.seed)


def lines(study: Study, model: str, seed: int, results: dict[str, Metrics], minutes: float) -> Iterator[Line]:
    """A line for each target."""
    for target, metrics in results.items():
        metric, value = _rank(metrics)
        low, high = (float(metrics.get(f"{metric}_{end}", np.nan)) for end in ("low", "high"))
        yield Line(study.name, model, seed, target, metric, value, low, high, int(metrics["patients"]), minutes)


def _rank(metrics: Metrics) -> tuple[str, float]:
    metric = next(name for name in RANKS if name in metrics)
    return metric, float(metrics[metric])


if __name__ == "__main__":
    sys.exit(main())
