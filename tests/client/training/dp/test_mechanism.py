"""Private training: clipping, noise and who is drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from client.config.policy import Limit, Policy
from client.errors import SiteError
from client.governance.ledger import epsilon
from client.training.dataset import PatientDataset
from client.training.dp.grad_sample_modes import GRAD_SAMPLE_MODES
from client.training.dp.mechanism import Mechanism, PrivateOptimizer, mechanism, poisson_loader
from client.training.loop import fit
from shared_models.settings import SettingsError
from shared_models.study_settings import StudySettings, parse_study_settings
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
    rows, chance = np.arange(count + 1), np.random.default_rng(0)
    present = np.ones((count, 1), bool)
    return PatientDataset({"clinical": inputs}, present, truths, rows, np.ones(count), np.arange(count), chance)


def trained(patients, asked, config=SGD, width=2):
    torch.manual_seed(0)
    model = Logistic(width)
    nn.init.zeros_(model.layer.weight)
    nn.init.zeros_(model.layer.bias)
    fit(model, PrivateOptimizer(model, config, asked), poisson_loader(patients, asked), TASK, config, seed=0)
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
    others = patients_of(20)
    others = PatientDataset(
        {"clinical": np.delete(patients.inputs["clinical"], 3, axis=0)},
        patients.present[:19],
        {"label": np.delete(patients.truths["label"], 3)},
        patients.first[:20],
        patients.sampling_weight[:19],
        np.arange(19),
        patients.chance,
    )
    asked = Mechanism(20, clip, ALMOST_NO_NOISE, 1.0, 1, 1)
    moved = (trained(patients, asked, config) - trained(others, asked, config)).norm() * 20
    assert moved == pytest.approx(clip, rel=1e-4)


@every_way
def test_the_noise_has_the_deviation_that_was_asked_for(config):
    asked = Mechanism(10, 2.0, 3.0, 1.0, 1, 1)
    found = torch.stack([trained(patients_of(10, 200), asked, config, width=200) for _ in range(5)])
    quiet = trained(patients_of(10, 200), Mechanism(10, 2.0, ALMOST_NO_NOISE, 1.0, 1, 1), config, width=200)
    noise = (found - quiet) * 10  # the step divides by the patients expected
    assert noise.std().item() == pytest.approx(6.0, rel=0.1)
    assert abs(noise.mean().item()) < 1.0


def test_the_noise_and_who_is_drawn_follow_no_seed_that_a_center_knows():
    asked = Mechanism(10, 1.0, 1.0, 0.5, 2, 1)
    assert not torch.equal(trained(patients_of(10), asked), trained(patients_of(10), asked))
    first, second = (torch.cat([b[0]["clinical"] for b in poisson_loader(patients_of(50), asked)]) for _ in range(2))
    assert first.shape != second.shape or not torch.equal(first, second)


def test_each_patient_is_drawn_by_itself_with_the_sampling_rate():
    asked = Mechanism(200, 1.0, 1.0, 0.1, 300, 1)
    sizes = np.array([len(batch[1]) for batch in poisson_loader(patients_of(200), asked)])
    assert len(sizes) == 300
    assert sizes.mean() == pytest.approx(20, abs=4 * math.sqrt(18 / 300))
    assert sizes.var() == pytest.approx(18, rel=0.35)


@every_way
def test_a_step_on_nobody_is_noise_alone(config):
    asked = Mechanism(50, 1.0, 1.0, 1e-9, 3, 1)
    assert all(len(batch[1]) == 0 for batch in poisson_loader(patients_of(50), asked))
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


def test_a_target_epsilon_gives_the_least_noise_that_keeps_below_it():
    policy = Policy(delta=1e-3)
    config = SGD.model_copy(update={"target_epsilon": 3.0, "rounds": 10, "local_epochs": 2, "batch_size": 16})
    asked = mechanism(config, 100, policy)
    assert asked.steps * asked.passes * config.rounds == 120
    spent = epsilon([(asked.noise_multiplier, asked.sample_rate, 120)], Limit(8.0, 1e-3))
    assert 2.9 < spent <= 3.0
    assert mechanism(config, 1000, policy).noise_multiplier < asked.noise_multiplier


def test_a_target_never_leads_below_the_sites_least_noise():
    config = SGD.model_copy(update={"target_epsilon": 1000.0, "rounds": 1})
    assert mechanism(config, 100, Policy(minimum_noise=0.8)).noise_multiplier == 0.8


def test_an_epsilon_that_no_noise_reaches_is_refused():
    config = SGD.model_copy(update={"target_epsilon": 1e-9, "rounds": 10_000})
    with pytest.raises(SiteError, match="no noise reaches"):
        mechanism(config, 10, Policy(delta=1e-8))


@pytest.mark.parametrize("mixing", [{"oversampling": "smotenc"}, {"normalisation": "local"}])
def test_what_mixes_patients_is_refused_with_privacy(mixing):
    with pytest.raises(SettingsError, match="privacy"):
        parse_study_settings({"task": "relapse_mammogram", "privacy": "patient", **mixing})
