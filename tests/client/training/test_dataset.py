from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from client.cohort.load import Cohort
from client.training.dataset import PatientDataset, feature_statistics, make_loader, select_patients
from client.training.loop import predict
from shared_models.features import Feature, FeatureStatistics
from shared_models.study_settings import StudySettings
from shared_models.targets import Binary
from shared_models.task import Table, Task, Volume

FEATURES = (Feature("age"), Feature("size"))
TASK = Task(
    {"signal": Volume((1, 1, 1, 1), (1.0, 1.0, 1.0))},
    {"label": Binary()},
    build_model=lambda *_: None,  # type: ignore[arg-type, return-value]
)


def cohort_of(signal: np.ndarray, first: np.ndarray | None = None, sampling_weight: np.ndarray | None = None) -> Cohort:
    """Patients of a one-voxel volume; `first` gives some of them several rows."""
    rows = len(signal)
    first = np.arange(rows + 1) if first is None else first
    everybody = np.arange(len(first) - 1)
    return Cohort(
        site="oak",
        patients=tuple(f"p{index}" for index in everybody),
        first=first,
        sampling_weight=np.ones(rows) if sampling_weight is None else sampling_weight,
        inputs={"signal": signal.reshape(-1, 1, 1, 1, 1)},
        present=np.ones((rows, 1), bool),
        truths={"label": np.zeros(len(everybody), np.float32)},
        parts={"train": everybody, "validation": everybody[:0], "test": everybody[::-1]},
    )


