import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from shared_models.metrics.regression import RegressionSums


@given(st.integers(3, 50), st.integers(0, 2**32 - 1), st.sampled_from([0.0, -40.0, 1000.0]))
def test_metrics_equal_those_of_scikit_learn_and_numpy(n, seed, offset):
    rng = np.random.default_rng(seed)
    y = rng.normal(offset, 10, n)
    p = y + rng.normal(1, 5, n)
    sums = RegressionSums.of(p, y)
    assert sums.mae == pytest.approx(metrics.mean_absolute_error(y, p))
    assert sums.rmse == pytest.approx(metrics.root_mean_squared_error(y, p))
    assert sums.r2 == pytest.approx(metrics.r2_score(y, p), rel=1e-6, abs=1e-6)
    assert sums.pearson == pytest.approx(np.corrcoef(y, p)[0, 1], rel=1e-6, abs=1e-6)


def test_unknown_targets_are_left_out():
    assert RegressionSums.of([1.0, 5.0], [2.0, math.nan]) == RegressionSums.of([1.0], [2.0])


def test_what_one_site_sends_tells_nobodys_number_and_the_errors_still():
    """A network that predicts something for one patient only would have her number as the sum of products."""
    rng = np.random.default_rng(0)
    y, off = rng.normal(30, 10, 60), []
    for patient, size in itertools.product(range(60), (1.0, 30.0, 1e5)):
        alone = np.zeros(60)
        alone[patient] = size
        exact = RegressionSums.of(alone, y)
        assert exact.product / exact.prediction == pytest.approx(y[patient])
        sent = exact.without_small_cells(10)
        off.append(abs(sent.product / (sent.prediction or 1.0) - y[patient]))
    assert np.mean(np.array(off) > 1) > 0.85  # whoever guesses is as near once in ten times
    p = rng.normal(y, 5)
    exact, sent = RegressionSums.of(p, y), RegressionSums.of(p, y).without_small_cells(10)
    assert (sent.mae, sent.rmse) == pytest.approx((exact.mae, exact.rmse), rel=0.15)
    assert sent.r2 == pytest.approx(exact.r2, abs=0.1)
    assert RegressionSums.of(p[:9], y[:9]).without_small_cells(10).n == 0


@pytest.mark.parametrize("patients", [60, 1000, 20_000])
def test_of_many_patients_neither_products_nor_squares_tell_a_number(patients):
    """Of many the typical error is small beside hers, so that steps of a few such errors would be fine enough."""
    rng = np.random.default_rng(1)
    y = rng.normal(30, 10, patients)
    product_off, square_off = [], []
    for patient, size in itertools.product(range(40), (30.0, 10 * math.sqrt(patients), 1e5)):
        sent = RegressionSums.of(np.where(np.arange(patients) == patient, size, 0.0), y).without_small_cells(10)
        product_off.append(abs(sent.product / size - y[patient]))
        square_off.append(abs((size**2 + sent.target_squared - sent.squared_error) / (2 * size) - y[patient]))
    for off in (product_off, square_off):
        assert np.mean(np.array(off) > 1) > 0.75  # of numbers that vary by 10


@given(st.integers(10, 300), st.integers(0, 2**32 - 1), st.sampled_from([0.1, 1.0, 1e4]))
def test_what_one_site_sends_does_not_contradict_itself(n, seed, scale):
    rng = np.random.default_rng(seed)
    sent = RegressionSums.of(rng.normal(1, scale, n), rng.exponential(10, n)).without_small_cells(10)
    assert sent.mae <= sent.rmse * (1 + 1e-9)
    assert sent.rmse > 0
    assert sent.r2 <= 1


def test_what_does_not_vary_has_no_correlation():
    same = RegressionSums.of([0.1, 0.2, 0.3], [0.1, 0.1, 0.1])
    assert math.isnan(same.r2)
    assert math.isnan(same.pearson)
    assert math.isnan(RegressionSums.of([0.3, 0.3], [0.1, 0.2]).pearson)
    nobody = RegressionSums.of([], [])
    assert all(math.isnan(value) for value in (nobody.mae, nobody.rmse, nobody.r2, nobody.pearson))


def test_sums_that_contradict_each_other_give_no_correlation_beyond_one():
    liar = RegressionSums(2, 1, 1, 0, 1, 0, 1, 100)
    assert liar.pearson == 1
    assert math.isnan(RegressionSums(2, 1, 1, 100, 1, 0, 1, 0).r2)


@pytest.mark.parametrize(
    ("predictions", "targets", "reason"),
    [
        ([math.nan], [1], "predictions"),
        ([1.0], [math.inf], "targets"),
        ([1.0, 2.0], [1.0], "targets of shape"),
    ],
)
def test_rows_that_make_no_sense_are_refused(predictions, targets, reason):
    with pytest.raises(ValueError, match=reason):
        RegressionSums.of(predictions, targets)
