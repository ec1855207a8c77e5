from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from client.cohort.load import Cohort
from client.training.dataset import feature_statistics, select_patients
from client.training.oversampling import oversample
from shared_models.features import Feature, expand
from shared_models.settings import SettingsError
from shared_models.study_settings import StudySettings
from shared_models.targets import Binary
from shared_models.task import Table, Task, load_task

MIXED = (Feature("size"), Feature("margin", ("smooth", "sharp", "spiculated")))


def make(features=MIXED, positives=6, count=40, seed=0) -> tuple[Cohort, Task]:
    rng = np.random.default_rng(seed)
    values = np.stack(
        [rng.integers(0, 3, count) if feature.categories else rng.normal(20, 5, count) for feature in features]
    ).T.astype(float)
    values[3, 0] = np.nan
    label = (np.arange(count) < positives).astype(np.float32)
    cohort = Cohort(
        site="oak",
        patients=tuple(f"p{i}" for i in range(count)),
        first=np.arange(count + 1),
        sampling_weight=np.ones(count),
        inputs={"mammography": expand(features, values)},
        present=np.ones((count, 1), bool),
        truths={"relapse": label},
        parts={"train": np.arange(0, count, 2), "validation": np.arange(1, count, 4), "test": np.arange(3, count, 4)},
    )
    return cohort, Task({"mammography": Table(features)}, {"relapse": Binary()}, build_model=lambda *_: None)  # type: ignore[arg-type, return-value]


def test_only_the_training_part_grows_and_its_classes_are_then_as_many() -> None:
    cohort, task = make()
    statistics = feature_statistics(cohort, task)
    grown = oversample(cohort, task, statistics, seed=1)
    labels = grown.truths["relapse"][grown.parts["train"]]
    assert (labels == 1).sum() == (labels == 0).sum() == 17
    for part in ("validation", "test"):
        np.testing.assert_array_equal(grown.parts[part], cohort.parts[part])
    new = grown.inputs["mammography"][40:]
    assert len(new) == 14
    assert set(np.unique(new[:, 1:])) <= {0.0, 1.0}
    np.testing.assert_array_equal(new[:, 1:].sum(axis=1), 1)
    minority = cohort.inputs["mammography"][[0, 2, 4], 0]
    assert (new[:, 0] >= np.nanmin(minority) - 1e-4).all()
    assert (new[:, 0] <= np.nanmax(minority) + 1e-4).all()
    batch = select_patients(grown, "train", task, statistics).__getitems__(range(34))
    assert batch[0]["mammography"].isfinite().all()
    again = oversample(cohort, task, statistics, seed=1).inputs["mammography"]
    np.testing.assert_array_equal(again, grown.inputs["mammography"])


@pytest.mark.parametrize("features", [(Feature("a"), Feature("b")), (*MIXED[1:], Feature("view", ("cc", "mlo")))])
def test_numbers_alone_and_categories_alone(features) -> None:
    cohort, task = make(features)
    grown = oversample(cohort, task, feature_statistics(cohort, task), seed=0)
    assert len(grown.patients) == 54


def test_too_few_of_a_class_make_none() -> None:
    cohort, task = make(positives=2)  # one in training
    assert oversample(cohort, task, feature_statistics(cohort, task), seed=0) is cohort


def test_an_image_or_another_target_is_refused() -> None:
    with pytest.raises(SettingsError, match="mri is not a table"):
        load_task(StudySettings(task="recurrence_mri", oversampling="smotenc"))
    with pytest.raises(SettingsError, match="not a binary target"):
        load_task(StudySettings(task="recurrence_clinical", oversampling="smotenc"))


def test_a_patient_whose_table_is_absent_is_no_model_for_others() -> None:
    cohort, task = make()
    absent = cohort.inputs["mammography"].copy()
    absent[0] = np.nan
    present = cohort.present.copy()
    present[0] = False
    cohort = dataclasses.replace(cohort, inputs={"mammography": absent}, present=present)
    grown = oversample(cohort, task, feature_statistics(cohort, task), seed=0)
    assert np.isfinite(grown.inputs["mammography"][40:]).all()
