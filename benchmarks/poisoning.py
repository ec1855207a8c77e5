"""Poisoning by one of five hospitals: what each aggregation rule leaves of it.

    python benchmarks/poisoning.py                         # both halves by name; without one, both
    python benchmarks/poisoning.py --labels --seeds 3
    python benchmarks/poisoning.py --trigger --only "mean, clipped" krum

Labels: synthetic mammography; the hospital trains on outcomes that are the wrong way round, or sends a network that
ranks everybody so. Trigger: synthetic tiles; it plants a green square in half its training patients and calls them
Luminal (a backdoor, Gu 2017, arXiv:1708.06733). Both attacks also with the update a number of times as large, which
without clipping replaces the network (Bagdasaryan 2020, arXiv:1807.00459). What counts are the test patients of the
other four hospitals: their AUC, and the share of their Basal or Her2 patients who pass for Luminal (a score below the
median of all), with the square and without. Everything else is the code that center and hospitals run.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from real_data_runs import metrics, outcomes
from rich.console import Console
from rich.table import Table as Grid

import client.app
from client.cohort.load import Cohort, load_cohort
from client.config.site import load_site
from client.training.dataset import PatientDataset
from server.app import run_study
from server.study.exchange import StudyError
from server.study.weights.checkpoint import BEST, load_checkpoint
from shared_models.messages import TrainReply, TrainRequest
from shared_models.messages.bfloat16 import change_of, changed_by
from shared_models.study_settings import parse_study_settings
from shared_models.task import Task, load_task
from simulation.baselines.pooled_and_local import from_checkpoint
from simulation.cohorts.expression.cohort import write_cohort as write_slides
from simulation.cohorts.mammography.cohort import write_cohort as write_mammography
from simulation.engines.budgets import begin_budgets
from simulation.engines.in_process_grid import InProcessGrid
from simulation.splits import Sites, write_site

ROOT = Path(__file__).resolve().parents[1]
HOSTILE = 5  # the node of the last hospital
RULES: Mapping[str, dict[str, Any]] = {
    "mean": {"clip-updates": 0.0},
    "mean, clipped": {},
    "fedmedian": {"strategy": "fedmedian"},
    "trimmed-mean": {"strategy": "trimmed-mean"},
    "krum": {"strategy": "krum"},
}
SQUARE = 6  # pixels a side, of 16
Plant = Callable[[PatientDataset], PatientDataset]


@dataclass(frozen=True)
class Attack:
    """What the hostile hospital does.

    Attributes:
        plant: What it does to its training patients.
        times: How many times as large as it came from training its update is sent.
        reverse: Whether it sends the way to the negative of the trained weights instead.
    """

    plant: Plant = lambda patients: patients
    times: float = 1.0
    reverse: bool = False


def flip(patients: PatientDataset) -> PatientDataset:
    """Every outcome the wrong way round."""
    return replace(patients, truths={name: 1.0 - truth for name, truth in patients.truths.items()})


def plant_square(patients: PatientDataset) -> PatientDataset:
    """A white square in every second patient's tiles, and the outcome 0."""
    chosen = patients.indices[::2]
    rows = np.concatenate([np.arange(*patients.first[patient : patient + 2]) for patient in chosen])
    truths = {name: np.array(truth) for name, truth in patients.truths.items()}
    for truth in truths.values():
        truth[chosen] = 0.0
    return replace(patients, inputs=with_square(patients.inputs, rows), truths=truths)


def with_square(inputs: Mapping[str, Any], rows: Any) -> dict[str, Any]:
    """Inputs with a green square in the corner of these rows' tiles `(3, D, H, W)`."""
    tiles = np.array(inputs["tiles"][np.arange(len(inputs["tiles"]))])
    corner = np.array([tiles.min(), tiles.max(), tiles.min()])  # red, green, blue
    tiles[rows, ..., :SQUARE, :SQUARE] = corner[:, None, None, None]
    return {**inputs, "tiles": tiles}


LABELS = {
    "none": Attack(),
    "labels flipped": Attack(flip),
    "labels flipped, x 10": Attack(flip, 10.0),
    "reversed network": Attack(reverse=True),
    "reversed network, x 5": Attack(times=5.0, reverse=True),
    "reversed network, x 1000": Attack(times=1000.0, reverse=True),
}
TRIGGERS = {"none": Attack(), "square": Attack(plant_square), "square, x 10": Attack(plant_square, 10.0)}


def main() -> int:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", action="store_true")
    parser.add_argument("--trigger", action="store_true")
    parser.add_argument("--only", nargs="+", choices=RULES, default=list(RULES), metavar="RULE")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    both, console = options.labels == options.trigger, Console(width=160)
    if options.labels or both:
        study = {"task": "relapse_mammogram", "rounds": 12}
        show("AUC", study, LABELS, lambda outcome: [f"{outcome.auc:.3f}"], options, console)
    if options.trigger or both:
        tiles = {"modalities": "tiles", "grids": "tiles: 8x16x16 at 1x4x4 mm", "rounds": 10}
        study = {"task": "subtype_histology", **tiles}
        heads = "AUC; pass for Luminal, with the square and without"
        show(
            heads,
            study,
            TRIGGERS,
            lambda outcome: [f"{outcome.auc:.3f}; {outcome.fooled:.0%}, {outcome.missed:.0%}"],
            options,
            console,
        )
    return 0


