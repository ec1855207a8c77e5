import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from shared_models.metrics.binary import ScoreHistogram, auc, auc_interval, delong_test, pooled_auc_interval
from shared_models.metrics.delong import auc_and_variance, larger_variance


def kernel(scores, labels):
    """P x N matrix of 1, 1/2, 0: the definition that the midranks must reproduce."""
    positives, negatives = scores[labels == 1], scores[labels == 0]
    return (positives[:, None] > negatives) + 0.5 * (positives[:, None] == negatives)


def draw(rng, m, n, shift, decimals=12):
    scores = np.round(np.concatenate([rng.normal(shift, 1, m), rng.normal(0, 1, n)]), decimals)
    return scores, np.repeat([1.0, 0.0], [m, n])


@given(st.integers(1, 30), st.integers(1, 30), st.sampled_from([0, 1, 12]), st.integers(0, 2**32 - 1))
def test_auc_equals_scikit_learn(m, n, decimals, seed):
    scores, labels = draw(np.random.default_rng(seed), m, n, 0.7, decimals)
    assert auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))


@given(st.integers(2, 30), st.integers(2, 30), st.sampled_from([0, 1, 12]), st.integers(0, 2**32 - 1))
def test_interval_follows_from_the_definition_of_delongs_variance(m, n, decimals, seed):
    scores, labels = draw(np.random.default_rng(seed), m, n, 0.7, decimals)
    wins = kernel(scores, labels)
    value, variance = wins.mean(), wins.mean(1).var(ddof=1) / m + wins.mean(0).var(ddof=1) / n
    interval = auc_interval(scores, labels)
    assert 0 <= interval.low < interval.high <= 1
    assert interval.low <= interval.value <= interval.high
    if variance > 1e-9 and 0 < value < 1:
        assert auc_and_variance(scores, labels) == pytest.approx((value, variance))
        half = 1.959963984540054 * math.sqrt(larger_variance(value, variance, m, n)) / (value * (1 - value))
        centre = stats.logistic.ppf(value)
        assert interval.low == pytest.approx(stats.logistic.cdf(centre - half))
        assert interval.high == pytest.approx(stats.logistic.cdf(centre + half))


def test_variance_of_a_case_worked_by_hand():
    # Positives 3 4 and negatives 1 2 3: placements 5/6 and 1; 1, 1, 3/4. AUC 11/12, variance 1/144 + 1/144.
    assert auc_and_variance([3, 4, 1, 2, 3], [1, 1, 0, 0, 0])[1] == pytest.approx(1 / 72)
    interval = auc_interval([3, 4, 1, 2, 3], [1, 1, 0, 0, 0])
    # Hanley and McNeil's is larger: (11/144 + 11/13 - 121/144 + 2 (121/276 - 121/144) + 2 (121/144 - 121/144)) / 6
    first, second = 11 / 13 - 121 / 144, 2 * 121 / 144 / (23 / 12) - 121 / 144
    half = 1.959963984540054 * math.sqrt((11 / 144 + first + 2 * second) / 6) / (11 / 144)
    assert interval.value == pytest.approx(11 / 12)
    assert interval.low == pytest.approx(1 / (1 + math.exp(half) / 11))


def test_perfect_separation_has_the_exact_lower_bound_not_zero_width():
    scores, labels = np.arange(30.0), np.repeat([0, 1], [20, 10])
    interval = auc_interval(scores, labels)
    assert (interval.value, interval.high) == (1, 1)
    assert interval.low == pytest.approx(0.025 ** (1 / 10))
    mirrored = auc_interval(-scores, labels)
    assert (mirrored.value, mirrored.low) == (0, 0)
    assert mirrored.high == pytest.approx(1 - interval.low)


def test_equal_scores_say_little():
    interval = auc_interval(np.full(40, 0.3), np.repeat([0, 1], 20))
    assert interval.value == 0.5
    assert interval.low < 0.3
    assert interval.high > 0.7


@pytest.mark.parametrize("labels", [[1, 0, 0], [1, 1, 0], [0, 0, 0]])
def test_a_class_of_fewer_than_two_has_no_bounds(labels):
    interval = auc_interval([0.3, 0.2, 0.4], labels)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)
    assert math.isnan(delong_test([0.3, 0.2, 0.4], [0.1, 0.2, 0.3], labels).p_value)


def test_a_wider_level_gives_a_wider_interval_and_nonsense_is_refused():
    data = draw(np.random.default_rng(1), 20, 40, 1)
    assert auc_interval(*data, level=0.99).low < auc_interval(*data, level=0.9).low
    with pytest.raises(ValueError, match="level"):
        auc_interval(*data, level=95)


def test_paired_test_follows_from_the_definition():
    rng = np.random.default_rng(2)
    a, labels = draw(rng, 30, 50, 1)
    b = a + rng.normal(0, 1, 80)
    wins = kernel(a, labels) - kernel(b, labels)
    variance = wins.mean(1).var(ddof=1) / 30 + wins.mean(0).var(ddof=1) / 50
    result = delong_test(a, b, labels)
    assert result.difference.value == pytest.approx(wins.mean())
    assert result.p_value == pytest.approx(2 * stats.norm.sf(abs(wins.mean()) / math.sqrt(variance)))
    swapped = delong_test(b, a, labels)
    assert swapped.difference.low == pytest.approx(-result.difference.high)
    assert swapped.p_value == pytest.approx(result.p_value)


def test_models_that_rank_alike_do_not_differ():
    scores, labels = draw(np.random.default_rng(3), 10, 10, 1)
    assert delong_test(scores, np.exp(scores), labels).p_value == 1
    opposite = delong_test([1, 2, 3, 4], [4, 3, 2, 1], [0, 0, 1, 1])
    assert opposite.difference.value == 1
    assert math.isnan(opposite.p_value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("m", "n", "shift", "least"), [(40, 120, 1.0, 0.93), (10, 90, 1.5, 0.90), (5, 15, 1.812, 0.84)]
)
def test_intervals_cover_the_true_auc(m, n, shift, least):
    rng = np.random.default_rng(4)
    truth = stats.norm.cdf(shift / math.sqrt(2))
    exact = pooled = 0
    for _ in range(2000):
        scores, labels = draw(rng, m, n, shift)
        interval = auc_interval(scores, labels)
        exact += interval.low <= truth <= interval.high
        histogram = ScoreHistogram.of(1 / (1 + np.exp(-scores)), labels)
        interval = pooled_auc_interval(histogram)
        pooled += interval.low <= truth <= interval.high
    assert exact / 2000 >= least
    assert pooled >= exact


@pytest.mark.slow
def test_paired_test_holds_its_size():
    rng = np.random.default_rng(5)
    rejected = 0
    for _ in range(2000):
        shared, labels = draw(rng, 40, 80, 1)
        a, b = (shared + rng.normal(0, 0.7, 120) for _ in range(2))
        rejected += delong_test(a, b, labels).p_value < 0.05
    assert 0.03 <= rejected / 2000 <= 0.075
