"""Shapley values of features at a site: of a linear network by hand, sent as sums, refused where they are too many."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from client.app import app as client_app
from client.training import shapley
from client.training.dataset import PatientDataset
from server.app import run_study
from server.study.results.schema import Results
from shared_models.features import Feature
from shared_models.importance import Importance
from shared_models.settings import SettingsError
from shared_models.study_settings import StudySettings, parse_study_settings
from shared_models.targets import Regression
from shared_models.task import Table, Task, load_task
from simulation.engines.in_process_grid import InProcessGrid

WEIGHTS = (2.0, 0.0, -1.0)


class Linear(nn.Module):
    """The sum of three features with weights, and 0 for their missing flags."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(6, 1)
        with torch.no_grad():
            self.map.weight.copy_(torch.tensor([[*WEIGHTS, 0.0, 0.0, 0.0]]))

    def forward(self, inputs: dict[str, Tensor], present: Tensor) -> dict[str, Tensor]:
        return {"number": self.map(inputs["clinical"])}


TASK = Task(
    {"clinical": Table(tuple(Feature(name) for name in ("first", "second", "third")))},
    {"number": Regression()},
    build_model=lambda *_: Linear(),
)
CONFIG = StudySettings(importance="shap")


def patients(count: int) -> PatientDataset:
    inputs = np.random.default_rng(0).normal(size=(count, 6)).astype(np.float32)
    names, every = [f"patient {number}" for number in range(count)], np.arange(count)
    truths = {"number": inputs[:, 0]}
    return PatientDataset(
        {"clinical": inputs}, np.ones((count, 1), bool), truths, np.arange(count + 1), np.ones(count), every, 0, names
    )


def test_a_linear_networks_values_are_its_weights_times_the_distance_from_the_mean() -> None:
    data = patients(12)
    values = np.abs(np.array(WEIGHTS) * np.asarray(data.inputs["clinical"])[:, :3])
    (sums,) = shapley.explained(Linear(), data, TASK, CONFIG, seed=3).values()
    assert sums[0] == 12
    np.testing.assert_allclose(sums[1:], shapley.hiding_sum(values), rtol=1e-6)
    most = np.sort(values, axis=0)[-shapley.ALIKE :]  # these count as the smallest of them, in steps of no more than it
    assert (np.abs(sums[1:] - values.sum(axis=0)) <= (most - most[0]).sum(axis=0) + 0.6 * most[0] + 1e-9).all()


def test_a_network_that_overflows_for_one_patient_tells_of_nobody() -> None:
    """Beside sums that are no numbers the center would know that she is there."""
    data = patients(12)
    inputs = np.asarray(data.inputs["clinical"]).copy()
    inputs[4, 0] = 1e4
    network = Linear()
    with torch.no_grad():
        network.map.weight[0, 0] = 3e37
    odd = dataclasses.replace(data, inputs={"clinical": inputs})
    assert not network({"clinical": torch.from_numpy(inputs)}, torch.ones(12, 1))["number"].isfinite().all()
    (sums,) = shapley.explained(network, odd, TASK, CONFIG, seed=3).values()
    assert np.isfinite(sums).all()


def test_one_feature_and_nobody_are_explained_too() -> None:
    task = Task({"clinical": Table((Feature("only"),))}, {"number": Regression()}, build_model=lambda *_: Linear())
    network = Linear()
    network.map = nn.Linear(2, 1)
    data = patients(12)
    data = dataclasses.replace(data, inputs={"clinical": np.asarray(data.inputs["clinical"])[:, :2]})
    (sums,) = shapley.explained(network, data, task, CONFIG, seed=0).values()
    assert sums.shape == (2,)
    assert sums[1] > 0
    (nobody,) = shapley.explained(network, dataclasses.replace(data, indices=np.arange(0)), task, CONFIG, 0).values()
    assert not nobody.any()


class AnswersToOne(Linear):
    """The third feature of one patient, whom the first feature singles out; 0 of all others."""

    def forward(self, inputs: dict[str, Tensor], present: Tensor) -> dict[str, Tensor]:
        table = inputs["clinical"]
        return {"number": ((table[:, 0] == 9.0) * table[:, 2])[:, None]}


@pytest.mark.parametrize("hidden", [0.1, 4.0])
def test_a_network_that_answers_to_one_patient_has_no_value_of_hers(hidden: float) -> None:
    data = patients(12)
    inputs = np.array(data.inputs["clinical"])
    inputs[7, [0, 2]] = 9.0, hidden
    (sums,) = shapley.explained(
        AnswersToOne(), dataclasses.replace(data, inputs={"clinical": inputs}), TASK, CONFIG, seed=0
    ).values()
    assert sums[1:].tolist() == [0.0, 0.0, 0.0]


def test_a_site_sends_means_of_two_digits_and_none_of_few_patients() -> None:
    sums = {"number": np.array([12.0, 1.23456, 0.0, 7.5])}
    zero = Importance.empty(TASK, CONFIG)
    counted = Importance(np.full(3, 12.0), zero.pairs, zero.pooled, sums)
    sent = counted.without_small_cells(TASK, 10).explained["number"]
    assert [round(value / 12, 9) for value in sent[1:]] == [0.10, 0.0, 0.62]
    assert not counted.without_small_cells(TASK, 13).explained["number"].any()
    back = Importance.unpack((counted + counted).pack(), TASK, CONFIG).explained["number"]
    np.testing.assert_array_equal(back, 2 * sums["number"])


def test_what_takes_days_and_a_library_that_is_missing_are_refused_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(SettingsError, match=r"networks of tables alone, and this one reads mri, [\d,]+ numbers"):
        load_task(StudySettings(task="recurrence_mri", importance="shap"))
    many = ", ".join(f"gene_{number}" for number in range(1001))
    with pytest.raises(SettingsError, match="at most 1000 features, and there are 1,001"):
        load_task(StudySettings(features=f"clinical: {many}", importance="shap"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(Exception, match="pip install 'breast-federation\\[explain\\]'"):
        shapley.require_shap(CONFIG)


@pytest.mark.slow
def test_a_study_finds_the_feature_that_drives_recurrence(
    hospitals: Callable[..., dict[str, Path]], small_study: dict[str, Any]
) -> None:
    sites = hospitals({"a": 200, "b": 180})
    config = parse_study_settings({**small_study, "importance": "shap", "secure-aggregation": "off"})
    results = Results.model_validate(run_study(InProcessGrid(client_app, sites, config.to_flat()), config))
    rows = {row.feature: row for row in results.targets["recurrence"].importance["internal"] if row.feature}
    shap = {name: row.mean_shap for name, row in rows.items()}
    assert all(row.explained >= 50 for row in rows.values())
    assert shap["size_mm"] is not None
    assert shap["er"] is not None
    assert shap["size_mm"] > 3 * shap["er"] > 0
