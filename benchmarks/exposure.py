"""Exposure of training patients to a hostile center that keeps to its budget: whole rows of a table.

    python benchmarks/exposure.py --seeds 3

Five synthetic hospitals of 60 patients; the study, `recurrence_clinical` with 64 hidden units, is approved for three
rounds. In each the center sends all hospitals the same network, made so that each hidden unit fires for about one
patient: then the change of a unit's weights over that of its bias is the patient's row (Fowl 2022, arXiv:2110.13057).
Everything passes the hospitals' gate. A row counts as read if a guess is within .02 standard deviations of it in every
column. Printed: rows read of all training patients, and the epsilon that private hospitals were charged.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table as Grid
from scipy.stats import norm

from client.app import app as client_app
from client.cohort.load import load_cohort
from client.config.site import load_site
from client.governance.ledger import charges
from client.governance.policy_checks import ledger_of
from client.training.dataset import select_patients
from server.study.preparation import prepare
from server.study.secure_aggregation.secure_exchange import exchange
from server.study.weights.delivery import arrived
from shared_models.messages import StudyStatistics, TrainRequest
from shared_models.study_settings import StudySettings, parse_study_settings
from shared_models.task import load_task
from simulation.engines.in_process_grid import InProcessGrid
from simulation.splits import Sites

STUDY = {
    "study": "exposed",
    "task": "recurrence_clinical",
    "features": "clinical: age_years, size_mm, er{negative|positive}",
    "time-edges-days": "365, 730, 1461, 2922",
    "rounds": 3,
    "min-sites": 3,
    "optimizer": "sgd",
    "learning-rate": 0.01,
    "weight-decay": 0.0,
    "modality-dropout": 0.0,
    "hidden-units": 64,
}
WAYS: dict[str, dict[str, Any]] = {
    "each hospital's own update": {"secure-aggregation": "off"},
    "sums by secure aggregation": {"secure-aggregation": "on"},
    "own update, private": {"secure-aggregation": "off", "privacy": "patient"},
    "sums, private": {"secure-aggregation": "on", "privacy": "patient"},
}
CLOSE = 0.02  # standard deviations
DEEP, WEIGHTS = "tokens.encoders.clinical.deep", ("weight", "bias")
YAML = """
site: {name}
data_root: .
state_dir: state
tables: {{clinical: {{file: clinical.csv, patient_id: id}}}}
modalities:
  clinical:
    reader: table
    features: {{age_years: age, size_mm: size, er: {{column: er, codes: {{"-": negative, "+": positive}}}}}}
targets:
  recurrence: {{event: {{column: event, codes: {{no: 0, yes: 1}}}}, event_days: [days], followup_days: [days]}}
"""


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    grid = Grid("what the center sees", "training patients", "rows read, by seed", "epsilon")
    for way, changes in WAYS.items():
        with tempfile.TemporaryDirectory() as folder:
            attacks = [attack(Path(folder) / str(seed), seed, changes) for seed in range(options.seeds)]
        epsilon = max(spent for _, _, spent in attacks)
        grid.add_row(way, str(attacks[0][1]), ", ".join(str(read) for read, _, _ in attacks), f"{epsilon:.1f}")
    Console().print(grid)


def attack(folder: Path, seed: int, changes: dict[str, Any]) -> tuple[int, int, float]:
    """Rows read, of how many, and the largest epsilon charged."""
    sites = hospitals(folder, seed)
    config = parse_study_settings(STUDY | {"seed": seed, "results-dir": str(folder / "runs")} | changes)
    grid = InProcessGrid(client_app, sites, config.to_flat())
    state = prepare(grid, load_task(config), config)
    rows = training_rows(sites, config, state.statistics)
    per_update = len(rows) // (1 if config.secure_aggregation == "on" else len(sites))
    guesses: list[Any] = []
    for number in range(1, config.rounds + 1):
        model = trap(state.model, np.random.default_rng([seed, number]), rows.std(axis=0) > 0, per_update)
        request = TrainRequest(round=number, model=model, statistics=state.statistics)
        _, parts = exchange(grid, sorted(sites), request, config, group=str(number))
        came = [arrived(part.reply, model, config).model for part in parts if part.reply]
        guesses += [guess for weights in came for guess in read(model, weights)]
    near = np.array([any(np.abs(guess - row).max() < CLOSE for guess in guesses) for row in rows])
    spent = [charges(ledger_of(load_site(file))) for file in sites.values()]
    return int(near.sum()), len(rows), max((lines[-1]["epsilon"] for lines in spent if lines), default=0.0)


def trap(model: Any, rng: np.random.Generator, varies: Any, patients: int) -> dict[str, Any]:
    """The study's network with hidden units that fire for one of so many patients, the outermost in some direction."""
    crafted = {name: np.array(value) for name, value in model.items()}
    directions = rng.normal(size=crafted[f"{DEEP}.0.weight"].shape) * varies
    crafted[f"{DEEP}.0.weight"][:] = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    crafted[f"{DEEP}.0.bias"][:] = -norm.ppf(1 - 1 / patients)
    crafted[f"{DEEP}.3.weight"][:] = 1.0
    return crafted


def read(sent: Any, trained: Any) -> Iterator[Any]:
    """A row for each hidden unit that has moved."""
    weight, bias = (trained[f"{DEEP}.0.{part}"].astype(np.float64) - sent[f"{DEEP}.0.{part}"] for part in WEIGHTS)
    for change, moved in zip(weight, bias, strict=True):
        if moved:
            yield change / moved


def training_rows(sites: Sites, config: StudySettings, statistics: Any) -> Any:
    """The truth, `(P, width)`: all hospitals' training patients, standardised as they were for the network."""
    task = load_task(config)
    features = StudyStatistics.unpack(statistics, task, config).features
    cohorts = [load_cohort(load_site(file), task, config) for file in sites.values()]
    chosen = [select_patients(cohort, "train", task, features) for cohort in cohorts]
    return np.concatenate([np.asarray(patients.inputs["clinical"])[patients.indices] for patients in chosen])


def hospitals(folder: Path, seed: int) -> Sites:
    """Five, with a table of 60 patients each."""
    files = {}
    for number, name in enumerate("abcde"):
        rng = np.random.default_rng([seed, number])
        lines = ["id,age,size,er,event,days"]
        for patient in range(60):
            age, size, er = rng.uniform(30, 80), rng.gamma(4, 6), rng.choice(["-", "+"])
            event, days = rng.choice(["no", "yes"]), rng.uniform(200, 4000)
            lines.append(f"{name}-{patient},{age:.0f},{size:.1f},{er},{event},{days:.0f}")
        (folder / name).mkdir(parents=True)
        (folder / name / "clinical.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        files[name] = folder / name / f"{name}.yaml"
        files[name].write_text(YAML.format(name=name), encoding="utf-8")
    return files


if __name__ == "__main__":
    main()
