from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message

from client.app import app
from shared_models.messages import PREPARE, TRAIN, request
from shared_models.study_settings import parse_study_settings
from simulation.engines.in_process_grid import InProcessGrid


def ask(sites: dict[str, Path], study: dict[str, Any], kind: str, **values: Any) -> list[Message]:
    grid = InProcessGrid(app, sites, parse_study_settings(study).to_flat())
    return list(grid.send_and_receive([Message(request(**values), node, kind) for node in grid.get_node_ids()]))


def test_a_site_that_only_validates_refuses_to_train_whatever_the_center_asks(
    hospitals: Callable[..., dict[str, Path]], small_study: dict[str, Any]
) -> None:
    (reply,) = ask(hospitals({"outside": 40}, evaluate_only=("outside",)), small_study, TRAIN, round=1)
    assert reply.has_error()
    assert "the site only validates" in reply.error.reason


@pytest.mark.parametrize("kind", ["train", "evaluate.test"])
def test_weights_of_another_network_are_an_error_without_details_of_the_site(
    hospitals: Callable[..., dict[str, Path]], small_study: dict[str, Any], kind: str
) -> None:
    import numpy as np

    from shared_models.messages import RESULTS, unpack_arrays

    sites = hospitals({"a": 60})
    (counted,) = ask(sites, small_study, PREPARE)
    statistics = unpack_arrays(counted.content[RESULTS])
    foreign = {"resnet.weight": np.ones(3, np.float32)}
    (reply,) = ask(sites, small_study, kind, model=foreign, statistics=statistics, round=1)
    assert "versions differ" in reply.error.reason
    assert "resnet" not in reply.error.reason


def test_counts_are_all_that_leaves_before_round_1(
    hospitals: Callable[..., dict[str, Path]], small_study: dict[str, Any]
) -> None:
    sites = hospitals({"a": 60})
    (reply,) = ask(sites, small_study, PREPARE)
    rows = (sites["a"].parent / "clinical.csv").read_text().splitlines()[1:]
    sent = str(dict(reply.content.metric_records)) + str(dict(reply.content.config_records))
    assert not any(row.split(",")[0] in sent for row in rows)
    assert reply.content.metric_records["numbers"]["patients/train"] == pytest.approx(60 * 0.55, abs=2)


def test_a_site_trains_at_the_learning_rate_of_the_round(
    hospitals: Callable[..., dict[str, Path]], small_study: dict[str, Any]
) -> None:
    import torch

    from shared_models.messages import MODEL, RESULTS, unpack_arrays
    from shared_models.task import load_task

    sites = hospitals({"a": 60})
    one_step = {"optimizer": "sgd", "weight-decay": 0.0, "batch-size": 1000, "modality-dropout": 0.0, "rounds": 4}
    study = {**small_study, **one_step, "learning-rate-schedule": "step", "warmup-rounds": 1}
    config = parse_study_settings(study)
    task = load_task(config)
    torch.manual_seed(0)
    model = {name: value.numpy() for name, value in task.build_model(task, config).state_dict().items()}
    (counted,) = ask(sites, study, PREPARE)
    statistics = unpack_arrays(counted.content[RESULTS])

    def moved(server_round: int) -> float:
        (reply,) = ask(sites, study, TRAIN, model=model, statistics=statistics, round=server_round)
        trained = unpack_arrays(reply.content[MODEL])
        return float(sum(abs(trained[name] - model[name]).sum() for name in model))

    assert [moved(number) / moved(2) for number in (1, 3, 4)] == pytest.approx([0.5, 1.0, 0.1], rel=1e-3)