class Signal(torch.nn.Module):
    """The voxel itself as the logit."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        torch.nn.init.ones_(self.layer.weight)
        torch.nn.init.zeros_(self.layer.bias)

    def forward(self, inputs: dict[str, torch.Tensor], present: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"label": self.layer(inputs["signal"].flatten(start_dim=1))}


LESIONS = np.array([0, 1, 4, 6])  # patients with 1, 3 and 2 lesions


def test_an_epoch_sees_one_lesion_of_each_patient_and_in_time_all_of_them() -> None:
    signal = np.arange(6, dtype=np.float32)
    patients = select_patients(cohort_of(signal, LESIONS), "train", TASK, {}, seed=3)
    seen: list[list[float]] = []
    for epoch in range(60):
        batches = list(make_loader(patients, StudySettings(batch_size=2), seed=epoch))
        values = sorted(torch.cat([batch[0]["signal"].flatten() for batch in batches]).tolist())
        assert len(values) == 3
        assert [int(np.searchsorted(LESIONS, value, side="right") - 1) for value in values] == [0, 1, 2]
        seen.append(values)
    assert {value for values in seen for value in values} == set(signal.tolist())


def test_large_lesions_are_drawn_more_often() -> None:
    sampling_weight = np.array([1.0, 1.0, 8.0, 1.0, 3.0, 1.0])
    patients = select_patients(cohort_of(np.arange(6, dtype=np.float32), LESIONS, sampling_weight), "train", TASK, {})
    values = np.concatenate([patients.__getitems__([0, 1, 2])[0]["signal"].flatten().numpy() for _ in range(2000)])
    shares = np.bincount(values.astype(int), minlength=6) / 2000
    np.testing.assert_allclose(shares, [1, 0.1, 0.8, 0.1, 0.75, 0.25], atol=0.05)


def test_a_patients_score_is_that_of_the_mean_logit_over_all_lesions() -> None:
    signal = np.array([0.5, -1.0, 1.0, 3.0, 2.0, 4.0], np.float32)
    cohort = cohort_of(signal, LESIONS)
    for batch_size in (1, 4, 64):
        patients = select_patients(cohort, "test", TASK, {})  # in reverse order
        scores = predict(Signal(), patients, TASK, batch_size)["label"]
        np.testing.assert_allclose(scores, 1 / (1 + np.exp(-np.array([3.0, 1.0, 0.5]))), rtol=1e-5)


def test_lesions_count_in_statistics_and_patients_in_numbers() -> None:
    table = np.array([[1.0], [2.0], [3.0], [np.nan], [5.0], [6.0]], np.float32)
    task = Task({"radiomics": Table((Feature("size"),))}, TASK.targets, TASK.build_model)
    cohort = cohort_of(table[:, 0], LESIONS)
    present = np.array([[1], [1], [1], [0], [0], [0]], bool)
    cohort = Cohort(**{**vars(cohort), "inputs": {"radiomics": table}, "present": present})
    statistics = feature_statistics(cohort, task)["radiomics"]
    assert (statistics.patients, statistics.total.tolist()) == (3.0, [6.0])
    assert cohort.count_with_modality(cohort.parts["train"], 0) == 2


class Counted(np.ndarray):
    """An array that counts how often rows are read from it."""

    reads = 0

    def __getitem__(self, key: object) -> object:
        Counted.reads += 1
        return super().__getitem__(key)  # type: ignore[index]


def test_a_batch_is_one_read_of_a_memory_map(tmp_path: Path) -> None:
    volumes = np.random.default_rng(0).normal(size=(50, 2, 3, 4, 5)).astype(np.float16)
    np.save(tmp_path / "volumes.npy", volumes)
    preview_kind = np.load(tmp_path / "volumes.npy", mmap_mode="r")
    assert isinstance(preview_kind, np.memmap)
    rows = np.arange(49, 9, -1)
    patients = PatientDataset(
        {"mri": preview_kind.view(Counted)},
        np.ones((50, 1), bool),
        {"label": np.zeros(50, np.float32)},
        np.arange(51),
        np.ones(50),
        rows,
        0,
        [f"patient {number}" for number in range(50)],
    )
    Counted.reads = 0
    batches = list(make_loader(patients, StudySettings(batch_size=16), seed=0))
    assert Counted.reads == len(batches) == 3
    assert [tuple(batch[0]["mri"].shape) for batch in batches] == [(16, 2, 3, 4, 5)] * 2 + [(8, 2, 3, 4, 5)]
    assert batches[0][0]["mri"].dtype == torch.float32
    batch = patients.__getitems__([0, 3])
    np.testing.assert_array_equal(batch[0]["mri"].numpy(), volumes[[49, 46]].astype(np.float32))
    assert batch[1].tolist() == [[1.0], [1.0]]
    one = patients[3]
    np.testing.assert_array_equal(one[0]["mri"].numpy(), volumes[46].astype(np.float32))
    assert one[2]["label"].shape == ()
    one[0]["mri"] += 1  # what is read is a copy: the file stays as it was
    np.testing.assert_array_equal(preview_kind, volumes)


def test_every_patient_comes_once_an_epoch_in_an_order_of_the_seed() -> None:
    count = 20
    patients = select_patients(cohort_of(np.arange(count, dtype=np.float32)), "train", TASK, {})

    def order(seed: int) -> list[float]:
        loader = make_loader(patients, StudySettings(batch_size=6), seed)
        return torch.cat([batch[0]["signal"].flatten() for batch in loader]).tolist()

    assert order(1) == order(1) != order(2)
    assert sorted(order(1)) == list(range(count))


def test_rows_without_a_modality_are_harmless_numbers() -> None:
    task = Task(
        {"mri": Volume((1, 2, 2, 2), (1.0, 1.0, 1.0)), "clinical": Table(FEATURES)},
        {"label": Binary()},
        build_model=lambda *_: None,  # type: ignore[arg-type, return-value]
    )
    table = np.array([[50.0, 20.0], [np.nan, np.nan], [70.0, np.nan], [60.0, 30.0]], np.float32)
    cohort = Cohort(
        site="oak",
        patients=("p0", "p1", "p2", "p3"),
        first=np.arange(5),
        sampling_weight=np.ones(4),
        inputs={"mri": np.zeros((4, 1, 2, 2, 2), np.float16), "clinical": table},
        present=np.array([[1, 1], [0, 0], [0, 1], [1, 1]], bool),
        truths={"label": np.array([0, 1, 1, np.nan], np.float32)},
        parts={"train": np.array([0, 1, 2]), "validation": np.array([], np.int64), "test": np.array([3])},
    )
    statistics = {"clinical": FeatureStatistics.of(table[[0, 2]])}
    patients = select_patients(cohort, "train", task, statistics)
    batch = patients.__getitems__(range(len(patients)))
    assert batch[1].tolist() == [[1.0, 1.0], [0.0, 0.0], [0.0, 1.0]]
    assert all(value.isfinite().all() for value in batch[0].values())
    # z-scores and missing flags: age 60 +- 10; of the size, one of two was known
    np.testing.assert_allclose(batch[0]["clinical"][0], [-1.0, 0.0, 0.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(batch[0]["clinical"][2], [1.0, 0.0, 0.0, 1.0], atol=1e-6)
    assert len(select_patients(cohort, "validation", task, statistics)) == 0
    assert batch[2]["label"].tolist() == [0.0, 1.0, 1.0]
