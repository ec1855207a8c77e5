"""Paired comparisons from additive counts, against the tests on the rows themselves."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.metrics import roc_auc_score

from shared_models.metrics.concordance import concordance
from shared_models.metrics.delong import delong_test
from shared_models.metrics.paired import PairedPairs, holm, mcnemar
from shared_models.targets import Binary, Categorical, Regression, Target, TimeToEvent

LEAST = 10


def scored(target: Target, patients: int, seed: int, decimals: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two networks' scores of some patients, the first better, and their outcomes."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=patients)
    first, second = (np.round(1 / (1 + np.exp(-x - rng.normal(0, s, patients))), decimals) for s in (0.5, 2.0))
    if isinstance(target, Categorical):
        truth = np.digitize(x, [-0.5, 0.5]).astype(float)
        one, other = (np.stack([1 - p, p * (1 - p), p], axis=1) for p in (first, second))
        return one, other, truth
    if isinstance(target, TimeToEvent):
        event, leaving = rng.exponential(1500 * np.exp(-x)), rng.exponential(1500, patients)
        return first, second, np.stack([np.minimum(event, leaving), (event <= leaving).astype(float)], axis=1)
    if isinstance(target, Regression):
        return first, second, x
    return first, second, (rng.uniform(size=patients) < 1 / (1 + np.exp(-x))).astype(float)


@given(st.integers(0, 10**6), st.integers(4, 120), st.sampled_from([1, 2, 12]))
def test_one_sites_counts_give_delongs_test_of_the_rows(seed, patients, decimals):
    first, second, truth = scored(Binary(), patients, seed, decimals)
    truth[:4] = [0, 0, 1, 1]
    rows = delong_test(first, second, truth)
    ((difference, p_value),) = PairedPairs.of(Binary(), first, [[second]], truth).differences()
    assert difference.value == pytest.approx(rows.difference.value, abs=1e-12)
    if not math.isnan(rows.difference.low) and rows.difference.low > -1 and rows.difference.high < 1:
        assert (difference.low, difference.high) == pytest.approx((rows.difference.low, rows.difference.high), abs=1e-9)
        assert p_value == pytest.approx(rows.p_value, abs=1e-9)


def test_each_kind_of_target_loses_what_its_measure_on_the_rows_loses() -> None:
    for target, measure in (
        (TimeToEvent(), lambda score, truth: concordance(score, *truth.T)),
        (Regression(), lambda score, truth: concordance(-score, truth + 9, np.ones(len(truth)))),
    ):
        first, second, truth = scored(target, 80, 3)
        ((difference, _),) = PairedPairs.of(target, first, [[second]], truth).differences()
        assert difference.value == pytest.approx(measure(first, truth) - measure(second, truth))
    first, second, truth = scored(Categorical(("a", "b", "c")), 80, 3)
    ((difference, _),) = PairedPairs.of(Categorical(("a", "b", "c")), first, [[second]], truth).differences()
    weights = [(truth == k).sum() * (truth != k).sum() for k in range(3)]
    by_class = [roc_auc_score(truth == k, first[:, k]) - roc_auc_score(truth == k, second[:, k]) for k in range(3)]
    assert difference.value == pytest.approx(np.average(by_class, weights=weights))


@pytest.mark.parametrize("target", [Binary(), TimeToEvent(), Regression()], ids=lambda kind: type(kind).__name__)
def test_an_interval_covers_the_difference_as_often_as_it_says(target: Target) -> None:
    first, second, truth = scored(target, 4000, 1)
    ((true, _),) = PairedPairs.of(target, first, [[second]], truth).differences()
    rng, covered = np.random.default_rng(2), 0
    for _ in range(200):
        sites = []
        for size in (60, 40):
            some = rng.integers(0, 4000, size)
            sites.append(PairedPairs.of(target, first[some], [[second[some]]], truth[some]))
        ((difference, _),) = (sites[0] + sites[1]).differences()
        covered += difference.low <= true.value <= difference.high
    assert 0.90 <= covered / 200 <= 0.99


@given(st.integers(0, 10**6), st.integers(0, 60), st.sampled_from([Binary(), TimeToEvent(), Regression()]))
def test_what_one_site_sends_by_itself_moves_by_whole_steps_of_its_patients(seed, patients, target):
    first, second, truth = scored(target, patients, seed)
    exact = PairedPairs.of(target, first, [[second], [first]], truth)
    sent = exact.without_small_cells(LEAST)
    sendable = exact.cases[0] >= LEAST and not 0 < exact.others[0] < LEAST and exact.comparable[0] >= patients
    assert (sent.comparable[0] > 0) == sendable
    if sendable:
        assert sent.gained / patients == pytest.approx(np.rint(sent.gained / patients))
        assert sent.variance.min() >= patients**2 * 0.25
        assert sent.gained / sent.comparable == pytest.approx(
            exact.gained / exact.comparable, abs=1 / (sent.comparable[0] / patients)
        )


def test_two_that_place_all_patients_alike_do_not_differ() -> None:
    first, _, truth = scored(Binary(), 30, 0)
    ((difference, p_value),) = PairedPairs.of(Binary(), first, [[first**3]], truth).differences()
    assert (difference.value, p_value) == (0.0, 1.0)
    assert math.isnan(difference.low)
    ((none, p_value),) = PairedPairs.of(Binary(), first, [[first]], np.ones(30)).differences()
    assert math.isnan(none.value)
    assert math.isnan(p_value)


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemars_p_value_is_twice_the_binomial_tail(first, second):
    expected = min(1.0, 2 * binom.cdf(min(first, second), first + second, 0.5))
    assert mcnemar(first, second) == pytest.approx(expected)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holms_p_values_are_those_of_the_closed_test_that_it_is_a_shortcut_of(p_values):
    count = len(p_values)
    sets = [some for size in range(1, count + 1) for some in itertools.combinations(range(count), size)]
    bonferroni = {some: min(1.0, len(some) * min(p_values[one] for one in some)) for some in sets}
    closed = [max(p for some, p in bonferroni.items() if one in some) for one in range(count)]
    assert holm(p_values) == pytest.approx(closed)
