"""SCAFFOLD, both halves: against algorithm 1 of the paper as it is written there, and in whole studies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Context, Message
from safetensors.numpy import load_file
from torch import nn

from client.app import app as client_app
from client.errors import SiteError
from client.training.loop import make_optimizer
from client.training.rule import OwnState
from client.training.rules.scaffold import begin, check
from server.app import run_study
from server.study.aggregation.guard import Update
from server.study.aggregation.rule import Round, load_rule, take_step
from server.study.enrolment import Enrolment
from server.study.exchange import StudyError
from server.study.secure_aggregation import secure_exchange
from server.study.weights.checkpoint import LAST, Checkpoint, load_checkpoint
from shared_models.messages import TrainReply, TrainRequest
from shared_models.study_settings import StudySettings, parse_study_settings
from simulation.engines.in_process_grid import InProcessGrid

Hospitals = Callable[..., dict[str, Path]]
# A site's loss is half of the sum over the weights of curvature * (weight - optimum) ** 2.
CURVATURE = np.array([[1.0, 4.0], [6.0, 1.0], [2.0, 2.0]])
OPTIMUM = np.array([[-10.0, 0.0], [8.0, 3.0], [0.0, -6.0]])
PATIENTS = np.array([20, 60, 40])
STEPS, RATE = 10, 0.05
START = np.array([3.0, -2.0])
POOLED_OPTIMUM = (PATIENTS @ (CURVATURE * OPTIMUM)) / (PATIENTS @ CURVATURE)


def quadratic_study(folder: Path, rounds: Sequence[Sequence[int]], **settings: Any) -> np.ndarray:
    """The weights `(2,)` after rounds of these sites, by the two halves of a rule as a study runs them."""
    config = StudySettings(optimizer="sgd", learning_rate=RATE, weight_decay=0.0, **settings)
    rule, names = load_rule(config), ["a", "b", "c"]
    enrolled = {n: Enrolment(True, {"train": int(p)}, {}, 0) for n, p in zip(names, PATIENTS, strict=True)}
    model, state = {"weight": START.astype(np.float32)[None]}, {}
    for number, sites in enumerate(rounds, start=1):
        updates = []
        for site in sites:
            network = nn.Linear(2, 1, bias=False)
            network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in model.items()})
            half = begin(state, network, OwnState(names[site], folder / names[site]))
            scaffold = config.strategy == "scaffold"
            optimizer = make_optimizer(network.parameters(), config, half.correct if scaffold else None)
            for _ in range(STEPS):
                optimizer.zero_grad()
                away = network.weight[0] - torch.tensor(OPTIMUM[site], dtype=torch.float32)
                (torch.tensor(CURVATURE[site], dtype=torch.float32) * away**2 / 2).sum().backward()
                optimizer.step()
            trained = {"weight": network.weight.detach().numpy()}
            change = half.finish(number) if scaffold else {}
            updates.append(Update((names[site],), trained, float(PATIENTS[site]), {}, 0.0, change))
        model, state = take_step(rule, Round(number, model, updates, config, enrolled), state)
    return model["weight"][0].astype(np.float64)


def algorithm_1(rounds: Sequence[Sequence[int]]) -> np.ndarray:
    """Option II of arXiv:1910.06378 in float64; means are weighted by patients."""
    x, c, own = START, np.zeros(2), np.zeros((3, 2))
    for sites in rounds:
        y, after = {}, {}
        for i in sites:
            y[i] = x
            for _ in range(STEPS):
                y[i] = y[i] - RATE * (CURVATURE[i] * (y[i] - OPTIMUM[i]) - own[i] + c)
            after[i] = own[i] - c + (x - y[i]) / (STEPS * RATE)
        weights = {i: PATIENTS[i] / sum(PATIENTS[list(sites)]) for i in sites}
        part = sum(PATIENTS[list(sites)]) / sum(PATIENTS)
        x = x + sum(weights[i] * (y[i] - x) for i in sites)
        c = c + part * sum(weights[i] * (after[i] - own[i]) for i in sites)
        for i in sites:
            own[i] = after[i]
    return x


@pytest.mark.parametrize("rounds", [[[0, 1, 2]] * 6, [[0, 1, 2], [1, 2], [0, 1], [0, 2], [0, 1, 2]]])
def test_it_is_the_papers_algorithm_also_where_sites_are_absent(tmp_path: Path, rounds: list[list[int]]) -> None:
    weights = quadratic_study(tmp_path, rounds, strategy="scaffold")
    np.testing.assert_allclose(weights, algorithm_1(rounds), rtol=1e-4)


def test_where_sites_drift_apart_it_finds_the_pooled_optimum_and_fedavg_does_not(tmp_path: Path) -> None:
    rounds = [[0, 1, 2]] * 40
    off = {name: quadratic_study(tmp_path, rounds, strategy=name) - POOLED_OPTIMUM for name in ("scaffold", "fedavg")}
    assert np.linalg.norm(off["fedavg"]) > 1.0
    assert np.linalg.norm(off["scaffold"]) < 1e-3


def test_private_training_with_all_weights_in_one_vector_is_corrected_alike(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    received = {f"control/{n}": np.full(p.shape, p.numel(), np.float32) for n, p in network.named_parameters()}
    parameters = list(network.parameters())
    vector = nn.Parameter(torch.cat([p.detach().flatten() for p in parameters]))
    halves = [begin(received, network, OwnState("a", tmp_path / part)) for part in ("parts", "vector")]
    for parameter in parameters:
        parameter.grad = torch.rand_like(parameter)
    vector.grad = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    halves[0].correct(parameters)
    halves[1].correct([vector])
    np.testing.assert_array_equal(vector.grad, torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]))
    one, other = (half.finish(1) for half in halves)
    assert all((one[name] == other[name]).all() and one[name].any() for name in network.state_dict())


def test_weights_that_a_study_leaves_to_the_site_have_no_control_variate(tmp_path: Path) -> None:
    network = nn.Linear(2, 1)
    half = begin({}, network, OwnState("a", tmp_path, local=["bias"]))
    network(torch.ones(1, 2)).sum().backward()
    half.correct(list(network.parameters()))
    assert {name: array.tolist() for name, array in half.finish(1).items()} == {"weight": [[1.0, 1.0]], "bias": [0.0]}


SHAPES = {"weight": (1, 2), "bias": (1,)}
GOOD = {f"control/{name}": np.zeros(shape, np.float32) for name, shape in SHAPES.items()}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"control/bias": np.zeros(2, np.float32)}, "not one of the study's network"),
        ({"control/bias": np.zeros(1)}, "not in float32"),
        ({"counted/a/": np.array([1.0, 1.5])}, "not a round and a share"),
        ({"counted/a/": np.array([0.0, 1.0])}, "not a round and a share"),
        ({"rows": np.zeros(1)}, "not one of the study's network"),
    ],
)
def test_a_state_that_is_not_the_rules_is_refused(change: dict[str, np.ndarray], reason: str) -> None:
    check({}, nn.Linear(2, 1))
    check(GOOD, nn.Linear(2, 1))
    with pytest.raises(ValueError, match=reason):
        check(GOOD | change, nn.Linear(2, 1))


def test_a_site_that_has_lost_its_variate_says_so(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match="stored in round 3") as error:
        begin(GOOD | {"counted/a/": np.array([3.0, 1.0])}, nn.Linear(2, 1), OwnState("a", tmp_path))
    assert str(tmp_path) not in error.value.public


@pytest.mark.parametrize("claim", [None, [1.0, 1.0], [3.0, 1.0], [2.0, 0.5]])
def test_beside_secure_sums_a_site_takes_its_variate_as_its_own_record_has_it(
    tmp_path: Path, claim: list[float] | None
) -> None:
    """A center that chose whose variate is taken away would see it in the difference of two sums."""
    network, counted = nn.Linear(2, 1), {} if claim is None else {"counted/a/": np.array(claim)}
    for number in (1, 2):
        begin(GOOD, network, OwnState("a", tmp_path)).finish(number)
    own = OwnState("a", tmp_path, summed={"": (2,)})
    with pytest.raises(SiteError, match="otherwise than the sums"):
        begin(GOOD | counted, network, own)
    begin(GOOD | {"counted/a/": np.array([2.0, 1.0])}, network, own)


def mean_of_the_sites(sites: dict[str, Path], last: Checkpoint) -> dict[str, np.ndarray]:
    """The mean control variate as the files of the sites have it."""
    total: dict[str, Any] = {}
    patients = {site: last.enrolled[site].patients["train"] for site in sites}
    for site, file in sites.items():
        number, share = last.rule_state[f"counted/{site}/"]
        (folder,) = (file.parent / "state" / site / "rule").iterdir()
        stored = load_file(folder / f"{int(number):05d}.safetensors")
        for name in (name.removeprefix("change/") for name in stored if name.startswith("change/")):
            variate = stored[f"before/{name}"] + share * stored[f"change/{name}"].astype(np.float64)
            total[name] = total.get(name, 0.0) + patients[site] * variate
    return {name: array / sum(patients.values()) for name, array in total.items()}


@pytest.mark.parametrize("secure", ["off", "on"])
def test_the_centers_mean_is_that_of_the_sites_also_after_an_answer_is_lost(
    hospitals: Hospitals, small_study: dict[str, Any], secure: str
) -> None:
    sites = hospitals({"a": 60, "b": 50, "c": 70, "d": 40})
    study = {**small_study, "strategy": "scaffold", "min-sites": 3, "secure-aggregation": secure, "clip-updates": 1.1}
    trained = iter(range(100))
    sent: list[TrainReply] = []

    def loses_an_answer(message: Message, context: Context) -> Message:
        reply = client_app(message, context)
        if message.metadata.message_type == "train":
            if secure == "off":
                sent.append(TrainReply.unpack(reply.content))
            if context.node_id == 2 and next(trained) == 1:  # in round 2, after the site has stored its state
                msg = "the line is down"
                raise RuntimeError(msg)
        return reply

    config = parse_study_settings(study)
    results = run_study(InProcessGrid(loses_an_answer, sites, config.to_flat()), config)
    assert [record["counted"] for record in results["rounds"]] == [list("abcd"), list("acd"), list("abcd")]
    last = load_checkpoint(Path(config.results_dir) / config.study / LAST)
    expected = mean_of_the_sites(sites, last)
    assert any(array.any() for array in expected.values())
    for name, array in expected.items():
        np.testing.assert_allclose(last.rule_state[f"control/{name}"], array, atol=1e-6)
    if secure == "off":
        assert min(last.rule_state[f"counted/{site}/"][1] for site in sites) < 1, "clipping took a part of one"
        assert all(reply.rule_change.keys() == last.model.keys() for reply in sent)
    else:
        unprotected = parse_study_settings({**study, "secure-aggregation": "off"})
        asked = TrainRequest(round=3, model=last.model, statistics=last.statistics, rule_state=last.rule_state)
        grid = InProcessGrid(client_app, sites, unprotected.to_flat())
        (reply,) = grid.send_and_receive([Message(asked.pack(), 1, asked.KIND)])
        assert "has lost its control variate" in reply.error.reason, "what sums hid would be in an update of its own"


def test_beside_secure_sums_a_site_without_a_modality_or_that_missed_the_end_of_a_round_goes_on(
    hospitals: Hospitals, small_study: dict[str, Any]
) -> None:
    sites = hospitals({"a": 60, "b": 50, "c": 70, "d": 40})
    for name in "abc":
        genes = "modalities:\n  genomic: {reader: table, features: {ESR1: size}}"
        sites[name].write_text(sites[name].read_text().replace("modalities:", genes))
    study = {**small_study, "strategy": "scaffold", "min-sites": 3, "secure-aggregation": "on"}
    config = parse_study_settings({**study, "features": study["features"] + "\ngenomic: ESR1"})
    confirmed = iter(range(100))

    def misses_an_end(message: Message, context: Context) -> Message:
        if (message.metadata.message_type, context.node_id) == ("query.confirm", 2) and next(confirmed) == 1:
            msg = "the line is down"  # in round 1, of whose sum the site is
            raise RuntimeError(msg)
        return client_app(message, context)

    results = run_study(InProcessGrid(misses_an_end, sites, config.to_flat()), config)
    assert [record["counted"] for record in results["rounds"]] == [list("abcd")] * 3


@pytest.mark.parametrize("sets", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_center_that_hides_a_rounds_end_gets_a_variate_within_survivor_sets_alone(
    hospitals: Hospitals, small_study: dict[str, Any], monkeypatch: pytest.MonkeyPatch, sets: int
) -> None:
    """It denies that the round counted, and asks nearly the same weights: what is left of the sum is that variate."""
    sites = hospitals({"a": 60, "b": 50, "c": 70, "d": 40})
    one_step = {"optimizer": "sgd", "weight-decay": 0.0, "batch-size": 64, "local-epochs": 1, "modality-dropout": 0.0}
    study = {**small_study, **one_step, "strategy": "scaffold", "min-sites": 3, "secure-aggregation": "on", "rounds": 2}
    config = parse_study_settings({**study, "survivor-sets": sets, "clip-gradients": 0.0, "optimizer-state": "fresh"})
    asked: list[TrainRequest] = []
    sums: dict[int, dict[str, np.ndarray]] = {}
    refused: list[str] = []
    honest, plain = secure_exchange.StudySums.exchange, secure_exchange.reply_of

    def denies(sums_of_study: Any, names: Any, request: Any, group: Any) -> Any:
        if isinstance(request, TrainRequest):
            asked.append(request)
            if request.round == 2:
                near = {name: array * np.float32(1 + 1e-6) for name, array in asked[0].model.items()}
                state = {name: array for name, array in request.rule_state.items() if "counted/a/" not in name}
                request = replace(request, model=near, rule_state=state)
        return honest(sums_of_study, names, request, group)

    def notes(opened: Any, request: Any) -> Any:
        if isinstance(request, TrainRequest):
            blocks = (opened.layout.named(group, block)[1] for group, block in opened.blocks.items())
            sums[request.round] = {name: array for named in blocks for name, array in named.items()}
        return plain(opened, request)

    def hides(message: Message, context: Context) -> Message:
        if message.metadata.message_type == "query.open" and context.node_id == 1 and asked:
            msg = "the line is down"
            raise RuntimeError(msg)
        try:
            return client_app(message, context)
        except RuntimeError as error:
            refused.append(f"{context.node_id} {message.metadata.message_type} {error}")
            raise

    monkeypatch.setattr(secure_exchange.StudySums, "exchange", denies)
    monkeypatch.setattr(secure_exchange, "reply_of", notes)
    grid = InProcessGrid(hides, sites, config.to_flat())
    if sets == 1:
        with pytest.raises(StudyError, match="round 2 failed"):
            run_study(grid, config)
        assert refused[0].startswith("1 train secure aggregation refused"), "it refuses, and no sum is left to read"
        assert sums.keys() == {1}
        return
    run_study(grid, config)
    (file,) = (sites["a"].parent / "state" / "a" / "rule").glob("*/00001.safetensors")
    own = {name.removeprefix("change/"): array for name, array in load_file(file).items() if "change/" in name}
    shown = np.concatenate([sums[2][f"rule_change.{name}"].ravel() for name in own])  # times the hospital's patients
    expected = np.concatenate([array.ravel() for array in own.values()])
    np.testing.assert_allclose(shown / np.linalg.norm(shown), expected / np.linalg.norm(expected), atol=1e-3)
