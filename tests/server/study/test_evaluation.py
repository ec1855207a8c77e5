"""Evaluation in secure sums while sites go away and come back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message
from flwr.app.error import Error
from flwr.common.constant import ErrorCode
from flwr.proto.node_pb2 import NodeInfo

from client.app import app as client_app
from server.app import run_study
from server.study import joining
from server.study.secure_aggregation import secure_exchange
from server.study.weights.checkpoint import LAST, load_checkpoint
from shared_models.messages import EVALUATE_VALIDATION, EnrolRequest, EvaluateTestRequest
from shared_models.study_settings import parse_study_settings
from simulation.engines.in_process_grid import InProcessGrid

SECURE = {"secure-aggregation": "on", "min-sites": 3, "rounds": 1, "sites": "a,b,c", "join-timeout-s": 60.0}


class LeavingGrid(InProcessGrid):
    """A grid whose node 3 goes away with the first question to its validation patients, for long."""

    asked: Counter[int]
    looks = 0

    def _handle(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        if message.metadata.message_type == EVALUATE_VALIDATION:
            self.asked[node] += 1
            if node == 3 and self.asked[node] == 1:
                self.looks = 60
                return Message(Error(ErrorCode.NODE_UNAVAILABLE, "the site's machine restarts"), reply_to=message)
        return super()._handle(message)

    def get_nodes(self) -> Iterable[NodeInfo]:
        self.looks -= 1
        return [node for node in super().get_nodes() if node.node_id != 3 or self.looks < 0]


def test_a_site_that_leaves_while_the_last_round_is_scored_is_waited_for(
    hospitals: Callable[..., dict[str, Path]], small_study: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "POLL_S", 0.005)
    sites = hospitals({"a": 60, "b": 60, "c": 60})
    config = parse_study_settings({**small_study, **SECURE})
    grid = LeavingGrid(client_app, sites, config.to_flat())
    grid.asked = Counter()
    run_study(grid, config)
    assert grid.asked == {1: 2, 2: 2, 3: 2}, "asked again once it is there, and not before"
    last = load_checkpoint(Path(config.results_dir) / config.study / LAST)
    assert last.scored_by[1] == ["a+b+c"]


def test_who_is_not_in_the_roster_is_not_waited_for(
    hospitals: Callable[..., dict[str, Path]], small_study: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No sum can be over a site that came after the others had enrolled, whether it is there or not."""
    awaited: list[set[str]] = []
    monkeypatch.setattr(secure_exchange, "wait_until_here", lambda grid, sites, deadline: awaited.append({*sites}))
    config = parse_study_settings({**small_study, **SECURE})
    grid = InProcessGrid(client_app, hospitals({"a": 60, "b": 60, "c": 60}), config.to_flat())
    run_study(grid, config)
    last = load_checkpoint(Path(config.results_dir) / config.study / LAST)
    request = EvaluateTestRequest(
        round=1, model=last.model, statistics=last.statistics, thresholds={}, score_ranges=last.score_ranges
    )
    secure_exchange.exchange(grid, ["a", "b", "c", "late"], request, config)
    assert awaited
    assert all(sites == {"a", "b", "c"} for sites in awaited)


class DeafGrid(InProcessGrid):
    """A grid on which the first question to enrol reaches node 2 alone."""

    lost = 0

    def _handle(self, message: Message) -> Message:
        if message.metadata.dst_node_id != 2 and message.metadata.message_type == EnrolRequest.KIND and self.lost < 2:
            self.lost += 1
            return Message(Error(ErrorCode.NODE_UNAVAILABLE, "the site's machine restarts"), reply_to=message)
        return super()._handle(message)


def test_a_resumed_study_enrols_again_whom_its_first_question_did_not_reach(
    hospitals: Callable[..., dict[str, Path]], small_study: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "POLL_S", 0.005)
    sites = hospitals({"a": 60, "b": 60, "c": 60})
    config = parse_study_settings({**small_study, **SECURE, "sites": ""})

    def stop(site: str, kind: str, group: str) -> None:
        if kind == EVALUATE_VALIDATION:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(InProcessGrid(client_app, sites, config.to_flat(), on_message=stop), config)
    config = config.model_copy(update={"resume": True})
    run_study(DeafGrid(client_app, sites, config.to_flat()), config)
    last = load_checkpoint(Path(config.results_dir) / config.study / LAST)
    assert last.scored_by[1] == ["a+b+c"]


def test_weights_that_moved_less_than_travels_have_the_scores_of_the_round_before(
    hospitals: Callable[..., dict[str, Path]], small_study: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sites = hospitals({"a": 60, "b": 60, "c": 60})
    config = parse_study_settings({**small_study, **SECURE, "rounds": 3})
    steps = {1: 0.05, 2: 0.05, 3: 3e-6}  # the end of a schedule, of a network with few weights
    at_round = "client.round_training.at_round"
    monkeypatch.setattr(at_round, lambda config, number: config.model_copy(update={"learning_rate": steps[number]}))
    asked: list[str] = []
    run_study(
        InProcessGrid(client_app, sites, config.to_flat(), on_message=lambda _, kind, __: asked.append(kind)), config
    )
    last = load_checkpoint(Path(config.results_dir) / config.study / LAST)
    assert EVALUATE_VALIDATION not in asked
    assert last.scored_by == {number: ["a+b+c"] for number in range(4)}
    assert last.values[3][1] == last.values[2][1]
    assert last.best_round == 3
