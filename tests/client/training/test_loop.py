from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from client.training.dataset import PatientDataset, make_loader
from client.training.loop import drop_modalities, fit, make_optimizer, predict
from client.training.scores import pack_scores
from shared_models.features import Feature
from shared_models.study_settings import StudySettings
from shared_models.targets import Binary
from shared_models.task import Table, Task

FEATURES = (Feature("age"), Feature("size"))


class OneLayer(nn.Module):
    """A logit from one table, with dropout so that chance has something to do."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.layer = nn.Linear(2, 1)

    def forward(self, inputs: dict[str, Tensor], present: Tensor) -> dict[str, Tensor]:
        return {"label": self.layer(self.dropout(inputs["clinical"]) * present)}


def task_of(dropout: float = 0.0) -> Task:
    return Task({"clinical": Table(FEATURES)}, {"label": Binary()}, build_model=lambda task, config: OneLayer(dropout))


def planted(count: int = 200) -> PatientDataset:
    """Patients whose label is the sign of the first input."""
    inputs = np.random.default_rng(0).normal(size=(count, 2)).astype(np.float32)
    truths = {"label": (inputs[:, 0] > 0).astype(np.float32)}
    return single_rows({"clinical": inputs}, truths)


def single_rows(inputs: dict[str, np.ndarray], truths: dict[str, np.ndarray]) -> PatientDataset:
    """Patients with a row each, and all modalities."""
    count = len(next(iter(inputs.values())))
    first, sampling_weight = np.arange(count + 1), np.ones(count)
    names = [f"patient {number}" for number in range(count)]
    present = np.ones((count, len(inputs)), bool)
    return PatientDataset(inputs, present, truths, first, sampling_weight, np.arange(count), 0, names)


def train(patients: PatientDataset, seed: int = 0, dropout: float = 0.3, **settings: object) -> tuple[OneLayer, float]:
    config = StudySettings.model_validate(
        {"learning_rate": 0.05, "local_epochs": 2, "modality_dropout": 0.0, **settings}
    )
    model = OneLayer(dropout)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.1)
    loss = fit(
        model, make_optimizer(model.parameters(), config), make_loader(patients, config, seed), task_of(), config, seed
    )
    return model, loss


def test_a_planted_signal_is_learned() -> None:
    patients = planted()
    model, loss = train(patients, dropout=0.0, local_epochs=15)
    scores = predict(model, patients, task_of())["label"]
    assert loss < 0.35
    assert ((scores > 0.5) == patients.truths["label"]).mean() > 0.95
    first, second = model.layer.weight[0].tolist()
    assert first > 5 * abs(second)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_seed_decides_every_bit_of_the_weights(optimizer: str) -> None:
    patients = planted(60)
    settings = {"optimizer": optimizer, "modality_dropout": 0.3}
    one, same, other = (train(patients, seed, **settings)[0].layer.weight for seed in (5, 5, 6))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_the_callers_random_state_goes_on_as_if_nothing_had_been_trained() -> None:
    patients, config, weights = planted(40), StudySettings(modality_dropout=0.3), []
    for start in (3, 4):
        model = OneLayer(dropout=0.3)
        nn.init.zeros_(model.layer.weight)
        nn.init.zeros_(model.layer.bias)
        torch.manual_seed(start)
        before, numpy_before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
        fit(
            model,
            make_optimizer(model.parameters(), config),
            make_loader(patients, config, 0),
            task_of(),
            config,
            seed=0,
        )
        predict(model, patients, task_of())
        assert torch.equal(torch.random.get_rng_state(), before)
        np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)
        weights.append(model.layer.weight)
    assert torch.equal(*weights), "the caller's random state steers the training"


def test_the_loss_is_the_mean_over_the_patients_of_the_last_epoch() -> None:
    patients = planted(10)
    settings = {"optimizer": "sgd", "learning_rate": 1e-12, "weight_decay": 0.0, "batch_size": 4}
    model, loss = train(patients, dropout=0.0, **settings)
    with torch.no_grad():
        logits = model({"clinical": torch.from_numpy(patients.inputs["clinical"])}, torch.ones(10, 1))
        expected = task_of().loss(logits, {"label": torch.from_numpy(patients.truths["label"])}).mean()
    assert loss == pytest.approx(float(expected), rel=1e-5)


def test_a_strong_proximal_term_holds_the_weights_where_they_were() -> None:
    prox = {"strategy": "fedprox", "optimizer": "sgd", "weight_decay": 0.0, "learning_rate": 1e-3, "local_epochs": 10}
    held, _ = train(planted(), **prox, proximal_mu=500.0)
    free, _ = train(planted(), **prox, proximal_mu=0.0)
    moved = [(model.layer.weight - 0.1).abs().max().item() for model in (held, free)]
    assert moved[0] < 2e-3 < 0.02 < moved[1]


def test_the_proximal_gradient_is_mu_times_the_way_from_the_start() -> None:
    # two steps of SGD on one batch: the first starts at the global weights, where the term is 0
    patients, rate, mu = planted(8), 0.5, 0.7
    settings = {"optimizer": "sgd", "weight_decay": 0.0, "learning_rate": rate, "batch_size": 8, "local_epochs": 2}
    trained, _ = train(patients, dropout=0.0, strategy="fedprox", proximal_mu=mu, **settings)

    inputs, truth = torch.from_numpy(patients.inputs["clinical"]), torch.from_numpy(patients.truths["label"])

    def gradient(weights: Tensor) -> Tensor:
        """Of the mean cross-entropy by weights and bias, by hand."""
        with_bias = torch.cat([inputs, torch.ones(8, 1)], dim=1)
        return ((with_bias @ weights).sigmoid() - truth) @ with_bias / 8

    start = torch.full((3,), 0.1)
    once = start - rate * gradient(start)
    twice = once - rate * (gradient(once) + mu * (once - start))
    torch.testing.assert_close(torch.cat([trained.layer.weight[0], trained.layer.bias]).detach(), twice)


masks = st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=20)


@settings(max_examples=50, deadline=None)
@given(masks, st.floats(0.0, 0.99), st.integers(0, 1000))
def test_modalities_are_hidden_but_never_a_patients_last_one(mask: list[list[bool]], rate: float, seed: int) -> None:
    present = torch.tensor(mask).float()
    draw = torch.rand(present.shape, generator=torch.Generator().manual_seed(seed))
    remaining = drop_modalities(present, rate, draw)
    assert ((remaining == 0) | (remaining == 1)).all()
    assert (remaining <= present).all()
    assert torch.equal(remaining.any(dim=1), present.any(dim=1))
    if len(mask) > 1:  # nobody's depends on another's
        assert torch.equal(drop_modalities(present[1:], rate, draw[1:]), remaining[1:])


@settings(max_examples=50, deadline=None)
@given(st.floats(0.05, 0.9), st.integers(1, 5))
def test_modalities_are_hidden_at_the_rate_asked_for(rate: float, modalities: int) -> None:
    count = 4000
    present = torch.ones(count, modalities)
    mask = drop_modalities(present, rate, torch.rand(present.shape, generator=torch.Generator().manual_seed(1)))
    # where all would go, one of them stays
    expected = rate - rate**modalities / modalities
    assert 1 - mask.mean().item() == pytest.approx(expected, abs=5 / np.sqrt(count))
    assert mask.mean(dim=0).std(correction=0).item() < 5 / np.sqrt(count)
    assert torch.equal(present, torch.ones(count, modalities)), "the caller's tensor was changed"


def test_predictions_stand_in_the_order_of_the_rows() -> None:
    patients = planted(100)
    rows = np.random.default_rng(1).permutation(100)[:37]
    some = dataclasses.replace(patients, indices=rows)
    model, _ = train(patients)
    whole = predict(model, patients, task_of())["label"]
    np.testing.assert_array_equal(predict(model, some, task_of(), batch_size=37)["label"], whole[rows])
    np.testing.assert_allclose(predict(model, some, task_of(), batch_size=8)["label"], whole[rows], rtol=1e-6)
    assert model.training is False


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_decay_leaves_biases_and_scales_where_they_are(name: str) -> None:
    """A bias starts at the base rate: decay would predict an event for half of the patients."""
    network = nn.Sequential(nn.Linear(3, 4), nn.GroupNorm(2, 4))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    optimizer = make_optimizer(network.parameters(), StudySettings(optimizer=name, weight_decay=0.5, learning_rate=0.1))
    for weight in network.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    changed = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"0.weight"}


def test_an_optimizers_first_step_does_not_import_torchs_compiler() -> None:
    script = """
import sys
import torch
from client.training.loop import make_optimizer
from shared_models.study_settings import StudySettings
for name in ("adamw", "sgd"):
    layer = torch.nn.Linear(2, 1)
    optimizer = make_optimizer(layer.parameters(), StudySettings(optimizer=name))
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    optimizer.state_dict()
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)


class Overflowing(nn.Module):
    """As a center may make a network that holds no large weight: no number for whoever has a large first input."""

    def forward(self, inputs: dict[str, Tensor], present: Tensor) -> dict[str, Tensor]:
        large = torch.relu(inputs["clinical"][:, :1] - 2.5)
        for _ in range(8):
            large = large * 1e6
        return {"label": large - large + inputs["clinical"][:, 1:]}


def test_a_network_that_overflows_for_one_patient_tells_of_nobody() -> None:
    patients, model = planted(), Overflowing()
    model.layer = nn.Linear(1, 1)
    assert 0 < (patients.inputs["clinical"][:, 0] > 2.5).sum() < 10
    scores = predict(model, patients, task_of())
    statistics = pack_scores(patients, task_of(), scores)
    counted = [array.sum() for name, array in statistics.items() if name.endswith((".positives", ".negatives"))]
    assert sum(counted[:2]) == 200
