"""Trees on tables, as baselines."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from client.cohort.load import Cohort
from shared_models.features import Feature
from shared_models.study_settings import StudySettings
from shared_models.targets import Binary, Regression
from shared_models.task import Table, Task, Volume
from simulation.baselines.pooled_and_local import metrics, score
from simulation.baselines.trees import fit_trees

TASK = Task(
    {"clinical": Table((Feature("size"), Feature("noise")))},
    {"relapse": Binary()},
    build_model=lambda *_: None,  # type: ignore[arg-type, return-value]
)


def cohort(patients: int = 300, views: int = 2) -> Cohort:
    """Patients who relapse if their size is extreme, which no line can tell; two views each, the second noisy."""
    rng = np.random.default_rng(0)
    size = rng.normal(size=patients)
    rows = np.repeat(size, views) + np.tile([0.0, 0.3], patients) * rng.normal(size=patients * views)
    table = np.stack([rows, rng.normal(size=len(rows))], axis=1).astype(np.float32)
    parts = np.array_split(np.arange(patients), [patients // 2, patients // 2 + 10])
    return Cohort(
        site="oak",
        patients=tuple(map(str, range(patients))),
        first=np.arange(0, len(rows) + 1, views),
        sampling_weight=np.ones(len(rows)),
        inputs={"clinical": table},
        present=np.ones((len(rows), 1), bool),
        truths={"relapse": (np.abs(size) > 1).astype(np.float32)},
        parts=dict(zip(("train", "validation", "test"), parts, strict=True)),
    )


@pytest.mark.parametrize("kind", ["random forest", "gradient boosting"])
def test_trees_learn_what_no_line_can_and_score_a_patient_by_all_views(kind) -> None:
    made = cohort()
    trees = fit_trees(kind, made, TASK, StudySettings())
    assert trees is not None
    scores, truth = score(trees, made, TASK)["relapse"]
    assert scores.shape == truth.shape == (140,)
    assert metrics({"oak": (scores, truth)}, Binary())["pooled"]["auc"] > 0.9
    single = trees.classifiers["relapse"]
    patients = dataclasses.replace(made, parts={**made.parts, "test": made.parts["test"][:1]})
    rows = made.inputs["clinical"][made.first[160] : made.first[161]]
    z = trees.statistics["clinical"].standardise(rows)
    expected = single.predict_proba(z)[:, 1].mean()
    assert score(trees, patients, TASK)["relapse"][0] == pytest.approx([expected])


def test_no_trees_without_tables_classes_or_yes_no_targets() -> None:
    made = cohort()
    images = dataclasses.replace(TASK, modalities={"mri": Volume((1, 1, 1, 1), (1.0, 1.0, 1.0))})
    assert fit_trees("random forest", made, images, StudySettings()) is None
    numbers = dataclasses.replace(TASK, targets={"relapse": Regression()})
    assert fit_trees("random forest", made, numbers, StudySettings()) is None
    healthy = dataclasses.replace(made, truths={"relapse": np.zeros(300, np.float32)})
    assert fit_trees("random forest", healthy, TASK, StudySettings()) is None
