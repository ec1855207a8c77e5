"""How often conformal sets hold the right outcome, in simulated hospitals; docs/after_study.md has the figures."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from client.inference.conformal_sets import conformal_columns, smallest_class
from client.inference.known_outcomes import KnownOutcomes, class_names
from shared_models.metrics.censoring import at_horizon
from shared_models.targets import Binary, Categorical, Regression, Target, TimeToEvent

COVERAGE, REPEATS, NEW_PATIENTS, HORIZON_DAYS = 0.9, 300, 40, 1826.25
CLASSES = Categorical(classes=("LumA", "LumB", "Her2", "Basal"))


def overconfident(rng: np.random.Generator, outcome: np.ndarray, classes: int) -> np.ndarray:
    """Probabilities of a network that is wrong often and too sure: what sets must hold for all the same."""
    logits = rng.normal(0, 2.5, (len(outcome), classes)) + 2.0 * np.eye(classes)[outcome]
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return shares if classes > 2 else shares[:, 1]


def covered(target: Target, patients_per_class: int, seed: int) -> np.ndarray:
    """Share of new patients of each class whose set holds it, over many hospitals, (classes,)."""
    rng, names = np.random.default_rng(seed), class_names(target)
    right = np.zeros(len(names))
    calibration, new = (np.repeat(np.arange(len(names)), n) for n in (patients_per_class, NEW_PATIENTS))
    for _ in range(REPEATS):
        scores = overconfident(rng, calibration, len(names))
        sets = conformal_columns(target, KnownOutcomes(scores, calibration, np.ones(len(calibration))), COVERAGE)
        rows = sets(overconfident(rng, new, len(names)))["set"]
        inside = np.array([names[outcome] in row.split("|") for outcome, row in zip(new, rows, strict=True)])
        right += np.bincount(new, inside) / NEW_PATIENTS
    return right / REPEATS


@pytest.mark.parametrize("patients_per_class", [5, 9, 12, 30, 100])
@pytest.mark.parametrize("target", [Binary(), CLASSES], ids=["binary", "classes"])
def test_sets_hold_the_outcome_of_each_class_as_often_as_theory_says(target: Target, patients_per_class: int) -> None:
    """Ranks of exchangeable patients are uniform: coverage is exact, and below nine patients a class is never out."""
    n = patients_per_class
    theory = 1 - math.floor((1 - COVERAGE) * (n + 1) + 1e-9) / (n + 1)
    assert (theory == 1) == (n < smallest_class(COVERAGE))
    np.testing.assert_allclose(covered(target, n, seed=n), theory, atol=0.02)


def test_intervals_of_a_number_hold_it_as_often_as_theory_says() -> None:
    rng, right = np.random.default_rng(0), []
    for _ in range(REPEATS):
        truth = rng.normal(0, 1, 19 + NEW_PATIENTS)
        scores = truth + rng.standard_t(3, len(truth))
        known = KnownOutcomes(scores[:19], truth[:19], np.ones(19))
        ends = conformal_columns(Regression(), known, COVERAGE)(scores[19:])
        low, high = (np.array([float(text) for text in ends[name]]) for name in ("low", "high"))
        right.append(((low <= truth[19:]) & (truth[19:] <= high)).mean())
    assert np.mean(right) == pytest.approx(0.9, abs=0.02)


def survival(rng: np.random.Generator, patients: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Risks by the horizon, times without censoring, and times of censoring: half of the patients are lost early."""
    size = rng.normal(0, 1, patients)
    days = rng.exponential(3000 * np.exp(-size))
    return 1 / (1 + np.exp(-1.5 * size)), days, rng.uniform(0, 4000, patients)


def covered_at_the_horizon(patients: int, seed: int) -> dict[str, float]:
    """Share of new patients with the event by the horizon, and without, whose set holds that."""
    rng = np.random.default_rng(seed)
    target = TimeToEvent(edges_days=(HORIZON_DAYS,), horizon_days=HORIZON_DAYS)
    right: dict[str, list[float]] = {"yes": [], "no": []}
    for _ in range(REPEATS):
        risk, days, lost = survival(rng, patients)
        at = at_horizon(np.minimum(days, lost), days <= lost, HORIZON_DAYS)
        known = at.event | at.free
        rows = KnownOutcomes(risk[known], at.event[known].astype(float), at.weights[known])
        risk, days, _ = survival(rng, NEW_PATIENTS)
        for has, row in zip(days <= HORIZON_DAYS, conformal_columns(target, rows, COVERAGE)(risk)["set"], strict=True):
            word = "yes" if has else "no"
            right[word].append(word in row.split("|"))
    return {word: float(np.mean(values)) for word, values in right.items()}


def test_sets_of_a_time_to_event_hold_despite_censoring() -> None:
    for share in covered_at_the_horizon(150, seed=1).values():
        assert share == pytest.approx(0.9, abs=0.03)


def test_sets_of_patients_who_differ_from_those_of_calibration_may_fail() -> None:
    """The condition is no ornament: where the network is worse for new patients, fewer sets hold their outcome."""
    rng = np.random.default_rng(2)
    outcome = np.repeat([0, 1], 200)
    known = KnownOutcomes(np.where(outcome == 1, 0.9, 0.1) + rng.normal(0, 0.02, 400), outcome, np.ones(400))
    rows = conformal_columns(Binary(), known, COVERAGE)(overconfident(rng, outcome, 2))["set"]
    assert np.mean([("no", "yes")[o] in row.split("|") for o, row in zip(outcome, rows, strict=True)]) < 0.8


FIGURES: dict[str, Callable[[int], np.ndarray | dict[str, float]]] = {
    "binary": lambda n: covered(Binary(), n, n),
    "four classes": lambda n: covered(CLASSES, n, n),
    "event by the horizon": lambda n: covered_at_the_horizon(2 * n, n),
}

if __name__ == "__main__":
    for kind, measure in FIGURES.items():
        print(kind, {n: measure(n) for n in (5, 9, 12, 30, 100)})
