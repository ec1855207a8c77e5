"""Baselines on tables: what they learn, and what is said where they cannot."""

from __future__ import annotations

import dataclasses
import importlib.util

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.svm import SVC

from client.cohort.load import Cohort
from client.training.dataset import select_patients
from shared_models.features import Feature
from shared_models.metrics.within_site import WithinSiteConcordance
from shared_models.settings import SettingsError
from shared_models.study_settings import StudySettings
from shared_models.targets import Binary, Regression, TimeToEvent
from shared_models.task import Table, Task, Volume
from simulation.baselines.pooled_and_local import metrics, score
from simulation.baselines.tabular import KINDS, fit_tabular, is_installed, require_installed, why_not

TASK = Task(
    {"clinical": Table((Feature("size"), Feature("noise")))},
    {"relapse": Binary()},
    build_model=lambda *_: None,  # type: ignore[arg-type, return-value]
)


def cohort(patients: int = 300, views: int = 2) -> Cohort:
    """Patients who relapse if their size is extreme, which no line can tell; two views each, the second noisy."""
    rng = np.random.default_rng(0)
    size = rng.normal(size=patients)
    rows = np.repeat(size, views) + np.tile([0.0, 0.3][:views], patients) * rng.normal(size=patients * views)
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


CURVED = [kind for kind in KINDS if is_installed(kind) and kind not in ("logistic-regression", "cox")]


@pytest.mark.parametrize("kind", CURVED)
def test_a_baseline_learns_what_no_line_can_and_scores_a_patient_by_all_views(kind) -> None:
    made = cohort()
    fitted = fit_tabular(kind, made, TASK, StudySettings())
    assert fitted is not None
    scores, truth = score(fitted, made, TASK)["relapse"]
    assert scores.shape == truth.shape == (140,)
    assert metrics({"oak": (scores, truth)}, Binary())["pooled"]["auc"] > 0.85
    patients = dataclasses.replace(made, parts={**made.parts, "test": made.parts["test"][:1]})
    assert score(fitted, patients, TASK)["relapse"][0] == pytest.approx(scores[:1])


def test_a_patients_score_is_the_mean_over_the_views_and_no_line_finds_two_ends() -> None:
    made = cohort()
    line = fit_tabular("logistic-regression", made, TASK, StudySettings())
    assert line is not None
    (one, *_), _ = score(line, made, TASK)["relapse"]
    rows = made.inputs["clinical"][made.first[160] : made.first[161]]
    z = line.statistics["clinical"].standardise(rows)
    assert one == pytest.approx(line.models["relapse"].predict_proba(z)[:, 1].mean())
    assert metrics({"oak": score(line, made, TASK)["relapse"]}, Binary())["pooled"]["auc"] < 0.7


def test_cox_orders_patients_by_the_hazard_they_have_and_scores_the_risk_by_the_horizon() -> None:
    made, rng = cohort(600, views=1), np.random.default_rng(2)
    hazard = np.exp(0.8 * made.inputs["clinical"][:, 0]) / 2000
    event, end = rng.exponential(1 / hazard), rng.uniform(500, 4000, 600)
    truth = np.stack([np.minimum(event, end), event <= end], axis=1).astype(np.float32)
    constant = np.column_stack([made.inputs["clinical"], np.ones(600, np.float32)])
    task = Task(
        {"clinical": Table((Feature("size"), Feature("noise"), Feature("same")))},
        {"relapse": TimeToEvent()},
        build_model=lambda *_: None,  # type: ignore[arg-type, return-value]
    )
    made = dataclasses.replace(made, inputs={"clinical": constant}, truths={"relapse": truth})
    fitted = fit_tabular("cox", made, task, StudySettings())
    assert fitted is not None
    scores, known = score(fitted, made, task)["relapse"]
    by_horizon = 1 - np.exp(-hazard[made.parts["test"]] * TimeToEvent().horizon_days)
    assert scores.mean() == pytest.approx(by_horizon.mean(), abs=0.06)
    best = WithinSiteConcordance.of(by_horizon, known).share()
    assert WithinSiteConcordance.of(scores, known).share() == pytest.approx(best, abs=0.02)
    assert why_not("cox", TASK) == "it has no time to event"
    assert "binary" in why_not("svm", task)


def test_the_setting_is_the_one_that_validation_patients_prefer() -> None:
    made = cohort(400)
    noise = dataclasses.replace(made, inputs={"clinical": np.random.default_rng(1).normal(size=(800, 2))})
    fitted = fit_tabular("svm", noise, TASK, StudySettings())
    assert fitted is not None
    validation = select_patients(noise, "validation", TASK, fitted.statistics)
    values = {}
    for strength in (0.1, 1.0, 10.0):
        train = select_patients(noise, "train", TASK, fitted.statistics)
        rows, owner = train.all_rows()
        table, truth = train.inputs["clinical"][rows], train.known("relapse")[owner.numpy()]
        model = SVC(C=strength, class_weight="balanced").fit(table, truth)
        distances = model.decision_function(validation.inputs["clinical"][validation.all_rows()[0]])
        scores = (1 / (1 + np.exp(-distances))).reshape(-1, 2).mean(axis=1)
        values[strength] = roc_auc_score(validation.known("relapse"), scores)
    assert max(values, key=values.__getitem__) == fitted.models["relapse"].C


def test_no_baseline_without_tables_classes_or_binary_targets() -> None:
    made = cohort()
    images = dataclasses.replace(TASK, modalities={"mri": Volume((1, 1, 1, 1), (1.0, 1.0, 1.0))})
    assert fit_tabular("random-forest", made, images, StudySettings()) is None
    numbers = dataclasses.replace(TASK, targets={"relapse": Regression()})
    assert fit_tabular("random-forest", made, numbers, StudySettings()) is None
    for outcome in (0.0, np.nan):  # of no patient, or known of none
        one_class = dataclasses.replace(made, truths={"relapse": np.full(300, outcome, np.float32)})
        assert fit_tabular("random-forest", one_class, TASK, StudySettings()) is None


def test_a_library_that_is_not_installed_is_named_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        SettingsError, match="what catboost needs is not installed here; pip install catboost, or leave it out"
    ):
        require_installed(["svm", "catboost"])
