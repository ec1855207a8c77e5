"""Pairs of patients of the same site: counts, intervals, and what one site may send of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lifelines.utils import concordance_index
from sklearn.metrics import roc_auc_score

from shared_models.metrics.arrays import from_arrays, to_arrays, total
from shared_models.metrics.binary import ScoreHistogram
from shared_models.metrics.concordance import pairs_of_patients
from shared_models.metrics.delong import auc_and_variance
from shared_models.metrics.summary import (
    Summary,
    empty_summary,
    merge_small_cells,
    pack_summary,
    pooled_metrics,
    summarise,
    target_score,
    total_summary,
    unpack_summary,
)
from shared_models.metrics.within_site import WithinSiteAuc, WithinSiteConcordance, WithinSitePairs
from shared_models.targets import Binary, Target, TimeToEvent

LEAST = 10
KINDS: list[Target] = [Binary(), TimeToEvent()]


def name_of(target: Target) -> str:
    return type(target).__name__


def site(
    rng: np.random.Generator, target: Target, patients: int, signal: float = 1.0, decimals: int = 12
) -> tuple[np.ndarray, np.ndarray]:
    """Scores and truths of one site's patients."""
    x = rng.normal(0, 1, patients)
    scores = np.round(1 / (1 + np.exp(-x)), decimals)
    if isinstance(target, Binary):
        return scores, (rng.uniform(size=patients) < 1 / (1 + np.exp(1 - signal * x))).astype(float)
    event, leaving = rng.exponential(1500 * np.exp(-signal * x)), rng.exponential(1500, patients)
    days = np.ceil(np.minimum(event, leaving) / (1 if decimals > 2 else 400)) * (1 if decimals > 2 else 400)
    return scores, np.stack([days, (event <= leaving).astype(float)], axis=1)


