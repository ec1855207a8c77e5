from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message

from client.app import app
from shared_models.features import FeatureStatistics
from shared_models.messages import (
    EvaluateTestRequest,
    PrepareReply,
    PrepareRequest,
    Request,
    StudyStatistics,
    TrainReply,
    TrainRequest,
)
from shared_models.study_settings import parse_study_settings
from shared_models.task import load_task
from simulation.engines.in_process_grid import InProcessGrid

Hospitals = Callable[..., dict[str, Path]]


def ask(sites: dict[str, Path], study: dict[str, Any], request: Request[Any]) -> list[Message]:
    grid = InProcessGrid(app, sites, parse_study_settings(study).to_flat())
    return list(grid.send_and_receive([Message(request.pack(), node, request.KIND) for node in grid.get_node_ids()]))


def asked(study: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """What a request of round 1 brings: the first weights, and statistics of nobody."""
    config = parse_study_settings(study)
    task = load_task(config)
    model = {name: value.numpy() for name, value in task.build_model(task, config).state_dict().items()}
    features = {name: FeatureStatistics.of(np.ones((2, len(table.columns)))) for name, table in task.tables.items()}
    return {"round": 1, "model": model, "statistics": StudyStatistics(features).pack(), **changes}


def test_a_site_that_only_validates_refuses_to_train_whatever_the_center_asks(
    hospitals: Hospitals, small_study: dict[str, Any]
) -> None:
    sites = hospitals({"outside": 40}, evaluate_only=("outside",))
    (reply,) = ask(sites, small_study, TrainRequest(**asked(small_study)))
    assert reply.has_error()
    assert "the site only validates" in reply.error.reason


@pytest.mark.parametrize("kind", [TrainRequest, lambda **brings: EvaluateTestRequest(**brings, thresholds={})])
def test_weights_of_another_network_are_an_error_without_details_of_the_site(
    hospitals: Hospitals, small_study: dict[str, Any], kind: Callable[..., Request[Any]]
) -> None:
    foreign = {"resnet.weight": np.ones(3, np.float32)}
    (reply,) = ask(hospitals({"a": 60}), small_study, kind(**asked(small_study, model=foreign)))
    assert "versions differ" in reply.error.reason
    assert "resnet" not in reply.error.reason


def test_counts_are_all_that_leaves_before_round_1(hospitals: Hospitals, small_study: dict[str, Any]) -> None:
    sites = hospitals({"a": 60})
    (reply,) = ask(sites, small_study, PrepareRequest())
    rows = (sites["a"].parent / "clinical.csv").read_text().splitlines()[1:]
    sent = str(dict(reply.content.metric_records)) + str(dict(reply.content.config_records))
    assert not any(row.split(",")[0] in sent for row in rows)
    assert PrepareReply.unpack(reply.content).patients["train"] == pytest.approx(60 * 0.55, abs=2)


def test_a_site_trains_at_the_learning_rate_of_the_round(
    hospitals: Callable[..., dict[str, Path]], small_study: dict[str, Any]
) -> None:
    one_step = {
        "optimizer": "sgd",
        "weight-decay": 0.0,
        "clip-gradients": 0.0,
        "local-epochs": 1,
        "batch-size": 1000,
        "modality-dropout": 0.0,
        "rounds": 4,
    }
    study = {**small_study, **one_step, "wire": "float32", "learning-rate-schedule": "step", "warmup-rounds": 1}
    sites, values = hospitals({"a": 60}), asked(study)
    model = values["model"]

    def moved(server_round: int) -> float:
        (reply,) = ask(sites, study, TrainRequest(**{**values, "round": server_round}))
        trained = TrainReply.unpack(reply.content).model
        return float(sum(abs(trained[name] - model[name]).sum() for name in model))

    first, *others = [moved(number) for number in (1, 2, 3, 4)]  # rounds in order, as an approval allows them
    assert [first / others[0], *(far / others[0] for far in others[1:])] == pytest.approx([0.5, 1.0, 0.1], rel=1e-3)
