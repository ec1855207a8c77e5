"""Private steps: clipping, noise, and what is divided by what."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from client.training.dataset import PatientDataset
from client.training.dp.grad_sample_modes import GRAD_SAMPLE_MODES
from client.training.dp.mechanism import Mechanism
from client.training.dp.optimizer import PrivateOptimizer
from client.training.dp.sampling import PoissonLoader
from client.training.loop import fit
from shared_models.study_settings import StudySettings
from shared_models.targets import Binary
from shared_models.task import Table, Task

SGD = StudySettings(optimizer="sgd", learning_rate=1.0, weight_decay=0.0, modality_dropout=0.0, privacy="patient")
ALMOST_NO_NOISE = 1e-9


class Logistic(nn.Module):
    def __init__(self, width=2):
        super().__init__()
        self.layer = nn.Linear(width, 1)

    def forward(self, inputs, present):
        return {"label": self.layer(inputs["clinical"])}


TASK = Task({"clinical": Table()}, {"label": Binary()}, build_model=lambda *_: Logistic())


def patients_of(count, width=2, seed=0):
    inputs = np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)
    truths = {"label": (inputs[:, 0] > 0).astype(np.float32)}
    rows, names = np.arange(count + 1), [f"patient {number}" for number in range(count)]
    present = np.ones((count, 1), bool)
    return PatientDataset({"clinical": inputs}, present, truths, rows, np.ones(count), np.arange(count), 0, names)


def trained(patients, asked, config=SGD, width=2):
    torch.manual_seed(0)
    model = Logistic(width)
    nn.init.zeros_(model.layer.weight)
    nn.init.zeros_(model.layer.bias)
    fit(model, PrivateOptimizer(model, config, asked), PoissonLoader(patients, asked), TASK, config, seed=0)
    return torch.cat([p.detach().flatten() for p in model.parameters()])


every_way = pytest.mark.parametrize(
    "config", [SGD.model_copy(update={"patient_gradients": way}) for way in GRAD_SAMPLE_MODES], ids=GRAD_SAMPLE_MODES
)


@every_way
def test_no_patient_moves_the_sum_by_more_than_the_clipping_norm(config):
    """One step on everybody, with and without one patient whose values are absurd."""
    clip = 0.3
    patients = patients_of(20)
    patients.inputs["clinical"][3] = 1e4
    others = replace(patients, indices=np.delete(np.arange(20), 3))
    asked = Mechanism(20, clip, ALMOST_NO_NOISE, 1.0, 1, 1)
    moved = (trained(patients, asked, config) - trained(others, asked, config)).norm() * 20
    assert clip * (1 - 2e-3) <= moved <= clip + 1e-6


@every_way
def test_the_noise_has_the_deviation_that_was_asked_for(config):
    asked = Mechanism(10, 2.0, 3.0, 1.0, 1, 1)
    noised = torch.stack([trained(patients_of(10, 200), asked, config, width=200) for _ in range(5)])
    quiet = trained(patients_of(10, 200), Mechanism(10, 2.0, ALMOST_NO_NOISE, 1.0, 1, 1), config, width=200)
    noise = (noised - quiet) * 10  # the step divides by the patients expected
    assert noise.std().item() == pytest.approx(6.0, rel=0.1)
    assert abs(noise.mean().item()) < 1.0


def test_the_noise_and_who_is_drawn_follow_no_seed_that_a_center_knows():
    asked = Mechanism(10, 1.0, 1.0, 0.5, 2, 1)
    assert not torch.equal(trained(patients_of(10), asked), trained(patients_of(10), asked))
    first, second = (torch.cat([b[0]["clinical"] for b in PoissonLoader(patients_of(50), asked)]) for _ in range(2))
    assert first.shape != second.shape or not torch.equal(first, second)


@every_way
def test_a_step_on_nobody_is_noise_alone(config):
    asked = Mechanism(50, 1.0, 1.0, 1e-9, 3, 1)
    assert all(len(batch[1]) == 0 for batch in PoissonLoader(patients_of(50), asked))
    weights = trained(patients_of(50), asked, config)
    assert torch.isfinite(weights).all()
    assert (weights != 0).all()


def test_a_planted_signal_is_learned_through_the_noise():
    asked = Mechanism(400, 1.0, 1.0, 0.1, 100, 1)
    weights = trained(patients_of(400), asked, SGD.model_copy(update={"learning_rate": 0.5}))
    assert weights[0] > 2 * abs(weights[1])


@every_way
def test_the_proximal_pull_gets_no_noise_and_is_not_clipped(config):
    prox = config.model_copy(update={"strategy": "fedprox", "proximal_mu": 0.5, "learning_rate": 1.0})
    model = Logistic()
    optimizer = PrivateOptimizer(model, prox, Mechanism(4, 1.0, ALMOST_NO_NOISE, 1.0, 1, 1))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(2.0)
    moved = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer.zero_grad()
    optimizer.step()
    for parameter, before in zip(model.parameters(), moved, strict=True):
        torch.testing.assert_close(parameter.detach(), before - 0.5 * 2.0, rtol=1e-4, atol=1e-4)
