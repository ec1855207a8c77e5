"""Recalibration, decision curve and further rates of additive counts, against scikit-learn on rows."""

import math

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, balanced_accuracy_score, brier_score_loss, matthews_corrcoef

from shared_models.metrics.arrays import total
from shared_models.metrics.binary import ScoreHistogram
from shared_models.metrics.horizon import HorizonTable


def rows(rng, patients, slope, shift):
    """Scores whose logits have to be multiplied by `slope` and moved by `shift`, and outcomes."""
    scores = expit(rng.normal(-1, 1.5, patients))
    return scores, (rng.uniform(size=patients) < expit(slope * logit(scores) + shift)).astype(float)


@pytest.mark.parametrize(("slope", "shift"), [(1.0, 0.0), (0.5, 0.4), (2.0, -0.5)])
def test_the_sites_sum_gives_what_the_pooled_rows_do(slope, shift):
    rng = np.random.default_rng(1)
    sites = [rows(rng, size, slope, shift) for size in (300, 500, 120)]
    scores, truth = (np.concatenate([site[part] for site in sites]) for part in (0, 1))
    binary = total(ScoreHistogram.of(*site) for site in sites).metrics(0.5)
    times = [np.stack([np.where(label == 1, 100.0, 400.0), label], axis=1) for _, label in sites]
    followed = [HorizonTable.of(site[0], time, 365.25) for site, time in zip(sites, times, strict=True)]
    timed = total(followed).metrics(0.5)
    model = LogisticRegression(C=math.inf, tol=1e-8, max_iter=1000).fit(logit(scores)[:, None], truth)
    for metrics in (binary, timed):
        assert metrics["calibration_slope"] == pytest.approx(model.coef_[0, 0], abs=0.005)
        assert metrics["calibration_intercept"] == pytest.approx(model.intercept_[0], abs=0.005)
        large = expit(logit(scores) + metrics["calibration_in_the_large"])
        assert large.sum() == pytest.approx(truth.sum(), abs=0.002 * len(truth))
        assert metrics["average_precision"] == pytest.approx(average_precision_score(truth, scores), abs=0.005)
        assert metrics["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, scores >= 0.5))
        assert metrics["mcc"] == pytest.approx(matthews_corrcoef(truth, scores >= 0.5))
        at, benefit = (np.array(metrics[name]) for name in ("net_benefit_threshold", "net_benefit"))
        expected = [((truth - (1 - truth) * p / (1 - p)) * (scores >= p)).mean() for p in at]
        assert benefit == pytest.approx(expected)
        assert at == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5], abs=0.01)
    assert timed["brier"] == pytest.approx(brier_score_loss(truth, scores), abs=0.002)
    assert timed["expected_observed_ratio"] == pytest.approx(scores.sum() / truth.sum(), abs=0.005)


@pytest.mark.parametrize(
    ("scores", "truth"), [([0.2, 0.4], [0, 0]), ([0.2, 0.2], [0, 1]), ([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1]), ([], [])]
)
def test_one_class_equal_scores_and_separation_have_no_slope(scores, truth):
    metrics = ScoreHistogram.of(scores, truth).metrics(0.5)
    assert math.isnan(metrics["calibration_slope"])
    assert math.isnan(metrics["calibration_intercept"])


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_a_threshold_reaches_its_sensitivity_or_specificity_and_not_more_than_it_must(share):
    histogram = ScoreHistogram.of(*rows(np.random.default_rng(2), 2000, 1.0, 0.0))
    for name in ("sensitivity", "specificity"):
        cut = histogram.threshold(f"{name}={share}")
        assert getattr(histogram.confusion(cut), name) >= share
        edges = sorted(set(np.float32(expit(np.linspace(-8, 8, 1023))).astype(float)))
        beyond = edges[edges.index(cut) + (1 if name == "sensitivity" else -1)]
        assert getattr(histogram.confusion(beyond), name) < share
