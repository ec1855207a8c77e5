"""Made-up patients of any task, and private rounds whose every step can be looked at."""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from client.training.dataset import PatientDataset
from client.training.dp import optimizer, randomness
from client.training.dp.mechanism import Mechanism
from client.training.dp.optimizer import PrivateOptimizer
from client.training.dp.sampling import PoissonLoader
from client.training.loop import fit
from shared_models.class_weights import balanced_weights
from shared_models.targets import Categorical, TimeToEvent
from shared_models.task import Table, load_task
from shared_models.trained_parts import build_network


def patients_of(task, count, seed=0, most_rows=3):
    """Patients with one to three lesions or views, some modalities missing, and some outcomes unknown."""
    rng = np.random.default_rng(seed)
    first = np.concatenate([[0], np.cumsum(rng.integers(1, most_rows + 1, count))])
    inputs = {
        name: rng.normal(size=(first[-1], *((kind.width,) if isinstance(kind, Table) else kind.shape)))
        for name, kind in task.modalities.items()
    }
    present = rng.random((first[-1], len(inputs))) < 0.7
    present[np.arange(first[-1]), rng.integers(len(inputs), size=first[-1])] = True
    truths = {}
    for name, target in task.targets.items():
        if isinstance(target, TimeToEvent):
            truth = np.stack([rng.exponential(1500, count), rng.integers(0, 2, count)], axis=1)
        else:
            classes = target.outputs if isinstance(target, Categorical) else 2
            truth = rng.integers(classes, size=count).astype(float)
        truth[rng.random(count) < 0.1] = np.nan
        truths[name] = truth.astype(np.float32)
    return PatientDataset(
        inputs={name: values.astype(np.float32) for name, values in inputs.items()},
        present=present,
        truths=truths,
        first=first,
        sampling_weight=rng.uniform(0.5, 2.0, first[-1]),
        indices=np.arange(count),
        seed=seed,
        identifiers=[f"patient {number}" for number in range(count)],
    )


def without(patients, number):
    """The cohort as the hospital would have it had a patient never been there: the others move up."""
    counts = np.delete(np.diff(patients.first), number)
    rows = np.r_[0 : patients.first[number], patients.first[number + 1] : patients.first[-1]]
    return replace(
        patients,
        inputs={name: values[rows] for name, values in patients.inputs.items()},
        present=patients.present[rows],
        truths={name: np.delete(truth, number, axis=0) for name, truth in patients.truths.items()},
        first=np.concatenate([[0], np.cumsum(counts)]),
        sampling_weight=patients.sampling_weight[rows],
        indices=np.arange(len(counts)),
        identifiers=[one for index, one in enumerate(patients.identifiers) if index != number],
    )


def weights_of(task, patients):
    """Class weights by the patients' own counts, as if they were all there are."""
    per_site = {}
    for name, target in task.targets.items():
        counts = target.counts(patients.truths[name])
        if not isinstance(target, TimeToEvent) and (weights := balanced_weights(target, counts)) is not None:
            per_site[name] = torch.from_numpy(weights)
    return per_site


def network(task, config, scale=0.3):
    """A network none of whose weights is zero."""
    torch.manual_seed(config.seed)
    model = build_network(task, config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(scale * torch.randn_like(parameter))
    return model


@dataclass
class Rounds:
    """A site's private round by the code that `client.app.train` runs, with the keys of the operating system known.

    Attributes:
        monkeypatch: Takes the sums before the noise, and puts the noised sums of a first cohort in place of a second's:
            then both have the same weights in every step, as whoever compares them sees it.
    """

    monkeypatch: pytest.MonkeyPatch

    def sums(self, task, config, patients, asked, model, released=None, class_weights=None):
        """The sum before the noise and the noised one, of each step."""
        model = copy.deepcopy(model)
        keys, sums, noised = itertools.count(), [], []

        def spy(total, *rest):
            sums.append(total.clone())
            noised.append(released[len(noised)].clone() if released else randomness.add_noise(total, *rest).clone())
            return noised[-1].clone()

        with self.monkeypatch.context() as patch:
            # of this module alone: a library that is imported on the way, as Opacus, takes a number for itself
            patch.setattr(randomness, "os", SimpleNamespace(urandom=lambda count: next(keys).to_bytes(count, "little")))
            patch.setattr(optimizer, "add_noise", spy)
            loader = PoissonLoader(patients, asked)
            fit(model, PrivateOptimizer(model, config, asked), loader, task, config, 7, class_weights)
        assert len(sums) == config.local_epochs * asked.steps
        return sums, noised

    def worst(self, config, patients=5, seed=0, scale=0.3, spoil=lambda patients: None):
        """How far each patient moves each step's sum, in parts of the clipping norm; `pytest -rP` shows the largest."""
        task = load_task(config)
        everybody = patients_of(task, patients, seed)
        spoil(everybody)
        rate = min(1.0, config.batch_size / patients)
        asked = Mechanism(patients, config.clip_norm, 1.0, rate, max(1, round(1 / rate)), config.local_epochs)
        model = network(task, config, scale)
        weights = weights_of(task, everybody) if config.class_weights == "balanced" else None
        sums, released = self.sums(task, config, everybody, asked, model, class_weights=weights)
        ratios = []
        for number in range(patients):
            others, _ = self.sums(task, config, without(everybody, number), asked, model, released, weights)
            ratios += [float((one - other).norm() / config.clip_norm) for one, other in zip(sums, others, strict=True)]
        print(f"{config.task}: {max(ratios):.6f} clipping norms at most, of {len(ratios)} patients and steps")
        return ratios


@pytest.fixture
def rounds(monkeypatch):
    return Rounds(monkeypatch)


@pytest.fixture
def made_up():
    """Patients of a task: `made_up(task, count)`."""
    return patients_of


@pytest.fixture
def leave_out():
    """A cohort without one patient: `leave_out(patients, number)`."""
    return without
