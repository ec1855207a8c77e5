"""What a network loses with a part of its input shuffled or absent: planted features in order, noise about 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from client.cohort.load import Cohort
from client.training.dataset import PatientDataset, select_patients
from client.training.importance import ChangedPatients, importance_of
from client.training.loop import predict
from shared_models.features import Feature, FeatureStatistics
from shared_models.importance import Importance, changes
from shared_models.metrics.arrays import to_arrays
from shared_models.metrics.delong import auc
from shared_models.study_settings import StudySettings
from shared_models.targets import Binary, Categorical
from shared_models.task import Table, Task, Volume

NAMES = ("strong", "weak", "noise", "unused")
TASK = Task(
    {"clinical": Table(tuple(map(Feature, NAMES))), "mri": Volume((1, 1, 1, 2), (1.0, 1.0, 1.0))},
    {"relapse": Binary(score_ranges=((-2.0, 2.0),)), "subtype": Categorical(("luminal", "basal"))},
    build_model=lambda *_: None,  # type: ignore[arg-type, return-value]
)
FEATURES = StudySettings(importance="features")


class Planted(nn.Module):
    """A network whose use of its input is known: two features, noise, and of the image what is asked for."""

    def __init__(self, of_image: float = 0.0) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([2.0, 1.0, 0.3, 0.0]))
        self.of_image = of_image

    def forward(self, inputs: Mapping[str, Tensor], present: Tensor) -> dict[str, Tensor]:
        table = (inputs["clinical"][:, :4] @ self.weights) * present[:, 0]
        risk = (table + self.of_image * inputs["mri"].flatten(1).sum(1) * present[:, 1])[:, None]
        return {"relapse": risk, "subtype": torch.cat([-risk, risk], dim=1)}


def cohort(patients: int = 240, seed: int = 0) -> Cohort:
    """Patients who relapse by the strong feature and half as much by the weak one; some lack the image."""
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(patients, 4)).astype(np.float32)
    relapse = rng.uniform(size=patients) < 1 / (1 + np.exp(-2 * table[:, 0] - table[:, 1]))
    present = np.ones((patients, 2), np.float32)
    present[::5, 1] = 0
    return Cohort(
        site="oak",
        patients=tuple(map(str, range(patients))),
        first=np.arange(patients + 1),
        sampling_weight=np.ones(patients),
        inputs={"clinical": table, "mri": rng.normal(size=(patients, 1, 1, 1, 2)).astype(np.float32)},
        present=present,
        truths=dict.fromkeys(TASK.targets, relapse.astype(np.float32)),
        parts={"train": np.arange(0), "validation": np.arange(0), "test": np.arange(patients)},
    )


def patients_of(made: Cohort) -> PatientDataset:
    statistics = {"clinical": FeatureStatistics(9.0, np.full(4, 9.0), np.zeros(4), np.full(4, 9.0))}
    return select_patients(made, "test", TASK, statistics)


def lost(model: nn.Module, config: StudySettings = FEATURES, seed: int = 0) -> tuple[Importance, dict[str, tuple]]:
    """What is lost, and the interval of each change by its name."""
    patients = patients_of(cohort())
    importance = importance_of(model, patients, predict(model, patients, TASK), TASK, config, seed)
    named = [f"{c.feature or c.modality} {c.kind}" for c in changes(TASK, config)]
    return importance, dict(zip(named, importance.pairs["relapse"].differences(), strict=True))


def test_planted_features_are_in_order_noise_is_about_0_and_what_is_not_used_is_0() -> None:
    _, by_name = lost(Planted())
    drop = {name: interval.value for name, (interval, _) in by_name.items()}
    assert drop["clinical shuffled"] > drop["strong shuffled"] > drop["weak shuffled"] > 0.02
    assert by_name["weak shuffled"][0].low > 0
    assert by_name["noise shuffled"][0].low < 0 < by_name["noise shuffled"][0].high
    assert abs(drop["noise shuffled"]) < 0.01
    assert drop["unused shuffled"] == drop["mri shuffled"] == drop["mri absent"] == 0


def test_a_loss_is_that_of_the_rows_auc_and_absence_takes_no_patients_last_modality() -> None:
    model, patients = Planted(of_image=1.0), patients_of(cohort())
    truth, before = patients.known("relapse"), predict(model, patients, TASK)["relapse"]
    _, by_name = lost(model)
    known = {name: getattr(patients, name) for name in PatientDataset.__dataclass_fields__}
    hidden = ChangedPatients(**known, modality="clinical", column=0, absent=True)
    _, present = hidden.read(np.arange(240))
    assert present[:, 0].numpy().tolist() == [float(row % 5 == 0) for row in range(240)]
    after = predict(model, hidden, TASK)["relapse"]
    assert by_name["clinical absent"][0].value == pytest.approx(auc(before, truth) - auc(after, truth))


def test_a_shuffled_modality_is_another_patients_and_who_lacks_it_still_does() -> None:
    model, patients = Planted(of_image=1.0), patients_of(cohort())
    known = {name: getattr(patients, name) for name in PatientDataset.__dataclass_fields__}
    source = np.roll(np.arange(240), 1)
    shuffled = ChangedPatients(**known, modality="clinical", column=0, source=source, columns=(0, 4))
    inputs, present = shuffled.read(np.arange(240))
    plain, there = patients.read(np.arange(240))
    assert torch.equal(inputs["clinical"][:, 0], plain["clinical"][source, 0])
    assert torch.equal(inputs["clinical"][:, 1:4], plain["clinical"][:, 1:4])
    assert torch.equal(present, there)
    importance, _ = lost(model, StudySettings())
    assert importance.patients.tolist() == [240, 192, 192, 192]


def test_the_same_seed_shuffles_alike_and_two_sites_add_up() -> None:
    one, again, other = (lost(Planted(1.0), seed=seed)[0] for seed in (0, 0, 1))
    assert one.pack().keys() == again.pack().keys()
    assert all(np.array_equal(array, again.pack()[name]) for name, array in one.pack().items())
    assert not np.array_equal(one.pairs["relapse"].gained, other.pairs["relapse"].gained)
    both = Importance.unpack((one + other).pack(), TASK, FEATURES)
    assert both.pairs["relapse"].comparable.tolist() == (2 * one.pairs["relapse"].comparable).tolist()
    assert [table.n for table in both.pooled["relapse"]] == pytest.approx([480, 480, 480])  # type: ignore[attr-defined]


def test_what_one_site_sends_holds_no_change_that_few_of_its_patients_have() -> None:
    """The scores beside those without it would be of these few, in spite of the many who have the same."""
    exact, _ = lost(Planted(of_image=1.0))
    few = replace(exact, patients=np.where(np.arange(len(exact.patients)) == 1, 9.0, exact.patients))
    sent, all_sent = (one.without_small_cells(TASK, 10) for one in (few, exact))
    assert all_sent.pairs["relapse"].gained[1] != 0
    assert [sent.patients[1], sent.pairs["relapse"].comparable[1], sent.pairs["relapse"].gained[1]] == [0, 0, 0]
    first, clinical, image = (to_arrays(table, "") for table in sent.pooled["relapse"])
    assert all(np.array_equal(image[name], first[name]) for name in first)
    assert any(not np.array_equal(clinical[name], first[name]) for name in first)
    assert Importance.unpack(sent.pack(), TASK, FEATURES, merged=True).patients.tolist() == sent.patients.tolist()


def test_nothing_is_scored_for_a_network_of_one_modality_or_where_it_is_off() -> None:
    alone = Task({"mri": Volume((1, 1, 1, 2), (1.0, 1.0, 1.0))}, TASK.targets, TASK.build_model)
    assert changes(alone, StudySettings()) == changes(TASK, StudySettings(importance="off")) == ()
    assert Importance.empty(alone, StudySettings()).pack() == {}