def direct_pairs(scores: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Concordant and comparable pairs (N, N) of a first and a second patient, by their definition."""
    if truth.ndim == 1:
        comparable = (truth[:, None] == 1) & (truth == 0)
    else:
        days, event = truth.T
        outlives = (days > days[:, None]) | ((days == days[:, None]) & (event == 0))
        comparable = (event[:, None] == 1) & outlives
    return comparable * ((scores[:, None] > scores) + 0.5 * (scores[:, None] == scores)), comparable.astype(float)


def count(target: Target, scores: np.ndarray, truth: np.ndarray) -> WithinSitePairs:
    return pairs_of(summarise(target, scores, truth))


def pairs_of(summary: Summary) -> WithinSitePairs:
    pairs = summary["within_site"]
    assert isinstance(pairs, WithinSitePairs)
    return pairs


@pytest.mark.parametrize("target", KINDS, ids=name_of)
@given(seed=st.integers(0, 2**32 - 1), patients=st.integers(0, 60), decimals=st.sampled_from([1, 2, 12]))
def test_pairs_and_variance_equal_a_direct_count_over_rows(
    target: Target, seed: int, patients: int, decimals: int
) -> None:
    scores, truth = site(np.random.default_rng(seed), target, patients, decimals=decimals)
    concordant, comparable = direct_pairs(scores, truth)
    counted = count(target, scores, truth)
    assert counted.concordant == pytest.approx(concordant.sum())
    assert counted.comparable == comparable.sum()
    cases = truth[..., -1] if truth.ndim > 1 else truth
    assert (counted.cases, counted.others) == (cases.sum(), patients - cases.sum())
    if cases.sum() < 2 or (truth.ndim == 1 and patients - cases.sum() < 2) or not comparable.any():
        return
    share = concordant.sum() / comparable.sum()
    influence = (concordant - share * comparable).sum(axis=0) + (concordant - share * comparable).sum(axis=1)
    groups = [cases == 1, cases == 0] if truth.ndim == 1 else [np.full(patients, True)]
    expected = sum(float((influence[one] ** 2).sum()) * one.sum() / (one.sum() - 1) for one in groups)
    assert counted.variance == pytest.approx(expected, abs=1e-6)


@given(seed=st.integers(0, 2**32 - 1), patients=st.integers(0, 80), decimals=st.sampled_from([1, 12]))
def test_the_pairs_of_each_patient_are_those_of_their_row_and_column(seed: int, patients: int, decimals: int) -> None:
    scores, truth = site(np.random.default_rng(seed), TimeToEvent(), patients, decimals=decimals)
    pairs = pairs_of_patients(scores, truth[:, 0], truth[:, 1] == 1)
    for ours, matrix in zip(pairs, direct_pairs(scores, truth), strict=True):
        np.testing.assert_array_equal(ours, matrix.sum(axis=0) + matrix.sum(axis=1))


def test_one_site_alone_has_the_auc_of_scikit_learn_with_delongs_interval_and_the_c_index_of_lifelines() -> None:
    rng = np.random.default_rng(3)
    scores, truth = site(rng, Binary(), 90)
    binary = count(Binary(), scores, truth)
    assert binary.share() == pytest.approx(roc_auc_score(truth, scores))
    assert binary.variance / binary.comparable**2 == pytest.approx(auc_and_variance(scores, truth)[1])
    scores, truth = site(rng, TimeToEvent(), 90)
    assert count(TimeToEvent(), scores, truth).share() == pytest.approx(
        concordance_index(truth[:, 0], -scores, truth[:, 1])
    )


@pytest.mark.parametrize("target", KINDS, ids=name_of)
def test_the_sum_over_sites_that_travelled_is_the_stratified_value(target: Target) -> None:
    rng = np.random.default_rng(1)
    rows = [site(rng, target, patients) for patients in (40, 90, 25)]
    sent = [pack_summary(summarise(target, *one), "test.outcome") for one in rows]
    together = total_summary(unpack_summary(target, arrays, "test.outcome") for arrays in sent)
    concordant, comparable = np.array([[m.sum() for m in direct_pairs(*one)] for one in rows]).sum(axis=0)
    assert target_score(together) == pytest.approx(concordant / comparable)
    metrics = pooled_metrics(together, 0.5)
    name = "auc_within_sites" if isinstance(target, Binary) else "c_index_within_sites"
    value, low, high = (metrics[key] for key in (name, f"{name}_low", f"{name}_high"))
    assert isinstance(low, float)
    assert isinstance(high, float)
    assert low < concordant / comparable < high
    assert value == pytest.approx(concordant / comparable)
    variances = [count(target, *one).variance for one in rows]
    assert total(count(target, *one) for one in rows).variance == pytest.approx(sum(variances))


@pytest.mark.parametrize("merged", [False, True], ids=["exact", "outside secure aggregation"])
@pytest.mark.parametrize("target", KINDS, ids=name_of)
def test_intervals_cover_the_value_of_many_patients_where_sites_differ(target: Target, merged: bool) -> None:
    """Sites of other sizes and other discrimination: the true value weighs each by the pairs that it has."""
    rng = np.random.default_rng(7)
    plan = ((50, 0.6), (70, 1.2), (110, 1.0))
    shares = [count(target, *site(rng, target, 40_000, signal)).share() for _, signal in plan]
    covered = 0
    for _ in range(300):
        parts = [count(target, *site(rng, target, patients, signal)) for patients, signal in plan]
        if merged:
            parts = [part.without_small_cells(LEAST) for part in parts]
        weights = [part.comparable for part in parts]
        interval = total(parts).interval()
        covered += interval.low <= float(np.average(shares, weights=weights)) <= interval.high
    assert covered >= 0.92 * 300


def test_scores_that_only_know_the_site_have_a_pooled_auc_but_none_within_sites() -> None:
    rng = np.random.default_rng(5)
    rows = []
    for prevalence in (0.45, 0.10, 0.10):
        scores = np.clip(prevalence + rng.normal(0, 0.01, 200), 0, 1)
        rows.append((scores, (rng.uniform(size=200) < prevalence).astype(float)))
    together = total_summary(summarise(Binary(), *one) for one in rows)
    pooled = together["scores"]
    assert isinstance(pooled, ScoreHistogram)
    assert pooled.auc() > 0.6
    within = pairs_of(together)
    assert within.interval().low < 0.5 < within.interval().high < 0.6
    assert target_score(together) == within.share()


@pytest.mark.parametrize("target", KINDS, ids=name_of)
def test_the_first_statistic_judges_where_no_site_has_pairs(target: Target) -> None:
    """One site has the positives, or all the events, of both."""
    nothing = empty_summary(target)
    assert math.isnan(target_score(nothing))
    scores = np.array([0.9, 0.8, 0.3, 0.2])
    truth = np.array([1.0, 1, 0, 0])
    if isinstance(target, TimeToEvent):
        truth = np.stack([[50.0, 50, 900, 900], truth], axis=1)
    apart = [summarise(target, scores[part], truth[part]) for part in (slice(0, 2), slice(2, 4))]
    together = total_summary(apart)
    assert math.isnan(pairs_of(together).share())
    assert target_score(together) == 1.0


def test_a_perfect_order_and_a_single_case_have_intervals_of_some_width() -> None:
    perfect = WithinSiteAuc.of([0.9, 0.8, 0.7, 0.1, 0.2, 0.3], [1, 1, 1, 0, 0, 0]).interval()
    assert perfect.high == 1.0
    assert perfect.low == pytest.approx(0.025 ** (1 / 3))
    single = WithinSiteAuc.of([0.9, 0.95, 0.1, 0.2], [1, 0, 0, 0]).interval()
    assert single.low < 0.3
    assert single.high > 0.9


@pytest.mark.parametrize(
    ("cases", "others", "sent"), [(10, 10, True), (9, 40, False), (40, 9, False), (0, 40, False), (40, 0, False)]
)
def test_a_site_with_few_patients_of_one_outcome_sends_zero(cases: int, others: int, sent: bool) -> None:
    truth = np.repeat([1.0, 0.0], [cases, others])
    scores = np.random.default_rng(0).uniform(size=len(truth))
    binary = WithinSiteAuc.of(scores, truth).without_small_cells(LEAST)
    assert any(array.any() for array in to_arrays(binary, "x").values()) == sent
    days = np.arange(len(truth)) + 1.0
    timed = WithinSiteConcordance.of(scores, np.stack([days, truth], axis=1)).without_small_cells(LEAST)
    assert any(array.any() for array in to_arrays(timed, "x").values()) == (sent or (cases, others) == (40, 0))


@pytest.mark.parametrize(("cases", "others"), [(10, 10), (10, 47), (33, 12), (60, 61)])
@pytest.mark.parametrize("target", KINDS, ids=name_of)
def test_a_network_that_singles_out_one_patient_does_not_tell_their_outcome(
    target: Target, cases: int, others: int
) -> None:
    outcome = np.random.default_rng(0).permutation(np.repeat([1.0, 0.0], [cases, others]))
    truth = outcome
    if isinstance(target, TimeToEvent):
        truth = np.stack([np.random.default_rng(1).permutation(len(outcome)) + 1.0, outcome], axis=1)
    exact, sent = [], []
    for patient in range(len(outcome)):
        scores = np.full(len(outcome), 0.5)
        scores[patient] = 0.9
        pairs = count(target, scores, truth)
        exact.append((pairs.concordant, pairs.variance))
        sent.append(tuple(float(array) for array in to_arrays(pairs.without_small_cells(LEAST), "x").values()))
    assert len(set(exact)) > 1  # the counts themselves would tell
    assert len(set(sent)) == 1


@given(seed=st.integers(0, 2**32 - 1), patients=st.integers(40, 200), signal=st.floats(-3, 3))
def test_what_one_site_sends_is_close_to_its_counts_and_again_a_statistic(
    seed: int, patients: int, signal: float
) -> None:
    for target in KINDS:
        summary = summarise(target, *site(np.random.default_rng(seed), target, patients, signal))
        merged = merge_small_cells(target, summary, LEAST)
        received = pairs_of(unpack_summary(target, pack_summary(merged, "x"), "x", merged=True))
        exact = pairs_of(summary)
        if received.comparable:
            step = (exact.cases + exact.others) / received.comparable
            assert 0 <= received.share() <= 1
            assert abs(received.share() - exact.share()) <= 0.5 * step + 1e-9
            assert 0.5 * exact.comparable <= received.comparable <= exact.comparable
            for one, other in ((exact, received), (received, exact)):
                assert math.sqrt(one.variance) / one.comparable <= math.sqrt(other.variance) / other.comparable + step


def test_more_concordant_than_comparable_pairs_are_refused() -> None:
    arrays = to_arrays(WithinSiteAuc.of([0.9, 0.1], [1, 0]), "x")
    with pytest.raises(ValueError, match="cannot be concordant"):
        from_arrays(WithinSiteAuc, arrays | {"x.concordant": np.array(2.0)}, "x")


def test_unknown_truths_are_left_out() -> None:
    assert WithinSiteAuc.of([0.9, 0.1, 0.5], [1, 0, np.nan]) == WithinSiteAuc.of([0.9, 0.1], [1, 0])
    truth = np.array([[90, 1], [800, 0], [np.nan, 1]])
    assert WithinSiteConcordance.of([0.9, 0.5, 0.7], truth) == WithinSiteConcordance.of([0.9, 0.5], truth[:2])
