"""Random forest and gradient boosting baselines on tables (scikit-learn).

They are not averaged over sites as weights are, so they train on pooled patients or at one site only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from client.cohort.load import Cohort
from client.training.dataset import Array, PatientDataset, feature_statistics, select_patients
from shared_models.features import FeatureStatistics
from shared_models.study_settings import StudySettings
from shared_models.targets import Binary
from shared_models.task import Task

Kind = Literal["random forest", "gradient boosting"]


@dataclass(frozen=True)
class Trees:
    """A fitted classifier for each yes/no target.

    Attributes:
        classifiers: By target.
        statistics: Of the patients they were fitted on.
    """

    classifiers: Mapping[str, Any]
    statistics: Mapping[str, FeatureStatistics]

    def predict(self, patients: PatientDataset) -> dict[str, Array]:
        """Probabilities `(P,)` by target: the mean over each patient's lesions or views."""
        rows, owner = patients.all_rows()
        counts = np.bincount(owner.numpy(), minlength=len(patients))
        table = _table(patients, rows)
        return {
            name: np.bincount(owner.numpy(), classifier.predict_proba(table)[:, 1], len(patients)) / counts
            for name, classifier in self.classifiers.items()
        }


def fit_trees(kind: Kind, cohort: Cohort, task: Task, config: StudySettings) -> Trees | None:
    """Fits trees to the tables of a cohort's training patients, all their rows; None as `fit_classifiers`."""
    from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier

    def make() -> Any:
        if kind == "random forest":
            return RandomForestClassifier(500, min_samples_leaf=5, random_state=config.seed)
        return GradientBoostingClassifier(max_depth=2, subsample=0.8, random_state=config.seed)

    return fit_classifiers(make, cohort, task)


def fit_classifiers(make: Callable[[], Any], cohort: Cohort, task: Task) -> Trees | None:
    """Fits a classifier for each target to the tables of a cohort's training patients, all their rows.

    Args:
        make: An estimator as scikit-learn's, with `fit` and `predict_proba`.
        cohort: The patients.
        task: Its tables and targets.

    Returns:
        None if the task has no tables or other targets than yes/no ones, or the cohort lacks a class.
    """
    if not task.tables or not all(isinstance(target, Binary) for target in task.targets.values()):
        return None
    statistics = feature_statistics(cohort, task)
    patients = select_patients(cohort, "train", task, statistics)
    rows, owner = patients.all_rows()
    table, classifiers = _table(patients, rows), {}
    for name in task.targets:
        truth = patients.known(name)[owner.numpy()]
        known = ~np.isnan(truth)
        if len(np.unique(truth[known])) < 2:
            return None
        classifiers[name] = make().fit(table[known], truth[known])
    return Trees(classifiers, statistics)


def _table(patients: PatientDataset, rows: Array) -> Array:
    """`(R, W)` all tables side by side, as z-scores with missing flags."""
    tables = [values for values in patients.inputs.values() if values.ndim == 2]
    return np.concatenate([values[rows] for values in tables], axis=1)
