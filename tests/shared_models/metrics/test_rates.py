"""Intervals and curves from counts of scores, against scipy and scikit-learn on rows, and by simulated coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import matthews_corrcoef, precision_recall_curve, roc_auc_score, roc_curve

from shared_models.metrics.binary import ScoreHistogram
from shared_models.metrics.categorical import ConfusionMatrix
from shared_models.metrics.confusion_counts import ConfusionCounts
from shared_models.metrics.curves import Classes, curves
from shared_models.metrics.decision_curve import THRESHOLDS
from shared_models.metrics.horizon import HorizonTable
from shared_models.metrics.one_versus_rest import OneVersusRest
from shared_models.metrics.rates import rate_bounds, wilson
from shared_models.metrics.regression import RegressionSums
from shared_models.metrics.scores import left_edges
from shared_models.metrics.summary import pooled_metrics, summarise
from shared_models.targets import Binary

CONTINUOUS = ("brier", "calibration_slope", "calibration_intercept", "calibration_in_the_large")
RATES = (
    "sensitivity",
    "specificity",
    "precision",
    "accuracy",
    "balanced_accuracy",
    "f1",
    "mcc",
    "npv",
    "flagged",
    "average_precision",
)
WEIGHTED = ("auc", *RATES, *CONTINUOUS, "expected_observed_ratio")
TWO_YEARS = 730.5
COVERED = ("auc", "auc_within_sites", *RATES, *CONTINUOUS, "expected_observed_ratio")


@pytest.mark.parametrize(("part", "whole"), [(0, 9), (3, 10), (47, 50), (200, 200)])
def test_wilson_is_scipys(part: int, whole: int) -> None:
    theirs, ours = binomtest(part, whole).proportion_ci(method="wilson"), wilson(part / whole, whole)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))


def test_mcc_has_the_interval_of_a_bootstrap_of_rows() -> None:
    truth, predicted = np.repeat([1, 1, 0, 0], [60, 20, 150, 30]), np.repeat([1, 0, 0, 1], [60, 20, 150, 30])
    counts = ConfusionCounts(60.0, 30.0, 150.0, 20.0)
    ours, rng = rate_bounds(counts, counts), np.random.default_rng(0)
    draws = (rng.integers(0, len(truth), len(truth)) for _ in range(400))
    theirs = np.quantile([matthews_corrcoef(truth[rows], predicted[rows]) for rows in draws], [0.025, 0.975])
    assert (ours["mcc_low"], ours["mcc_high"]) == pytest.approx(tuple(theirs), abs=0.03)


def test_curves_go_through_the_points_of_the_rows() -> None:
    rng = np.random.default_rng(2)
    labels = rng.permutation(np.repeat([1.0, 0.0], [40, 160]))
    scores = rng.choice(left_edges(1024)[300:700], 200)  # a bin a score: as fine as the rows
    sites = [ScoreHistogram.of(scores[part], labels[part]) for part in (slice(50), slice(50, None))]
    pooled = sites[0] + sites[1]
    points = curves(Classes(pooled.positives, pooled.negatives, pooled.n_positive, pooled.n_negative))
    area = np.trapezoid(points["roc_true_positive_rate"], points["roc_false_positive_rate"])
    assert area == pytest.approx(roc_auc_score(labels, scores), abs=0.01)
    false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
    assert all(true[false <= at].max() <= up + 1e-9 for at, up in zip(*list(points.values())[:2], strict=True))
    precision, recall, _ = precision_recall_curve(labels, scores)
    for at, value in zip(points["pr_recall"], points["pr_precision"], strict=True):
        assert value == pytest.approx(precision[np.flatnonzero(recall >= at - 1e-9)[-1]])


def test_each_class_against_the_rest_and_its_rates_are_those_of_rows() -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 3, 300).astype(float)
    scores = rng.dirichlet(np.ones(3), 300) + np.eye(3)[labels.astype(int)] * 0.3
    scores /= scores.sum(axis=1, keepdims=True)
    metrics = OneVersusRest.of(scores, labels).metrics(0.5)
    theirs = [roc_auc_score(labels == index, scores[:, index]) for index in range(3)]
    assert metrics["auc_by_class"] == pytest.approx(theirs, abs=max(metrics["auc_by_class_bound"]))
    few = OneVersusRest.of(scores[:40], np.where(np.arange(40) < 5, 0.0, 1.0 + np.arange(40) % 2)).without_small_cells(
        10
    )
    cells = np.concatenate([few.positives.ravel(), few.negatives.ravel()])
    assert cells[cells > 0].min() >= 10
    assert np.isnan(few.metrics(0.5)["auc_by_class"][0])  # five patients have it
    table = ConfusionMatrix.of_probabilities(scores, labels).metrics(0.5)
    rows, draws = [], (rng.integers(0, 300, 300) for _ in range(300))
    for resample in draws:
        rows.append(ConfusionMatrix.of_probabilities(scores[resample], labels[resample]).macro_f1)
    ends = (table["macro_f1_low"], table["macro_f1_high"])
    assert ends == pytest.approx(tuple(np.quantile(rows, [0.025, 0.975])), abs=0.02)


def binormal(rng: np.random.Generator, patients: int, share: float, shift: float) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated probabilities and outcomes."""
    labels = (rng.uniform(size=patients) < share).astype(float)
    logit = np.log(share / (1 - share)) + shift * rng.normal(shift * labels, 1) - shift**2 / 2
    return 1 / (1 + np.exp(-logit)), labels


