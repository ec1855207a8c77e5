"""Baselines on tables: logistic regression, random forest, SVM, gradient boosting, XGBoost, CatBoost.

They are not averaged over sites as weights are, so they train on pooled patients. Of a few settings of each the one
with the best AUC on validation patients is taken. XGBoost and CatBoost are extras: `pip install -e ".[boosting]"`.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from client.cohort.load import Cohort
from client.training.dataset import Array, PatientDataset, feature_statistics, select_patients
from shared_models.features import FeatureStatistics
from shared_models.metrics.delong import auc
from shared_models.settings import SettingsError
from shared_models.study_settings import StudySettings
from shared_models.targets import Binary
from shared_models.task import Task

Kind = Literal["logistic-regression", "random-forest", "svm", "gradient-boosting", "xgboost", "catboost"]
KINDS: tuple[Kind, ...] = ("logistic-regression", "random-forest", "svm", "gradient-boosting", "xgboost", "catboost")
EXTRAS = ("xgboost", "catboost")


@dataclass(frozen=True)
class Tabular:
    """A fitted classifier for each binary target.

    Attributes:
        classifiers: By target.
        statistics: Of the patients they were fitted on.
    """

    classifiers: Mapping[str, Any]
    statistics: Mapping[str, FeatureStatistics]

    def predict(self, patients: PatientDataset) -> dict[str, Array]:
        """Scores `(P,)` in [0, 1] by target: the mean over each patient's lesions or views."""
        return {name: _by_patient(classifier, patients) for name, classifier in self.classifiers.items()}


def require_installed(kinds: Sequence[str]) -> None:
    """Says before anything is trained which extra is missing.

    Raises:
        SettingsError: If one is.
    """
    missing = [kind for kind in kinds if kind in EXTRAS and importlib.util.find_spec(kind) is None]
    if missing:
        names = " ".join(missing)
        msg = f"models: {' and '.join(missing)} is not installed here; pip install {names}, or leave it out of --models"
        raise SettingsError(msg)


def why_not(task: Task) -> str:
    """Why baselines on tables cannot learn a task, in a clause; empty if they can."""
    if not task.tables:
        return "the study has no table"
    if not any(isinstance(target, Binary) for target in task.targets.values()):
        return 'it has no binary target (outcome = "binary" makes one of a time to event)'
    return ""


def fit_tabular(kind: Kind, cohort: Cohort, task: Task, config: StudySettings) -> Tabular | None:
    """Fits a baseline to the tables of a cohort's training patients, all their rows, tuned on validation patients.

    Returns:
        None as `fit_classifiers`.
    """
    return _fit(lambda: candidates(kind, config.seed), cohort, task)


def fit_classifiers(make: Callable[[], Any], cohort: Cohort, task: Task) -> Tabular | None:
    """Fits a classifier for each binary target to the tables of a cohort's training patients, all their rows.

    Args:
        make: An estimator as scikit-learn's, with `fit` and `predict_proba`.
        cohort: The patients.
        task: Its tables and targets.

    Returns:
        None if the task has no tables or no binary targets, or the cohort lacks a class of each.
    """
    return _fit(lambda: [make()], cohort, task)


def _fit(tried: Callable[[], Iterable[Any]], cohort: Cohort, task: Task) -> Tabular | None:
    if why_not(task):
        return None
    statistics = feature_statistics(cohort, task)
    train, validation = (select_patients(cohort, part, task, statistics) for part in ("train", "validation"))
    rows, owner = train.all_rows()
    table, classifiers = _table(train, rows), {}
    for name in (name for name, target in task.targets.items() if isinstance(target, Binary)):
        truth = train.known(name)[owner.numpy()]
        known = ~np.isnan(truth)
        if len(np.unique(truth[known])) == 2:
            fitted = [one.fit(table[known], truth[known].astype(int)) for one in tried()]
            classifiers[name] = max(fitted, key=functools.partial(_validated, validation=validation, target=name))
    return Tabular(classifiers, statistics) if classifiers else None


def candidates(kind: Kind, seed: int) -> Iterator[Any]:
    """Classifiers of a kind with the settings that are tried, simplest first."""
    match kind:
        case "logistic-regression":
            from sklearn.linear_model import LogisticRegression

            yield from (LogisticRegression(C=strength, max_iter=2000) for strength in (0.01, 0.1, 1.0, 10.0))
        case "random-forest":
            from sklearn.ensemble import RandomForestClassifier

            yield from (RandomForestClassifier(300, min_samples_leaf=n, random_state=seed) for n in (20, 5, 1))
        case "svm":
            from sklearn.svm import SVC

            yield from (SVC(C=strength, class_weight="balanced") for strength in (0.1, 1.0, 10.0))
        case "gradient-boosting":
            from sklearn.ensemble import GradientBoostingClassifier

            depths = (1, 2, 3)
            yield from (GradientBoostingClassifier(max_depth=d, subsample=0.8, random_state=seed) for d in depths)
        case "xgboost":
            from xgboost import XGBClassifier

            grid = itertools.product((1, 2, 4), (0.03, 0.1))
            fixed = {"n_estimators": 200, "subsample": 0.8, "random_state": seed, "n_jobs": 1}
            yield from (XGBClassifier(max_depth=depth, learning_rate=rate, **fixed) for depth, rate in grid)
        case "catboost":
            from catboost import CatBoostClassifier

            fixed = {"random_seed": seed, "verbose": False, "allow_writing_files": False, "thread_count": 1}
            yield from (CatBoostClassifier(depth=depth, iterations=300, **fixed) for depth in (2, 4, 6))


def _validated(classifier: Any, validation: PatientDataset, target: str) -> float:
    """The AUC on validation patients; the simplest classifier wins where there is none."""
    if not len(validation):
        return -1.0
    value = auc(_by_patient(classifier, validation), validation.known(target))
    return -1.0 if np.isnan(value) else value


def _by_patient(classifier: Any, patients: PatientDataset) -> Array:
    rows, owner = patients.all_rows()
    if not len(rows):
        return np.zeros(0)
    table = _table(patients, rows)
    if hasattr(classifier, "predict_proba"):
        scores = classifier.predict_proba(table)[:, 1]
    else:  # an SVM's distance to the boundary, on the scale of a probability
        scores = 1 / (1 + np.exp(-classifier.decision_function(table)))
    totals = np.bincount(owner.numpy(), scores, len(patients))
    return np.clip(totals / np.bincount(owner.numpy(), minlength=len(patients)), 0.0, 1.0)


def _table(patients: PatientDataset, rows: Array) -> Array:
    """`(R, W)` all tables side by side, as z-scores with missing flags."""
    tables = [values for values in patients.inputs.values() if values.ndim == 2]
    return np.concatenate([values[rows] for values in tables], axis=1)
