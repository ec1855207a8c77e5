"""Baselines on tables: logistic regression, random forest, SVM, gradient boosting, XGBoost, CatBoost; Cox's regression.

They are not averaged over sites as weights are, so they train on pooled patients. Of a few settings of each the one
with the best AUC or C-index on validation patients is taken. XGBoost, CatBoost and Cox's regression, of times to event,
are extras: `pip install -e ".[boosting,survival]"`.
"""

from __future__ import annotations

import importlib.util
import itertools
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import numpy as np

from client.cohort.load import Cohort
from client.training.dataset import Array, PatientDataset, feature_statistics, select_patients
from server.study.results.comparison_section import share
from shared_models.description import is_unknown
from shared_models.features import FeatureStatistics
from shared_models.settings import SettingsError
from shared_models.study_settings import StudySettings
from shared_models.targets import Binary, Target, TimeToEvent
from shared_models.task import Task

Kind = Literal["logistic-regression", "random-forest", "svm", "gradient-boosting", "xgboost", "catboost", "cox"]
KINDS: tuple[Kind, ...] = get_args(Kind)
EXTRAS = {"xgboost": "xgboost", "catboost": "catboost", "cox": "lifelines"}
"""Libraries that the package does without."""


@dataclass(frozen=True)
class Tabular:
    """A fitted model for each target that its kind can learn.

    Attributes:
        models: By target.
        statistics: Of the patients they were fitted on.
    """

    models: Mapping[str, Any]
    statistics: Mapping[str, FeatureStatistics]

    def predict(self, patients: PatientDataset) -> dict[str, Array]:
        """Scores `(P,)` in [0, 1] by target: the mean over each patient's lesions or views."""
        return {name: _by_patient(model, patients) for name, model in self.models.items()}


def is_installed(kind: str) -> bool:
    """Whether the library of a kind of baseline is there."""
    return kind not in EXTRAS or importlib.util.find_spec(EXTRAS[kind]) is not None


def require_installed(kinds: Sequence[str]) -> None:
    """Says before anything is trained which extra is missing.

    Raises:
        SettingsError: If one is.
    """
    missing = [kind for kind in kinds if not is_installed(kind)]
    if missing:
        libraries = " ".join(EXTRAS[kind] for kind in missing)
        msg = (
            f"models: what {' and '.join(missing)} needs is not installed here; pip install {libraries}, or leave "
            f"{'them' if len(missing) > 1 else 'it'} out of --models"
        )
        raise SettingsError(msg)


def why_not(kind: Kind, task: Task) -> str:
    """Why a kind of baseline cannot learn a task, in a clause; empty if it can."""
    if not task.tables:
        return "the study has no table"
    if any(isinstance(target, learns(kind)) for target in task.targets.values()):
        return ""
    if kind == "cox":
        return "it has no time to event"
    return 'it has no binary target (outcome = "binary" makes one of a time to event, which cox learns as it is)'


def learns(kind: Kind) -> type[Binary] | type[TimeToEvent]:
    """What kind of target a kind of baseline learns."""
    return TimeToEvent if kind == "cox" else Binary


def fit_tabular(kind: Kind, cohort: Cohort, task: Task, config: StudySettings) -> Tabular | None:
    """Fits a baseline to the tables of a cohort's training patients, all their rows, tuned on validation patients.

    Returns:
        None as `fit_classifiers`.
    """
    targets = {name: target for name, target in task.targets.items() if isinstance(target, learns(kind))}
    return _fit(lambda target: candidates(kind, config.seed, target), cohort, task, targets)


def fit_classifiers(make: Callable[[], Any], cohort: Cohort, task: Task) -> Tabular | None:
    """Fits a classifier for each binary target to the tables of a cohort's training patients, all their rows.

    Args:
        make: An estimator as scikit-learn's, with `fit` and `predict_proba`.
        cohort: The patients.
        task: Its tables and targets.

    Returns:
        None if the task has no tables or no such targets, the cohort lacks a class of each, or nothing can be fitted.
    """
    targets = {name: target for name, target in task.targets.items() if isinstance(target, Binary)}
    return _fit(lambda _: [make()], cohort, task, targets)