@pytest.mark.slow
@pytest.mark.parametrize(
    ("patients", "share", "shift"), [(100, 0.1, 2.33), (100, 0.1, 1.0), (100, 0.3, 1.0), (320, 0.06, 1.5)]
)
def test_intervals_cover_what_they_claim(patients: int, share: float, shift: float) -> None:
    rng, many = np.random.default_rng(0), binormal(np.random.default_rng(1), 400_000, share, shift)
    cut = ScoreHistogram.of(*many).threshold("f1")
    calibration = Binary().statistics["calibration"](*many)
    whole = {**ScoreHistogram.of(*many).metrics(cut), **calibration.metrics(cut)}
    whole["auc_within_sites"] = whole["auc"]
    hits: dict[str, list[bool]] = {name: [] for name in COVERED}
    for _ in range(1000):
        metrics = pooled_metrics(summarise(Binary(), *binormal(rng, patients, share, shift)), cut)
        for name, covered in hits.items():
            low, high = metrics[f"{name}_low"], metrics[f"{name}_high"]
            if not np.isnan(low):
                covered.append(bool(low <= whole[name] <= high))
    coverage = {name: float(np.mean(covered)) for name, covered in hits.items()}
    assert coverage["auc"] >= 0.94
    assert min(coverage.values()) >= 0.90, coverage


def followed(rng: np.random.Generator, patients: int, followed_days: float) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated risks by two years, and days with events: hazards are constant, follow-up ends at random."""
    risk = 1 / (1 + np.exp(-rng.normal(-1.2, 1, patients)))
    event_days = rng.exponential(-TWO_YEARS / np.log1p(-risk))
    censored_days = rng.uniform(0, followed_days, patients) if followed_days else np.full(patients, 1e6)
    days = np.minimum(event_days, censored_days)
    return risk, np.stack([days, (event_days <= censored_days).astype(float)], axis=1)


@pytest.mark.slow
@pytest.mark.parametrize(("patients", "followed_days"), [(150, 1500.0), (400, 1100.0)])
def test_weighted_intervals_cover_what_they_claim(patients: int, followed_days: float) -> None:
    def at_horizon(rng: np.random.Generator, n: int, until: float) -> dict[str, float | list[float]]:
        return HorizonTable.of(*followed(rng, n, until), horizon_days=TWO_YEARS).metrics(left_edges(1024)[440])

    whole, rng = at_horizon(np.random.default_rng(1), 400_000, 0.0), np.random.default_rng(0)
    hits: dict[str, list[bool]] = {name: [] for name in (*WEIGHTED, *map(str, range(len(THRESHOLDS))))}
    for _ in range(1000):
        metrics = at_horizon(rng, patients, followed_days)
        ends = {name: (metrics[f"{name}_low"], metrics[f"{name}_high"], whole[name]) for name in WEIGHTED}
        curve = zip(
            *(each[f"net_benefit{end}"] for each, end in ((metrics, "_low"), (metrics, "_high"), (whole, ""))),
            strict=True,
        )
        ends |= {str(index): point for index, point in enumerate(curve)}
        for name, (low, high, truth) in ends.items():
            if not np.isnan(low):
                hits[name].append(bool(low <= truth <= high))
    coverage = {name: float(np.mean(covered)) for name, covered in hits.items()}
    assert coverage["auc"] >= 0.93
    assert min(coverage.values()) >= 0.90, coverage


@pytest.mark.slow
def test_intervals_of_a_number_cover_where_errors_are_normal() -> None:
    rng, hits = np.random.default_rng(0), []
    for _ in range(2000):
        truth = rng.normal(40, 20, 60)
        metrics = RegressionSums.of(truth + rng.normal(0, 10, 60), truth).metrics(0.5)
        true = {"mae": 10 * np.sqrt(2 / np.pi), "rmse": 10.0, "r2": 0.75}
        hits.append([metrics[f"{name}_low"] <= value <= metrics[f"{name}_high"] for name, value in true.items()])
    assert (np.mean(hits, axis=0) >= 0.93).all(), np.mean(hits, axis=0)
