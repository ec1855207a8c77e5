"""FedNova, both halves: the paper's claim on a quadratic with unequal numbers of local steps, and in whole studies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from client.app import app as client_app
from client.training.loop import make_optimizer
from client.training.rule import OwnState
from client.training.rules import fednova
from server.app import run_study
from server.study.aggregation.guard import Update
from server.study.aggregation.rule import Round, load_rule, take_step
from server.study.enrolment import Enrolment
from server.study.secure_aggregation import secure_exchange
from server.study.secure_aggregation.summing import Opened
from server.study.weights.checkpoint import LAST, load_checkpoint
from shared_models.messages import Request, TrainRequest
from shared_models.study_settings import StudySettings, parse_study_settings
from simulation.engines.in_process_grid import InProcessGrid

# A site's loss is half of the squared distance to its optimum; batches of 10, so that it takes 1, 4 and 16 steps.
OPTIMUM = np.array([[-10.0, 0.0], [8.0, 3.0], [0.0, -6.0]])
PATIENTS = np.array([10, 40, 160])
POOLED_OPTIMUM = PATIENTS @ OPTIMUM / PATIENTS.sum()


def quadratic_study(rounds: int, **settings: Any) -> np.ndarray:
    """The weights `(2,)` after some rounds of all sites, by the two halves of a rule as a study runs them."""
    config = StudySettings(optimizer="sgd", learning_rate=0.01, weight_decay=0.0, batch_size=10, **settings)
    rule, names = load_rule(config), ["a", "b", "c"]
    enrolled = {n: Enrolment(True, {"train": int(p)}, {}, 0) for n, p in zip(names, PATIENTS, strict=True)}
    model, state = {"weight": np.zeros((1, 2), np.float32)}, {}
    for number in range(1, rounds + 1):
        updates = []
        for site, name in enumerate(names):
            network = nn.Linear(2, 1, bias=False)
            network.load_state_dict({key: torch.from_numpy(array.copy()) for key, array in model.items()})
            half = fednova.begin({}, network, OwnState(name, Path())) if config.strategy == "fednova" else None
            optimizer = make_optimizer(network.parameters(), config, half.correct if half else None)
            for _ in range(PATIENTS[site] // 10):
                optimizer.zero_grad()
                ((network.weight[0] - torch.tensor(OPTIMUM[site], dtype=torch.float32)) ** 2 / 2).sum().backward()
                optimizer.step()
            trained = {"weight": network.weight.detach().numpy()}
            change = half.finish(number) if half else {}
            updates.append(Update((name,), trained, float(PATIENTS[site]), {}, 0.0, change))
        model, state = take_step(rule, Round(number, model, updates, config, enrolled), state)
    return model["weight"][0].astype(np.float64)


def test_where_sites_take_different_numbers_of_steps_it_finds_the_pooled_optimum_and_fedavg_does_not() -> None:
    weights = {name: quadratic_study(60, strategy=name) for name in ("fednova", "fedavg")}
    mistaken = (PATIENTS**2) @ OPTIMUM / (PATIENTS**2).sum()  # the paper's theorem 1: weighted by steps besides
    assert np.linalg.norm(weights["fedavg"] - mistaken) < 0.25
    assert np.linalg.norm(weights["fedavg"] - POOLED_OPTIMUM) > 1.5
    assert np.linalg.norm(weights["fednova"] - POOLED_OPTIMUM) < 0.25


def test_a_state_is_refused() -> None:
    fednova.check({}, nn.Linear(2, 1))
    with pytest.raises(ValueError, match="fednova has none"):
        fednova.check({"weight": np.zeros((1, 2), np.float32)}, nn.Linear(2, 1))


def test_sites_of_one_size_learn_as_under_fedavg(
    hospitals: Callable[..., dict[str, Path]], small_study: dict[str, Any]
) -> None:
    sites = hospitals({"a": 60, "b": 60, "c": 60})
    weights = []
    for strategy in ("fedavg", "fednova"):
        study = {**small_study, "study": strategy, "strategy": strategy, "rounds": 1}
        config = parse_study_settings({**study, "secure-aggregation": "off", "clip-updates": 0, "wire": "float32"})
        run_study(InProcessGrid(client_app, sites, config.to_flat()), config)
        weights.append(load_checkpoint(Path(config.results_dir) / strategy / LAST).model)
    for name, array in weights[0].items():
        np.testing.assert_allclose(weights[1][name], array, atol=1e-5)


@pytest.mark.parametrize("strategy", ["fednova", "scaffold"])
def test_beside_secure_sums_no_site_weighs_by_its_steps_in_one_sum_and_not_in_the_other(
    hospitals: Callable[..., dict[str, Path]],
    small_study: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    strategy: str,
) -> None:
    """The center knows the steps: a multiple of one sum taken from the other would leave the site that takes others.

    Under SGD and in round 1, the change of a step is the learning rate times the mean gradient: both sums are one.
    """
    opened: list[tuple[Opened, Request[Any]]] = []
    plain = secure_exchange.reply_of

    def seen(one: Opened, request: Request[Any]) -> Any:
        opened.append((one, request))
        return plain(one, request)

    monkeypatch.setattr(secure_exchange, "reply_of", seen)
    sites = hospitals({"a": 60, "b": 60, "c": 120})
    study = {**small_study, "strategy": strategy, "rounds": 1, "secure-aggregation": "on", "min-sites": 3}
    config = parse_study_settings({**study, "optimizer": "sgd", "weight-decay": 0.0, "wire": "float32"})
    results = run_study(InProcessGrid(client_app, sites, config.to_flat()), config)
    after = load_checkpoint(Path(config.results_dir) / config.study / LAST).model
    patients = np.array([site["patients"]["train"] for site in results["sites"]])
    steps = config.local_epochs * -(-patients // config.batch_size)
    assert len({*steps}) == 2
    ((trained, request),) = ((one, asked) for one, asked in opened if isinstance(asked, TrainRequest))
    sums = [trained.layout.named(group, block) for group, block in trained.blocks.items()]
    updates, added = ({k: v for one in sums for k, v in one[part].items()} for part in (0, 1))
    for name, array in updates.items():
        of_rule = added[f"rule_change.{name}"] * (-config.learning_rate if strategy == "scaffold" else 1.0)
        np.testing.assert_allclose(array, of_rule, atol=1e-3 * np.abs(array).max())  # of 32 bits
        moved = request.model[name] + (patients @ steps / patients.sum()) * array / patients.sum()
        np.testing.assert_allclose(after[name], moved, atol=1e-5)
