import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn import metrics

from shared_models.metrics.binary import ScoreHistogram, auc, auc_interval, pooled_auc_interval
from shared_models.metrics.confusion_counts import ConfusionCounts
from shared_models.metrics.scores import left_edges


@st.composite
def scored(draw, classes=True):
    """Scores near a rare outcome's rate or anywhere, some tied, with labels of both classes."""
    n = draw(st.integers(2, 80))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    centre, spread = draw(st.sampled_from([(-3.0, 0.5), (0.0, 2.0), (3.0, 6.0)]))
    scores = 1 / (1 + np.exp(-rng.normal(centre, spread, n)))
    scores = np.round(scores, draw(st.sampled_from([1, 2, 12])))
    labels = (rng.random(n) < scores).astype(float)
    if classes:
        assume(0 < labels.sum() < n)
    return scores, labels


@given(scored())
def test_the_auc_of_the_scores_lies_within_the_certificate(data):
    histogram = ScoreHistogram.of(*data)
    assert abs(histogram.auc() - auc(*data)) <= histogram.auc_bound() + 1e-12


@given(scored())
def test_curves_equal_those_of_scikit_learn_on_binned_scores(data):
    scores, labels = data
    edges = left_edges(1024)
    binned = edges[np.searchsorted(edges, scores, side="right") - 1]
    histogram = ScoreHistogram.of(scores, labels)
    assert histogram.auc() == pytest.approx(metrics.roc_auc_score(labels, binned))
    assert histogram.average_precision() == pytest.approx(metrics.average_precision_score(labels, binned))
    fpr, tpr = histogram.roc()
    assert metrics.auc(fpr, tpr) == pytest.approx(histogram.auc())


@given(scored(), st.sampled_from(["f1", "youden"]))
def test_at_the_chosen_threshold_each_site_counts_exactly_what_the_histogram_says(data, rule):
    histogram = ScoreHistogram.of(*data)
    threshold = histogram.threshold(rule)
    exact = ConfusionCounts.of(*data, threshold)
    assert exact == histogram.confusion(threshold)
    single = data[0].astype(np.float32)  # as a network returns them, against an edge that was sent as float32
    assert ConfusionCounts.of(single, data[1], float(np.float32(threshold))) == ScoreHistogram.of(
        single, data[1]
    ).confusion(threshold)


@given(scored())
def test_no_other_edge_does_better_than_the_chosen_threshold(data):
    histogram = ScoreHistogram.of(*data, bins=64)
    every = [histogram.confusion(edge) for edge in left_edges(64)]
    best = histogram.confusion(histogram.threshold("f1"))
    assert best.f1 == max(counts.f1 for counts in every if not math.isnan(counts.f1))
    best = histogram.confusion(histogram.threshold("youden"))
    highest = max(counts.sensitivity + counts.specificity for counts in every)
    assert best.sensitivity + best.specificity == pytest.approx(highest)


def test_a_tied_threshold_lies_midway_between_the_classes():
    histogram = ScoreHistogram.of([0.03, 0.97], [0, 1])
    assert histogram.threshold("youden") == histogram.threshold("f1") == 0.5


@given(scored(classes=False), st.sampled_from([0.1, 0.5, 0.9]))
def test_rates_equal_those_of_scikit_learn(data, threshold):
    scores, labels = data
    counts, predicted = ConfusionCounts.of(scores, labels, threshold), scores >= threshold
    undefined = {"zero_division": np.nan}
    assert counts.sensitivity == pytest.approx(metrics.recall_score(labels, predicted, **undefined), nan_ok=True)
    assert counts.precision == pytest.approx(metrics.precision_score(labels, predicted, **undefined), nan_ok=True)
    assert counts.f1 == pytest.approx(metrics.f1_score(labels, predicted, **undefined), nan_ok=True)
    assert counts.accuracy == pytest.approx(metrics.accuracy_score(labels, predicted))
    if not math.isnan(counts.mcc):
        assert counts.mcc == pytest.approx(metrics.matthews_corrcoef(labels, predicted))


def test_rates_of_no_patients_are_nan():
    nobody = ConfusionCounts.of([], [], 0.5)
    for rate in ("sensitivity", "specificity", "precision", "f1", "accuracy", "mcc"):
        assert math.isnan(getattr(nobody, rate))


@pytest.mark.parametrize("labels", [[], [1.0, 1.0], [0.0, 0.0], [math.nan, math.nan]])
def test_without_both_classes_there_is_no_auc_and_no_threshold(labels):
    scores = [0.2, 0.7][: len(labels)]
    histogram = ScoreHistogram.of(scores, labels)
    values = [histogram.auc(), histogram.auc_bound(), histogram.threshold("f1"), auc(scores, labels)]
    assert all(math.isnan(value) for value in values)
    assert math.isnan(pooled_auc_interval(histogram).low)
    with pytest.raises(ValueError, match="nan threshold"):
        ConfusionCounts.of(scores, labels, histogram.threshold("youden"))
    assert np.isnan(histogram.roc()[0 if 0 not in labels else 1]).all()


def test_an_unknown_label_leaves_the_patient_out():
    assert ScoreHistogram.of([0.2, 0.9, 0.4], [0, 1, math.nan]).n == 2
    assert ConfusionCounts.of([0.2, 0.9, 0.4], [0, 1, math.nan], 0.3).n == 2


@pytest.mark.parametrize(
    ("scores", "labels", "reason"),
    [
        ([0.1, math.nan], [0, 1], "1 of 2 values that are not finite"),
        ([0.1, 1.5], [0, 1], r"must lie in \[0, 1\]"),
        ([0.1, 0.5], [0, 2], "labels must be 0, 1, or nan"),
        ([0.1, 0.5], [0], "labels of shape"),
        ([[0.1, 0.5]], [[0, 1]], "one axis"),
    ],
)
def test_scores_and_labels_that_are_none_are_refused(scores, labels, reason):
    with pytest.raises(ValueError, match=reason):
        ScoreHistogram.of(scores, labels)


def test_a_threshold_between_edges_is_refused():
    histogram = ScoreHistogram.of([0.2, 0.7], [0, 1])
    assert histogram.confusion(0.5).accuracy == 1
    with pytest.raises(ValueError, match="not an edge of the 1024 bins"):
        histogram.confusion(0.51)


def test_edges_are_sorted_exact_in_float32_and_fine_where_outcomes_are_rare():
    edges = left_edges(256)
    assert (np.diff(edges) > 0).all()
    np.testing.assert_array_equal(edges, edges.astype(np.float32))
    assert np.count_nonzero((edges > 0.02) & (edges < 0.1)) > 25  # uniform bins would have 20
    with pytest.raises(ValueError, match="at least 4 bins"):
        left_edges(3)


@given(scored())
def test_the_pooled_interval_contains_that_of_the_binned_scores(data):
    edges = left_edges(1024)
    binned = edges[np.searchsorted(edges, data[0], side="right") - 1]
    exact, histogram = auc_interval(binned, data[1]), ScoreHistogram.of(*data)
    pooled = pooled_auc_interval(histogram)
    assert pooled.value == pytest.approx(exact.value)
    if not math.isnan(exact.low):
        assert pooled.low == pytest.approx(max(exact.low - histogram.auc_bound(), 0), abs=1e-9)
        assert pooled.high == pytest.approx(min(exact.high + histogram.auc_bound(), 1), abs=1e-9)
        assert pooled.low < pooled.high
