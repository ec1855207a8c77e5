"""Late enrolment: who was away before round 1 trains from the round that it comes in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.proto.node_pb2 import NodeInfo

from client.app import app as client_app
from server.app import run_study
from server.study import joining
from server.study.results.results_file import read_results
from server.study.results.table import print_table
from server.study.weights.checkpoint import load_checkpoint
from shared_models.study_settings import parse_study_settings
from simulation.engines.in_process_grid import InProcessGrid

Hospitals = Callable[..., dict[str, Path]]


class AwayGrid(InProcessGrid):
    """A grid whose node 3 is connected only once messages of round 2 were sent."""

    here = False

    def push_messages(self, messages: Iterable[Any]) -> Iterable[str]:
        messages = list(messages)
        self.here |= any(message.metadata.group_id == "2" for message in messages)
        return super().push_messages(messages)

    def get_nodes(self) -> Iterable[NodeInfo]:
        return [node for node in super().get_nodes() if node.node_id != 3 or self.here]


@pytest.mark.parametrize("strategy", ["fedavg", "scaffold"])
def test_a_named_site_that_comes_late_trains_from_then_on_and_moves_no_frozen_statistic(
    hospitals: Hospitals,
    small_study: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    strategy: str,
) -> None:
    monkeypatch.setattr(joining, "POLL_S", 0.005)
    sites = hospitals({"a": 60, "b": 60, "late": 60})
    config = parse_study_settings(
        {
            **small_study,
            "sites": "a,b,late",
            "join-timeout-s": 0.05,
            "rounds": 4,
            "strategy": strategy,
            "secure-aggregation": "off",
        }
    )
    run_study(AwayGrid(client_app, sites, config.to_flat()), config)
    folder = Path(config.results_dir) / config.study
    results = read_results(folder / "results.json")
    assert [record.counted for record in results.rounds] == [
        ["a", "b"],
        ["a", "b"],
        ["a", "b", "late"],
        ["a", "b", "late"],
    ]
    assert [site.since_round for site in results.sites] == [1, 1, 3]
    assert (results.not_enrolled, results.problems) == ({}, {})
    assert results.sites[2].targets["recurrence"]["patients"]
    last = load_checkpoint(folder / "last.safetensors")
    trained = sum(last.enrolled[site].patients["train"] for site in "ab")
    assert last.statistics["features.clinical.patients"] == np.float64(trained)
    print_table(results)
    assert "late enrolled late, and took part from round 3 on" in " ".join(capsys.readouterr().out.split())
