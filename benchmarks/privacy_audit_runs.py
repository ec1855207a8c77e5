"""Training runs attacked by `privacy_audit.py`, by the code that sites run, and what each leaks.

The attacker is the center: it knows the study, every patient's data and the weights before and after each round, and
not who was trained on, which is what it guesses.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import itertools
import math
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from privacy_attacks import Members, Scores
from torch import Tensor, nn

from client.cohort.load import load_cohort
from client.config.policy import Policy
from client.config.site import load_site
from client.governance.ledger import epsilon
from client.training.dataset import PatientDataset, feature_statistics, make_loader, select_patients
from client.training.dp.mechanism import Mechanism, mechanism
from client.training.dp.optimizer import PrivateOptimizer
from client.training.dp.per_sample import PatientGradients
from client.training.dp.sampling import PoissonLoader
from client.training.loop import fit, make_optimizer
from shared_models.features import MAX_Z_SCORE, Feature
from shared_models.study_settings import StudySettings
from shared_models.task import Table, Task, load_task
from simulation.cohorts.mammography import cohort as mammography
from simulation.cohorts.sites import SITES

TABLE = "mammography"
TARGET = "relapse"
POLICY = Policy(epsilon_ceiling=1e6, minimum_noise=0.01)  # a site's own, without its limits


@functools.lru_cache(maxsize=1)
def clinic(count: int, config: StudySettings, seed: int) -> tuple[PatientDataset, Task]:
    """The patients of a synthetic hospital with known outcomes, all in one part, read as a site reads them."""
    task = load_task(config)
    with tempfile.TemporaryDirectory() as folder:
        site = dataclasses.replace(SITES[0], patients=math.ceil(1.1 * count))
        file = mammography.write_cohort(Path(folder), [site], seed)[0]
        everyone = config.model_copy(update={"validation_fraction": 0.0, "test_fraction": 0.0})
        cohort = load_cohort(load_site(file), task, everyone)
        cohort = replace(cohort, inputs={name: np.array(array) for name, array in cohort.inputs.items()})
    patients = select_patients(cohort, "train", task, feature_statistics(cohort, task), seed)
    return replace(patients, indices=patients.indices[:count]), task


def with_own_features(patients: PatientDataset, task: Task, canaries: int) -> tuple[PatientDataset, Task]:
    """Gives each of the first patients an input of its own, far from the mean, which all others have at the mean.

    In a network that is linear in its table, a canary's clipped gradient then lies along an axis of its own: the
    gradient-space canaries of Steinke 2023 (Dirac), as patients whom a hospital could have.
    """
    table = task.modalities[TABLE]
    assert isinstance(table, Table)
    own = tuple(Feature(f"own_{number}") for number in range(math.ceil(canaries / 2)))
    wider = replace(task, modalities={TABLE: Table((*table.features, *own))})
    columns = np.zeros((len(patients.present), 2 * len(own)), dtype=np.float32)
    for number, patient in enumerate(patients.indices[:canaries]):
        columns[patients.first[patient] : patients.first[patient + 1], number] = MAX_Z_SCORE
    return replace(patients, inputs={TABLE: np.concatenate([patients.inputs[TABLE], columns], axis=1)}), wider


def mislabelled(patients: PatientDataset, task: Task, canaries: int) -> tuple[PatientDataset, Task]:
    """Gives each of the first patients the other outcome."""
    truth = patients.truths[TARGET].copy()
    chosen = patients.indices[:canaries]
    truth[chosen] = 1 - truth[chosen]
    return replace(patients, truths={TARGET: truth}), task


def half(patients: PatientDataset, canaries: int, seed: int) -> tuple[PatientDataset, Members]:
    """All patients but for those of the first who lose the toss of a coin; who of the first is in, `(canaries,)`."""
    members = np.random.default_rng(seed).random(canaries) < 0.5
    indices = np.concatenate([patients.indices[:canaries][members], patients.indices[canaries:]])
    return replace(patients, indices=indices), members


def trained(
    patients: PatientDataset, task: Task, config: StudySettings, asked: Mechanism | None, seed: int
) -> list[nn.Module]:
    """The network as the center sends it out first, and as its only hospital returns it after each round.

    Each round is trained as `client.app.train` does it.

    Args:
        patients: Whom the hospital trains on.
        task: The task.
        config: The study.
        asked: Clipping, noise and sampling; none for training without privacy.
        seed: Of weights, batches and dropout.
    """
    torch.manual_seed(seed)
    models = [task.build_model(task, config)]
    for server_round in range(config.rounds):
        round_seed = 1000 * seed + server_round
        model, after = copy.deepcopy(models[-1]), task.build_model(task, config)
        if asked:
            optimizer, loader = PrivateOptimizer(model, config, asked), PoissonLoader(patients, asked)
            fit(model, optimizer, loader, task, config, round_seed)
        else:
            loader = make_loader(patients, config, round_seed)
            fit(model, make_optimizer(model.parameters(), config), loader, task, config, round_seed)
        after.load_state_dict(model.state_dict())
        models.append(after)
    return models


def accounted(asked: Mechanism | None, rounds: int) -> float:
    """Epsilon of some rounds at the site's delta; infinite without privacy."""
    if not asked:
        return math.inf
    return epsilon([(asked.noise_multiplier, asked.sample_rate, asked.steps * asked.passes * rounds)], POLICY.limit)


