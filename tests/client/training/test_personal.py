"""A site's own network: Ditto's objective, what is left as it is, and two sites that contradict each other."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from client.app import app as client_app
from client.training.dataset import PatientDataset
from client.training.personal import learnable, train_own
from server.app import run_study
from server.study.results.csv_file import rows
from server.study.results.schema import Results
from server.study.results.table import print_table
from shared_models.features import Feature
from shared_models.settings import SettingsError
from shared_models.study_settings import StudySettings, parse_study_settings
from shared_models.targets import Binary, Categorical, Regression, TimeToEvent
from shared_models.task import Table, Task
from shared_models.trained_model import read_model
from simulation.engines.in_process_grid import InProcessGrid

Hospitals = Callable[..., dict[str, Path]]
PLAIN = {"optimizer": "sgd", "learning_rate": 1.0, "weight_decay": 0.0, "modality_dropout": 0.0, "batch_size": 500}


class Net(nn.Module):
    """An encoder of one table, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict({"clinical": nn.Linear(2, 1, bias=False)})
        self.head = nn.Linear(1, 1)
        with torch.no_grad():
            for weight in self.parameters():
                weight.fill_(0.5)

    def forward(self, inputs: dict[str, Tensor], present: Tensor) -> dict[str, Tensor]:
        return {"label": self.head(self.encoders["clinical"](inputs["clinical"]))}


TASK = Task({"clinical": Table((Feature("age"), Feature("size")))}, {"label": Binary()}, build_model=lambda *_: Net())


def patients(count: int, sign: int = 1) -> PatientDataset:
    """Patients whose label mostly follows the sign of the first input, or its opposite."""
    rng = np.random.default_rng(count)
    inputs = rng.normal(size=(count, 2)).astype(np.float32)
    labels = (sign * inputs[:, 0] + 0.5 * rng.normal(size=count) > 0).astype(np.float32)
    first, names = np.arange(count + 1), [f"patient {number}" for number in range(count)]
    truths, present = {"label": labels}, np.ones((count, 1), bool)
    return PatientDataset({"clinical": inputs}, present, truths, first, np.ones(count), np.arange(count), 0, names)


def train(model: nn.Module, personal: str, validation: int = 0, **settings: Any) -> nn.Module:
    config = StudySettings.model_validate({**PLAIN, "personal": personal, **settings})
    parts = {"train": patients(80, sign=-1), "validation": patients(validation, sign=-1)}
    return train_own(model, parts, TASK, config, 0, {})


@pytest.mark.parametrize("pull", [0.1, 1.0])
def test_dittos_network_is_where_its_loss_and_its_pull_are_in_balance(pull: float) -> None:
    common = Net()
    before = copy.deepcopy(common.state_dict())
    own = train(common, "ditto", personal_pull=pull, personal_epochs=300, learning_rate=0.3)
    train_set = patients(80, sign=-1)
    logits = own({"clinical": torch.from_numpy(train_set.inputs["clinical"])}, torch.ones(80, 1))["label"][:, 0]
    binary_cross_entropy_with_logits(logits, torch.from_numpy(train_set.truths["label"])).backward()
    for name, weight in own.named_parameters():
        assert weight.grad is not None
        assert weight.grad.abs().max() > 0.01
        torch.testing.assert_close(weight.grad, -pull * (weight - before[name]), atol=1e-4, rtol=0.0)
        torch.testing.assert_close(common.state_dict()[name], before[name])


def test_a_head_leaves_the_encoders_as_they_are_and_fine_tuning_leaves_nothing() -> None:
    common = Net().state_dict()
    changed = {
        way: {name for name, value in train(Net(), way).state_dict().items() if not torch.equal(value, common[name])}
        for way in ("head", "fine-tune")
    }
    assert changed == {"head": {"head.weight", "head.bias"}, "fine-tune": {*common}}


