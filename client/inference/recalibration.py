"""Recalibration of a finished network at a site: intercept and slope from the site's own patients.

Two numbers are fitted (of classes one intercept each, and a slope), which leave the order of patients as it was. What
they gain is measured on patients other than those they were fitted to, by five-fold cross-validation.

Reference:
    Steyerberg, Borsboom, van Houwelingen, Eijkemans & Habbema, Validation and updating of predictive logistic
        regression models. Statistics in Medicine 23 (2004) 2567-2586, 10.1002/sim.1844.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from client.inference.known_outcomes import KnownOutcomes, class_names
from shared_models.metrics.recalibration import logistic_recalibration
from shared_models.metrics.scores import LOGIT_LIMIT
from shared_models.targets import Binary, Categorical, Target, TimeToEvent

Array = np.ndarray[Any, Any]
Measures = dict[str, float]
FOLDS, MIN_OF_CLASS, MIN_PATIENTS, FEW_OF_CLASS = 5, 10, 20, 100
SMALLEST = 1 / (1 + math.exp(2 * LOGIT_LIMIT))


@dataclass(frozen=True, eq=False)
class Recalibration:
    """An intercept and a slope on the scale of the network's output.

    Attributes:
        link: `logit` of a probability or risk, `log` of the probabilities of classes, `identity` of a number.
        intercept: `(1,)`, of classes `(K,)`.
        slope: Above 0.
    """

    link: Literal["logit", "log", "identity"]
    intercept: Array
    slope: float

    def __call__(self, scores: Array) -> Array:
        """Recalibrated predictions, as the network's `(M,)` or `(M, K)`."""
        if self.link == "identity":
            return np.asarray(self.intercept + self.slope * scores)
        if self.link == "logit":
            return np.asarray(1 / (1 + np.exp(-(self.intercept + self.slope * logit(scores)))))
        linear = self.intercept + self.slope * np.log(np.maximum(scores, SMALLEST))
        odds = np.exp(linear - linear.max(axis=1, keepdims=True))
        return np.asarray(odds / odds.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class Recalibrated:
    """What recalibration came to for one target.

    Attributes:
        use: The fit; None where there is none.
        why_not: Why there is none; empty where there is one.
        patients: How many had a known outcome, by class; of a continuous target in all.
        before: Measures of the network as it was trained.
        after: The same after recalibration, of each patient by a fit to others.
    """

    use: Recalibration | None
    why_not: str
    patients: dict[str, int]
    before: Measures
    after: Measures

    @property
    def few(self) -> bool:
        """Whether there were fewer patients of a class than such a fit is commonly held to need."""
        return min(self.patients.values()) < FEW_OF_CLASS


def recalibrate(target: Target, known: KnownOutcomes) -> Recalibrated:
    """Fits, and measures before and after."""
    counts, measure = count_outcomes(target, known), _measure_of(target)
    least = MIN_OF_CLASS if class_names(target) else MIN_PATIENTS
    if min(counts.values()) < least:
        few = ", ".join(f"{name}: {count}" for name, count in counts.items())
        return Recalibrated(None, f"too few patients with a known outcome ({few}; at least {least})", counts, {}, {})
    fitted = fit(target, known)
    if fitted is None:
        return Recalibrated(None, "the predictions do not rise with the outcome here", counts, measure(known), {})
    after = _out_of_fold(target, known)
    return Recalibrated(fitted, "", counts, measure(known), measure(after) if after else {})


def count_outcomes(target: Target, known: KnownOutcomes) -> dict[str, int]:
    """Patients by class; of a continuous target all together."""
    names = class_names(target)
    return {name: int((known.outcome == index).sum()) for index, name in enumerate(names)} or {"known": len(known)}


def fit(target: Target, known: KnownOutcomes) -> Recalibration | None:
    """The recalibration by a target's likelihood; None where it has no maximum, or would turn the order round."""
    if isinstance(target, Binary | TimeToEvent):
        positives = known.weights * known.outcome
        a, b = logistic_recalibration(logit(known.scores), positives, known.weights - positives)
        fitted = Recalibration("logit", np.array([a.value]), b.value)
    elif isinstance(target, Categorical):
        fitted = _fit_classes(known)
    else:
        slope, intercept = np.polyfit(known.scores, known.outcome, 1) if np.ptp(known.scores) > 0 else (0.0, 0.0)
        fitted = Recalibration("identity", np.array([intercept]), float(slope))
    usable = math.isfinite(fitted.slope) and fitted.slope > 0 and bool(np.isfinite(fitted.intercept).all())
    return fitted if usable else None


def _fit_classes(known: KnownOutcomes) -> Recalibration:
    """An intercept for each class but the first, and one slope, by maximum likelihood."""
    from scipy.optimize import minimize

    logs = np.log(np.maximum(known.scores, SMALLEST))
    right = np.eye(logs.shape[1])[known.outcome.astype(int)]

    def loss(numbers: Array) -> tuple[float, Array]:
        linear = np.concatenate([[0.0], numbers[1:]]) + numbers[0] * logs
        shifted = linear - linear.max(axis=1, keepdims=True)
        logp = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        off = np.exp(logp) - right
        gradient = np.concatenate([[(off * logs).sum()], off.sum(axis=0)[1:]])
        return -float((right * logp).sum()) / len(logs), gradient / len(logs)

    start = np.concatenate([[1.0], np.zeros(logs.shape[1] - 1)])
    optimum = minimize(loss, start, jac=True, method="BFGS")
    slope = float(optimum.x[0]) if np.abs(optimum.jac).max() < 1e-3 else math.nan
    return Recalibration("log", np.concatenate([[0.0], optimum.x[1:]]), slope)


def _out_of_fold(target: Target, known: KnownOutcomes) -> KnownOutcomes | None:
    """The same patients, each recalibrated by a fit to the other four fifths; None where one of these has no fit."""
    by_score = known.scores if known.scores.ndim == 1 else known.scores.max(axis=1)
    fold = np.empty(len(known), dtype=int)
    fold[np.lexsort((by_score, known.outcome))] = np.arange(len(known)) % FOLDS  # each fold has its share of all scores
    scores = known.scores.copy()
    for part in range(FOLDS):
        fitted = fit(target, known.of(fold != part))
        if fitted is None:
            return None
        scores[fold == part] = fitted(known.scores[fold == part])
    return KnownOutcomes(scores, known.outcome, known.weights)


def _measure_of(target: Target) -> Callable[[KnownOutcomes], Measures]:
    if isinstance(target, Binary | TimeToEvent):
        return _of_probabilities
    return _of_classes if isinstance(target, Categorical) else _of_numbers


def _of_probabilities(known: KnownOutcomes) -> Measures:
    w, y, p = known.weights, known.outcome, known.scores
    a, b = logistic_recalibration(logit(p), w * y, w * (1 - y))
    return {
        "intercept": a.value,
        "slope": b.value,
        "slope_low": b.low,
        "slope_high": b.high,
        "expected_observed_ratio": float((w * p).sum() / (w * y).sum()),
        "brier": float((w * (p - y) ** 2).sum() / w.sum()),
    }


def _of_classes(known: KnownOutcomes) -> Measures:
    index = known.outcome.astype(int)
    right = known.scores[np.arange(len(known)), index]
    brier = ((known.scores - np.eye(known.scores.shape[1])[index]) ** 2).sum(axis=1).mean()
    return {"log_loss": float(-np.log(np.maximum(right, SMALLEST)).mean()), "brier": float(brier)}


def _of_numbers(known: KnownOutcomes) -> Measures:
    error = known.scores - known.outcome
    return {"mean_error": float(error.mean()), "rmse": float(np.sqrt((error**2).mean()))}


def logit(probability: Array) -> Array:
    """The log odds, those of a 0 or a 1 finite."""
    clipped = np.clip(probability, SMALLEST, 1 - SMALLEST)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))