def _fit(
    tried: Callable[[Target], Iterable[Any]], cohort: Cohort, task: Task, targets: Mapping[str, Target]
) -> Tabular | None:
    if not task.tables:
        return None
    statistics = feature_statistics(cohort, task)
    train, validation = (select_patients(cohort, part, task, statistics) for part in ("train", "validation"))
    rows, owner = train.all_rows()
    table, models = _table(train, rows), dict[str, Any]()
    for name, target in targets.items():
        truth = train.known(name)[owner.numpy()]
        known = ~is_unknown(truth)
        if len(np.unique(np.atleast_2d(truth[known].T)[-1])) == 2:  # both classes, or events and others
            fitted = [model for one in tried(target) if (model := one.fit(table[known], truth[known])) is not None]
            best = max(fitted, key=partial(_validated, validation=validation, name=name, target=target), default=None)
            if best is not None:
                models[name] = best
    return Tabular(models, statistics) if models else None


def candidates(kind: Kind, seed: int, target: Target) -> Iterator[Any]:
    """Models of a kind with the settings that are tried, simplest first."""
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
        case "cox":
            horizon = target.horizon_days if isinstance(target, TimeToEvent) else math.inf
            yield from (Cox(penalty, horizon) for penalty in (1.0, 0.1, 0.01, 0.001))


class Cox:
    """Cox's proportional hazards with a ridge penalty (Cox 1972), by lifelines; it scores the risk by the horizon."""

    def __init__(self, penalty: float, horizon_days: float) -> None:
        """Of columns that are z-scores.

        Args:
            penalty: Half of it times the square of each coefficient is taken from the mean log partial likelihood.
            horizon_days: Of the risk.
        """
        self.penalty, self.horizon_days = penalty, horizon_days

    def fit(self, table: Array, truth: Array) -> Cox | None:
        """Fits it to `(R, W)` and days and events `(R, 2)`; a column that is the same in all rows tells nothing.

        Returns:
            None if no column tells anything, or the fit does not converge.
        """
        import pandas as pd
        from lifelines import CoxPHFitter
        from lifelines.exceptions import ConvergenceError

        self.columns = np.flatnonzero(np.ptp(table, axis=0) > 0)
        rows = pd.DataFrame(np.column_stack([table[:, self.columns], truth])).rename(columns=str)
        days, event = rows.columns[-2:]
        if not len(self.columns):
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of columns that hardly vary, which the penalty bears
            try:
                self.model = CoxPHFitter(penalizer=self.penalty).fit(rows, duration_col=days, event_col=event)
            except ConvergenceError:
                return None
        return self

    def predict_proba(self, table: Array) -> Array:
        """`(R, 2)` probabilities of no event and of one by the horizon."""
        import pandas as pd

        rows = pd.DataFrame(table[:, self.columns]).rename(columns=str)
        event_free = self.model.predict_survival_function(rows, times=[self.horizon_days]).to_numpy()[0]
        return np.column_stack([event_free, 1 - event_free])


def _validated(model: Any, validation: PatientDataset, name: str, target: Target) -> float:
    """The AUC or C-index on validation patients; the simplest model wins where there is none."""
    if not len(validation):
        return -1.0
    value = share([(target, _by_patient(model, validation), validation.known(name))]).value
    return -1.0 if np.isnan(value) else value


def _by_patient(model: Any, patients: PatientDataset) -> Array:
    rows, owner = patients.all_rows()
    if not len(rows):
        return np.zeros(0)
    table = _table(patients, rows)
    if hasattr(model, "predict_proba"):
        scores = model.predict_proba(table)[:, 1]
    else:  # an SVM's distance to the boundary, on the scale of a probability
        scores = 1 / (1 + np.exp(-model.decision_function(table)))
    totals = np.bincount(owner.numpy(), scores, len(patients))
    return np.clip(totals / np.bincount(owner.numpy(), minlength=len(patients)), 0.0, 1.0)


def _table(patients: PatientDataset, rows: Array) -> Array:
    """`(R, W)` all tables side by side, as z-scores with missing flags."""
    tables = [values for values in patients.inputs.values() if values.ndim == 2]
    return np.concatenate([values[rows] for values in tables], axis=1)