def test_where_no_pass_is_better_on_validation_patients_the_studys_network_is_the_sites_own() -> None:
    good = train(Net(), "fine-tune", personal_epochs=50)
    config = StudySettings.model_validate({**PLAIN, "personal": "fine-tune", "learning_rate": 1e-6})
    parts = {"train": patients(80), "validation": patients(40, sign=-1)}
    own = train_own(good, parts, TASK, config, 0, {})
    assert all(torch.equal(value, good.state_dict()[name]) for name, value in own.state_dict().items())


def test_a_target_is_learned_where_two_outcomes_have_enough_patients() -> None:
    targets = {"yes": Binary(), "of three": Categorical(("a", "b", "c")), "days": TimeToEvent(), "number": Regression()}
    task, nan = Task(TASK.modalities, targets, build_model=TASK.build_model), np.nan
    truths = {
        "yes": np.array([0, 0, 1, 1, nan]),
        "of three": np.array([0, 0, 2, 2, nan]),
        "days": np.array([[9, 1], [9, 1], [9, 0], [9, 0], [nan, nan]]),
        "number": np.array([1.5, 2.5, nan, nan, nan]),
    }
    assert learnable(truths, task, 2) == list(targets)
    assert learnable({**truths, "yes": np.array([0, 0, 0, 1])}, task, 2) == ["of three", "days", "number"]
    assert learnable({**truths, "days": np.array([[9, 0]] * 4)}, task, 0) == ["yes", "of three", "number"]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"privacy": "patient"}, "own network has no noise"),
        ({"folds": 3}, "one split"),
        ({"leave-out": "each", "sites": "a, b, c"}, "left out"),
        ({"personal": "dito"}, "fine-tune"),
    ],
)
def test_what_cannot_be_beside_it_is_refused_in_a_sentence(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        parse_study_settings({"personal": "ditto", **settings})


def test_sites_that_contradict_each_other_have_better_networks_of_their_own(
    hospitals: Hospitals, small_study: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    sites = hospitals({"a": 300, "b": 300, "few": 30, "outside": 60}, evaluate_only=("outside",))
    header, *lines = (sites["b"].parent / "clinical.csv").read_text().splitlines()
    size = header.split(",").index("size")
    turned = [
        [*line[:size], f"{60 - float(line[size]):.1f}", *line[size + 1 :]] for line in (o.split(",") for o in lines)
    ]
    (sites["b"].parent / "clinical.csv").write_text("\n".join([header, *map(",".join, turned)]) + "\n")
    few = (sites["few"].parent / "clinical.csv").read_text()
    (sites["few"].parent / "clinical.csv").write_text(few.replace(",yes,", ",no,"))
    study = {**small_study, "personal": "fine-tune", "personal-epochs": 8, "batch-size": 8, "secure-aggregation": "off"}
    config = parse_study_settings(study)
    results = Results.model_validate(run_study(InProcessGrid(client_app, sites, config.to_flat()), config))
    by_site = {site.site: site for site in results.sites}
    for name in ("a", "b"):
        assert by_site[name].personal["recurrence"]["patients"] == by_site[name].targets["recurrence"]["patients"]
    gains = [
        by_site[n].personal["recurrence"]["c_index"] - by_site[n].targets["recurrence"]["c_index"] for n in ("a", "b")
    ]
    assert max(gains) > 0.15
    assert min(gains) > -0.05
    assert by_site["few"].personal == by_site["outside"].personal == {}
    assert "has no network of its own for recurrence: fewer than" in caplog.text
    print_table(results, console := Console(file=io.StringIO(), width=100))
    output = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Each site's own network (fine-tune)" in output
    assert "few: no network of its own for recurrence" in output
    assert "outside: no network" not in output
    assert {place for _, _, _, place, *_ in rows(results)} >= {"site a", "site a, own network"}
    own = read_model(sites["a"].parent / "state" / "a" / "personal" / "small.safetensors")  # as `predict` reads it
    assert list(own.trained_at) == ["a"]