def asked_for(config: StudySettings, patients: int) -> Mechanism | None:
    """What a study asks of a site with so many patients; none without privacy."""
    return mechanism(config, patients, POLICY) if config.privacy == "patient" else None


def at_half(config: StudySettings, patients: int) -> StudySettings:
    """The study with its noise found once, for the number of patients to be expected, and not again for each half."""
    asked = asked_for(config, patients)
    changes = {"target_epsilon": 0.0, "noise_multiplier": asked.noise_multiplier} if asked else {}
    return config.model_copy(update=changes)


@torch.no_grad()
def losses(model: nn.Module, patients: PatientDataset, task: Task) -> Scores:
    """The mean loss of each patient's rows, `(P,)`."""
    rows, owner = patients.all_rows()
    inputs, present = patients.read(rows)
    known = torch.from_numpy(patients.known(TARGET))[owner]
    losses = task.loss(model.eval()(inputs, present), {TARGET: known}).numpy()
    return np.bincount(owner, losses) / np.bincount(owner)


def alignments(models: list[nn.Module], patients: PatientDataset, task: Task) -> Scores:
    """How far all rounds moved the weights against each patient's gradient of before, per length, `(P,)`.

    Where patients have weights that only their own gradient moves, these alone: on the others all patients pull.
    """
    moved_by = np.zeros(len(patients))
    for before, after in itertools.pairwise(models):
        moved = weights(after) - weights(before)
        gradients = own_gradients(before, patients, task)
        alone = gradients.count_nonzero(dim=0) == 1
        gradients = gradients * alone if alone.any() else gradients
        moved_by -= (gradients @ moved / gradients.norm(dim=1).clamp(min=1e-12)).double().numpy()
    return moved_by


def own_gradients(model: nn.Module, patients: PatientDataset, task: Task) -> Tensor:
    """The gradient of each patient's first row, `(P, weights)`."""
    model = copy.deepcopy(model)
    listener = PatientGradients(model)
    inputs, present = patients.read(patients.first[patients.indices])
    outputs = model.train()(inputs, present)
    task.loss(outputs, {TARGET: torch.from_numpy(patients.known(TARGET))}).mean().backward()
    return torch.cat(listener.take(), dim=1)


def weights(model: nn.Module) -> Tensor:
    """All weights, `(weights,)`."""
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def attacked(
    patients: PatientDataset, task: Task, config: StudySettings, models: int, seed: int, done: Callable[[], object]
) -> tuple[Scores, Members, float]:
    """Losses of all patients by models that were each trained on a half of them, `(models, P)`; who was in; epsilon.

    Epsilon is the largest of all models.
    """
    config = at_half(config, len(patients) // 2)
    final, members, spent = [], [], 0.0
    for number in range(models):
        chosen, inside = half(patients, len(patients), seed * 10_000 + number)
        asked = asked_for(config, len(chosen))
        last = trained(chosen, task, config, asked, seed * 10_000 + number)[-1]
        final.append(losses(last, patients, task))
        members.append(inside)
        spent = max(spent, accounted(asked, config.rounds))
        done()
    return np.stack(final), np.stack(members), spent