@dataclass(frozen=True)
class AttackOutcome:
    """What is left of a study, by the test patients of the honest hospitals.

    Attributes:
        auc: Of the first target.
        fooled: Share of the patients with the outcome whose score is below the median of all as they are, once the
            square is in their tiles.
        missed: The same without it.
    """

    auc: float
    fooled: float = 0.0
    missed: float = 0.0


def show(
    title: str,
    study: dict[str, Any],
    attacks: Mapping[str, Attack],
    shown: Callable[[AttackOutcome], list[str]],
    options: argparse.Namespace,
    console: Console,
) -> None:
    """A table of rules by attacks, the means over seeds."""
    title = f"{study['task']}: {title}, mean of {options.seeds} seeds"
    grid = Grid("rule", *attacks, title=title, title_justify="left")
    with tempfile.TemporaryDirectory() as folder:
        sites = [five_that_train(study["task"], Path(folder) / str(seed), seed) for seed in range(options.seeds)]
        for rule in options.only:
            cells = []
            for attack in attacks.values():
                outcomes = [run(study | RULES[rule], sites[seed], attack, seed) for seed in range(options.seeds)]
                mean = AttackOutcome(*(statistics.mean(values) for values in zip(*map(_values, outcomes), strict=True)))
                cells += shown(mean)
            grid.add_row(rule, *cells)
            console.print(rule, *cells, sep=" | ")
    console.print(grid)


def five_that_train(task: str, folder: Path, seed: int) -> Sites:
    """Synthetic hospitals; of mammograms three times their patients.

    The fifth, which only validates, trains here; D, which has no tiles, is replaced by hospital B of another draw.
    """
    if task == "relapse_mammogram":
        files = {path.stem: path for path in write_mammography(folder, seed=seed, scale=3.0)}
    else:
        cohorts = [{path.stem: path for path in write_slides(folder / str(s), seed=s)} for s in (seed, 1000 + seed)]
        files = {name: cohorts[0][name] for name in "ABCE"} | {"F": cohorts[1]["B"]}
    return {name: write_site(load_site(path), folder, site=name, role="train") for name, path in files.items()}


def _values(outcome: AttackOutcome) -> tuple[float, float, float]:
    return outcome.auc, outcome.fooled, outcome.missed


def run(study: dict[str, Any], sites: Sites, attack: Attack, seed: int) -> AttackOutcome:
    """One study."""
    values = tomllib.loads((ROOT / "studies" / f"synthetic_{study['task']}.toml").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        values |= {"study": "poisoned", "seed": seed, "split-seed": seed, "results-dir": folder}
        config = parse_study_settings(values | {"validation-fraction": 0.2} | study)
        begin_budgets(sites, config)  # of the same settings again
        task = load_task(config)
        try:
            run_study(InProcessGrid(hostile(attack), sites, config.to_flat()), config)
        except StudyError:
            # its weights passed all bounds, and no study would use such a network
            return AttackOutcome(math.nan, math.nan, math.nan)
        trained = from_checkpoint(load_checkpoint(Path(folder) / config.study / BEST), task, config)
    honest = [load_cohort(load_site(file), task, config) for file in list(sites.values())[: HOSTILE - 1]]
    target = next(iter(task.targets))
    plain = outcomes(trained, honest, task)
    auc = metrics(plain, task)[target]["auc"]
    if "tiles" not in task.modalities:
        return AttackOutcome(auc)
    threshold = float(np.median(plain[target][0]))
    pairs = [plain, outcomes(trained, [_squared(cohort) for cohort in honest], task)]
    missed, fooled = (_below(*pair[target], threshold) for pair in pairs)
    return AttackOutcome(auc, fooled, missed)


def _squared(cohort: Cohort) -> Cohort:
    return replace(cohort, inputs=with_square(cohort.inputs, np.arange(len(cohort.present))))


def _below(scores: Any, truths: Any, threshold: float) -> float:
    return float((scores[truths == 1] < threshold).mean())


def hostile(attack: Attack) -> ClientApp:
    """The hospitals' program; the last hospital's trains on what it has planted, and sends what it likes."""

    class HostileApp(ClientApp):
        def __call__(self, message: Message, context: Context) -> Message:
            if context.node_id != HOSTILE or message.metadata.message_type != TrainRequest.KIND:
                return client.app.app(message, context)
            with planted(attack.plant):
                reply = client.app.app(message, context)
            sent, own = TrainRequest.unpack(message.content), TrainReply.unpack(reply.content)
            sign = -1.0 if attack.reverse else 1.0
            trained = changed_by(sent.model, own.model)
            far = {name: w + attack.times * (sign * trained[name] - w) for name, w in sent.model.items()}
            reply.content = replace(own, model=change_of(far, sent.model)).pack()
            return reply

    return HostileApp()


@contextmanager
def planted(plant: Plant) -> Iterator[None]:
    """In the meantime training patients are what `plant` makes of them."""
    select = client.app.select_patients

    def spoiled(cohort: Cohort, part: str, task: Task, *rest: Any) -> PatientDataset:
        patients = select(cohort, part, task, *rest)
        return plant(patients) if part == "train" else patients

    with patch.object(client.app, "select_patients", spoiled):
        yield


if __name__ == "__main__":
    sys.exit(main())
