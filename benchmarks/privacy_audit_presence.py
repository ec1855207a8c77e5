"""Is one patient there? The part of `privacy_audit.py` at each task's defaults, from the weights that leave.

In each of many rounds the patient who moves the weights most is in the hospital or not, by the toss of a coin. The
center chose the weights, knows everybody's data and what is random about a patient, and has simulated the round without
noise with and without her: it looks how far the released weights lie in the direction of the difference. That finds
dropout by the place in the batch, which moves everybody's gradient when one patient leaves.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from privacy_attacks import Members, Scores
from torch import Tensor, nn

from client.config.policy import Policy
from client.training.dataset import PatientDataset
from client.training.dp import sampling
from client.training.dp.mechanism import Mechanism, mechanism
from client.training.dp.optimizer import PrivateOptimizer
from client.training.dp.randomness import fingerprints, patient_draws
from client.training.dp.sampling import PoissonLoader
from client.training.loop import fit
from shared_models.study_settings import StudySettings
from shared_models.targets import Categorical, TimeToEvent
from shared_models.task import Table, Task, load_task

PATIENTS = 16  # as many as a batch by default: all are in each step
SMALL = {
    "recurrence_mri": "mri: 8x8x8 at 4x4x4 mm",
    "receptors_dce_mri": "dce_mri: 4x8x8 at 4x4x4 mm",
    "receptors_brain_metastasis": "brain_mri: 8x8x8 at 4x4x4 mm",
}
POLICY = Policy(epsilon_ceiling=1e6)
SGD = {"optimizer": "sgd", "learning_rate": 1.0}
BROKEN = "recurrence_clinical, SGD, 16 hidden units, draws by the place in the batch"
DEFAULTS: dict[str, tuple[dict[str, Any], int]] = {
    "recurrence_clinical": ({}, 600),
    "relapse_mammogram": ({}, 600),
    "recurrence_mri": ({}, 300),
    "subtype_histology": ({}, 200),
    "receptors_brain_metastasis": ({}, 200),
    "receptors_dce_mri": ({}, 60),
}
SETTINGS: dict[str, tuple[dict[str, Any], int]] = {
    **{f"{name}, defaults": ({"task": name, **changes}, runs) for name, (changes, runs) in DEFAULTS.items()},
    "recurrence_clinical, SGD": ({"task": "recurrence_clinical", **SGD}, 800),
    "recurrence_clinical, SGD, 16 hidden units": ({"task": "recurrence_clinical", "hidden_units": 16, **SGD}, 800),
    "recurrence_clinical, SGD, 4 of 16 a step, 2 passes": (
        {"task": "recurrence_clinical", "batch_size": 4, "local_epochs": 2, **SGD},
        400,
    ),
    BROKEN: ({"task": "recurrence_clinical", "hidden_units": 16, "noise_multiplier": 2.0, **SGD}, 800),
    "recurrence_mri, SGD, FedProx": ({"task": "recurrence_mri", "strategy": "fedprox", **SGD}, 300),
}


def made_up(task: Task, count: int) -> PatientDataset:
    """Patients with one to three lesions; the values of the first four are extreme."""
    rng = np.random.default_rng(0)
    first = np.concatenate([[0], np.cumsum(rng.integers(1, 4, count))])
    inputs = {
        name: rng.normal(size=(first[-1], *((kind.width,) if isinstance(kind, Table) else kind.shape)))
        for name, kind in task.modalities.items()
    }
    for values in inputs.values():
        values[: first[4]] *= 10.0
    truths = {}
    for name, target in task.targets.items():
        classes = target.outputs if isinstance(target, Categorical) else 2
        truths[name] = rng.integers(classes, size=count).astype(np.float32)
        if isinstance(target, TimeToEvent):
            truths[name] = np.stack([rng.exponential(1500, count), truths[name]], axis=1).astype(np.float32)
    return PatientDataset(
        inputs={name: values.astype(np.float32) for name, values in inputs.items()},
        present=np.ones((first[-1], len(inputs)), dtype=bool),
        truths=truths,
        first=first,
        sampling_weight=np.ones(first[-1]),
        indices=np.arange(count),
        seed=0,
        identifiers=[f"patient {number}" for number in range(count)],
    )


def presence(
    changes: dict[str, Any], runs: int, seed: int, done: Callable[[], object]
) -> tuple[Scores, Members, Mechanism]:
    """A score of each of some rounds, in how many of them she was, and what was asked for."""
    config = StudySettings(privacy="patient", grids=SMALL.get(changes["task"], ""), **changes)
    task = load_task(config)
    everybody = made_up(task, PATIENTS)
    model = chosen_by_the_center(task, config, seed)
    asked = mechanism(config, PATIENTS, POLICY)
    linear = config.model_copy(update={**SGD, "weight_decay": 0.0})
    quiet = replace(asked, noise_multiplier=1e-9, sample_rate=1.0, steps=1)
    one_pass = linear.model_copy(update={"local_epochs": 1})
    all_of_them = released(model, task, one_pass, everybody, quiet)
    cohorts = [replace(everybody, indices=np.delete(everybody.indices, number)) for number in range(PATIENTS)]
    directions = [all_of_them - released(model, task, one_pass, cohort, quiet) for cohort in cohorts]
    chosen = int(np.argmax([float(direction.norm()) for direction in directions]))
    direction, without = directions[chosen], cohorts[chosen]
    members = np.random.default_rng(seed).random(runs) < 0.5
    scores = np.empty(runs)
    for run, inside in enumerate(members):
        scores[run] = float(released(model, task, config, everybody if inside else without, asked) @ direction)
        done()
    return scores, members, asked


@contextmanager
def draws_by_place() -> Iterator[None]:
    """As it was once: what is random about a patient depends on her place in the batch."""

    def by_place(seed: int, step: int, names: Any) -> Any:
        return patient_draws(seed, step, fingerprints(map(str, range(len(names)))))

    sampling.patient_draws = by_place
    try:
        yield
    finally:
        sampling.patient_draws = patient_draws


def chosen_by_the_center(task: Task, config: StudySettings, seed: int) -> nn.Module:
    """A network none of whose weights is zero."""
    torch.manual_seed(seed)
    model = task.build_model(task, config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def released(model: nn.Module, task: Task, config: StudySettings, patients: PatientDataset, asked: Mechanism) -> Tensor:
    """What a round adds to the weights, `(P,)`; trained as `client.app.train` does it."""
    trained = copy.deepcopy(model)
    optimizer, loader = PrivateOptimizer(trained, config, asked), PoissonLoader(patients, asked)
    fit(trained, optimizer, loader, task, config, patients.seed)
    after, before = (torch.cat([p.detach().flatten() for p in one.parameters()]) for one in (trained, model))
    return (after - before).double()
