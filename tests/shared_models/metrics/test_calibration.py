import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss

from shared_models.metrics.binary import ScoreHistogram
from shared_models.metrics.calibration import INNER_EDGES, Calibration
from shared_models.metrics.merged_cells import merge_histogram


def test_calibrated_risks_are_found_calibrated_and_doubled_ones_doubled():
    rng = np.random.default_rng(0)
    risk = rng.beta(1, 9, 20000)
    label = (rng.random(20000) < risk).astype(float)
    calibrated, doubled = Calibration.of(risk, label), Calibration.of(np.minimum(2 * risk, 1), label)
    assert calibrated.expected_observed_ratio() == pytest.approx(1, abs=0.05)
    assert calibrated.expected_calibration_error() < 0.01
    assert doubled.expected_observed_ratio() == pytest.approx(2, abs=0.15)
    assert doubled.expected_calibration_error() == pytest.approx(0.1, abs=0.01)
    assert calibrated.brier() == pytest.approx(brier_score_loss(label, risk))


def test_error_equals_the_mean_over_bins():
    risk, label = np.array([0.12, 0.18, 0.85, 0.85, 0.4]), np.array([0, 1, 1, 1, math.nan])
    assert Calibration.of(risk, label).expected_calibration_error() == pytest.approx((2 * 0.35 + 2 * 0.15) / 4)


def test_curve_holds_the_means_of_bins_and_nan_where_empty():
    predicted, observed = Calibration.of([0.12, 0.18], [0, 1]).curve()
    where = INNER_EDGES.index(0.1) + 1
    assert (predicted[where], observed[where]) == pytest.approx((0.15, 0.5))
    assert np.isnan(predicted).sum() == len(INNER_EDGES)


def test_nobody_has_no_calibration():
    nobody = Calibration.of([], [])
    values = (nobody.expected_observed_ratio(), nobody.expected_calibration_error(), nobody.brier())
    assert all(math.isnan(value) for value in values)


@given(st.integers(0, 10**6), st.integers(0, 300), st.floats(0.01, 0.6), st.sampled_from([5, 10, 25]))
def test_what_one_site_sends_has_no_bin_of_few_outcomes_or_few_others_and_exact_totals(seed, patients, share, least):
    rng = np.random.default_rng(seed)
    labels = (rng.uniform(size=patients) < share).astype(float)
    scores = rng.beta(1, 3, patients)
    sent = merge_histogram(ScoreHistogram.of(scores, labels), least).calibration()
    for cells in (sent.observed, sent.counts - sent.observed):
        assert ((cells == 0) | (cells >= least)).all()
    few = any(0 < count < least for count in (labels.sum(), patients - labels.sum()))
    assert sent.n in (0, patients)
    assert not (few and sent.n)
    assert sent.n == 0 or sent.observed.sum() == labels.sum()


def test_of_merged_cells_calibration_is_near_that_of_the_scores_or_not_told():
    rng = np.random.default_rng(0)
    scores = rng.beta(1, 2, 400)
    labels = (rng.uniform(size=400) < scores).astype(float)
    assert merge_histogram(ScoreHistogram.of(scores[:60], labels[:60]), 10).calibration().n == 0
    exact, sent = Calibration.of(scores, labels), merge_histogram(ScoreHistogram.of(scores, labels), 10).calibration()
    assert sent.brier() == pytest.approx(exact.brier(), abs=0.01)
    assert sent.expected_observed_ratio() == pytest.approx(exact.expected_observed_ratio(), abs=0.05)
