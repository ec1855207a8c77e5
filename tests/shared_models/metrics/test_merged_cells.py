"""Cells of several patients, and that their certificate holds whatever the scores."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_models.metrics.arrays import from_arrays, to_arrays, total
from shared_models.metrics.binary import ScoreHistogram, auc, pooled_auc_interval
from shared_models.metrics.concordance import concordance
from shared_models.metrics.merged_cells import (
    MergedConcordance,
    MergedHistogram,
    group_small_classes,
    merge_concordance,
    merge_histogram,
    merged_cells,
)
from shared_models.metrics.summary import (
    empty_summary,
    merge_small_cells,
    pack_summary,
    pooled_metrics,
    summarise,
    total_summary,
)
from shared_models.metrics.survival import ConcordanceTable
from shared_models.targets import Binary, Categorical, Regression, TimeToEvent

EDGES = (365.0, 730.0, 1461.0, 2922.0)
LEAST = 10


@given(st.lists(st.integers(0, 15), min_size=4, max_size=64), st.integers(1, 12))
def test_cells_hold_all_patients_and_enough_of_them_and_do_not_overlap(counts, least):
    counts = np.array(counts, dtype=float)
    cells = merged_cells(counts, least)
    if counts.sum() < least:
        assert cells == []
        return
    assert sum(cell.patients for cell in cells) == counts.sum()
    assert all(cell.patients == counts[cell.low : cell.high + 1].sum() >= least for cell in cells)
    assert all(cell.low <= cell.middle <= cell.high for cell in cells)
    assert all(one.high < other.low for one, other in pairwise(cells))


def test_edges_of_cells_are_halves_of_the_bins_and_no_patients_own_bin():
    """The tenth and the eleventh patient may lie anywhere in their halves: what leaves is the same."""
    for tenth in range(5, 8):
        for others in range(8, 16):
            counts = np.zeros(16)
            counts[4] += 9
            counts[tenth] += 1
            counts[others] += 5
            assert merged_cells(counts, 10)[0][:2] == (0, 15)


def test_where_nobody_has_a_score_looks_like_where_a_few_have_one():
    for few in range(10):
        cells = merged_cells(np.array([0.0, 40, 0, 0, 0, 0, few, 0]), 10)
        assert [cell[:3] for cell in cells] == [(0, 7, 1)]


@pytest.mark.parametrize(
    "target", [Binary(), TimeToEvent(EDGES), Categorical(("a", "b", "c"))], ids=lambda t: type(t).__name__
)
@pytest.mark.parametrize("score", [0.01, 0.3, 0.32, 0.999])
def test_a_patient_whom_a_network_singles_out_is_told_nothing_of(target, score):
    """All others have one score, as a hostile center's network gives them: her own score and outcome leave no trace."""
    sent = []
    for hers in (0, 1):  # the other outcome, which another patient has instead
        truth = np.repeat([0.0, 1.0], 30)
        truth[[0, 30]] = hers, 1 - hers
        if isinstance(target, TimeToEvent):
            truth = np.stack([np.where(truth == 1, 300.0, 2500.0), truth], axis=1)
        for one in (0.3, score):
            scores = np.full(60, 0.3)
            scores[0] = one
            if isinstance(target, Categorical):
                scores = np.stack([scores, (1 - scores) * 0.6, (1 - scores) * 0.4], axis=1)
            sent.append(pack_summary(merge_small_cells(target, summarise(target, scores, truth), LEAST), "x"))
    assert sum(array.sum() for array in sent[0].values()) > 60
    for other in sent[1:]:
        assert all(np.array_equal(array, other[name]) for name, array in sent[0].items())


def site_scores(seed, patients, signal):
    rng = np.random.default_rng(seed)
    truth = (rng.uniform(size=patients) < rng.uniform(0.05, 0.7)).astype(float)
    logits = rng.normal(rng.uniform(-3, 1), rng.uniform(0.05, 2), patients) + signal * truth
    return 1 / (1 + np.exp(-logits)), truth


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(20, 300)), min_size=1, max_size=4), st.floats(-1, 3))
def test_the_auc_of_the_rows_lies_within_the_certificate_of_the_merged_bins(sites, signal):
    rows = [site_scores(seed, patients, signal) for seed, patients in sites]
    merged = [merge_histogram(ScoreHistogram.of(*site), LEAST) for site in rows]
    sent = [(site, histogram) for site, histogram in zip(rows, merged, strict=True) if histogram.n]
    if not sent:
        return
    pooled = total([histogram for _, histogram in sent])
    scores, truth = (np.concatenate(parts) for parts in zip(*(site for site, _ in sent), strict=True))
    assert (pooled.n, pooled.n_positive) == (len(scores), truth.sum())
    for histogram in merged:
        cells = np.concatenate([array.ravel() for array in to_arrays(histogram, "x").values()])
        assert cells[cells > 0].min(initial=np.inf) >= LEAST
    exact = auc(scores, truth)
    if not math.isnan(exact):
        assert abs(exact - pooled.auc()) <= pooled.auc_bound() + 1e-12
        interval, bound = pooled_auc_interval(pooled), pooled.auc_bound()
        assert max(pooled.auc() - bound, 0) >= interval.low
        assert min(pooled.auc() + bound, 1) <= interval.high


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(20, 300)), min_size=1, max_size=3), st.floats(-1, 3))
def test_the_c_index_of_the_rows_lies_within_the_certificate_of_the_merged_table(sites, signal):
    rows, merged = [], []
    for seed, patients in sites:
        rng = np.random.default_rng(seed)
        risk = 1 / (1 + np.exp(-rng.normal(rng.uniform(-2, 1), rng.uniform(0.1, 2), patients)))
        days = rng.exponential(3000 * np.exp(-signal * risk)) + 1
        censoring = rng.uniform(1, 4000, patients)
        rows.append((risk, np.minimum(days, censoring), (days < censoring).astype(float)))
        merged.append(merge_concordance(ConcordanceTable.of(*rows[-1], bins=128), EDGES, LEAST))
    sent = [(site, table) for site, table in zip(rows, merged, strict=True) if table.n]
    if not sent:
        return
    pooled = total([table for _, table in sent])
    risk, days, event = (np.concatenate(parts) for parts in zip(*(site for site, _ in sent), strict=True))
    assert (pooled.n, pooled.n_events) == (len(risk), event.sum())
    for table in merged:
        cells = np.concatenate([array.ravel() for array in to_arrays(table, "x").values()])
        assert cells[cells > 0].min(initial=np.inf) >= LEAST
    low, high = pooled.limits()
    exact = concordance(risk, days, event)
    if not math.isnan(low):
        assert low - 1e-12 <= exact <= high + 1e-12
        assert low <= pooled.concordance() <= high


@pytest.mark.parametrize(
    ("target", "metric", "statistic"),
    [(TimeToEvent(), "c_index", "concordance"), (TimeToEvent(), "auc", "horizon"), (Binary(), "auc", "scores")],
)
def test_what_cells_lean_is_righted_by_the_pairs_of_the_same_site(target, metric, statistic):
    errors = []
    for seed in range(8):
        rows, sent = [], []
        for site in range(3):
            rng = np.random.default_rng(10 * seed + site)
            signal = rng.normal(site / 2, 1, 300)
            days, censoring = rng.exponential(2500 * np.exp(-signal)), rng.uniform(300, 4500, 300)
            truth = np.stack([np.minimum(days, censoring), days < censoring], axis=1)
            truth = truth if isinstance(target, TimeToEvent) else (days < 1500).astype(float)
            rows.append((1 / (1 + np.exp(-signal)), truth))
            sent.append(merge_small_cells(target, summarise(target, *rows[-1]), LEAST))
        together = summarise(target, *(np.concatenate(part) for part in zip(*rows, strict=True)))
        exact = pooled_metrics(together, 0.5)[metric]
        merged = total_summary(sent)
        shown, as_counted = pooled_metrics(merged, 0.5), merged[statistic].metrics(0.5)
        assert abs(shown[metric] - exact) <= shown[f"{metric}_bound"] + 0.01  # bins, too, hide something
        assert shown[f"{metric}_low"] <= shown[metric] <= shown[f"{metric}_high"]
        errors.append((shown[metric] - exact, as_counted[metric] - exact))
    righted, unrighted = np.abs(np.mean(errors, axis=0))
    assert 2 * righted < unrighted
    assert righted < 0.02


@pytest.mark.parametrize("seed", range(12))
def test_the_bounds_of_recalibration_hold_what_the_rows_give(seed):
    """The middles of cells alone would be too steep, and an interval of them would not tell."""
    scores, truth = site_scores(seed, 300, 1.0)
    whole = ScoreHistogram.of(scores, truth)
    exact, merged = whole.metrics(0.5), merge_histogram(whole, LEAST).metrics(0.5)
    for name in ("calibration_slope", "calibration_intercept", "calibration_in_the_large"):
        low, value, high = (merged[f"{name}{end}"] for end in ("_low", "", "_high"))
        assert low <= exact[name] <= high or (math.isnan(low) and math.isnan(value)), name


def test_without_a_least_count_a_merged_histogram_is_the_plain_one():
    plain = ScoreHistogram.of(*site_scores(1, 200, 1.0))
    merged = merge_histogram(plain, 1)
    assert np.array_equal(merged.positives, plain.positives)
    assert merged.auc_bound() == pytest.approx(plain.auc_bound())


def test_a_class_of_few_patients_leaves_nothing_and_an_empty_one_the_others():
    scores = np.linspace(0.01, 0.99, 60)
    assert merge_histogram(ScoreHistogram.of(scores, np.arange(60) < 9), LEAST).n == 0
    assert merge_histogram(ScoreHistogram.of(scores, np.zeros(60)), LEAST).n == 60


def test_what_a_site_sends_is_checked_as_any_statistic_is():
    merged = merge_histogram(ScoreHistogram.of(*site_scores(1, 200, 1.0)), LEAST)
    arrays = to_arrays(merged, "v")
    back = from_arrays(MergedHistogram, arrays, "v", like=merged)
    assert back.auc_bound() == merged.auc_bound()
    with pytest.raises(ValueError, match="add up differently"):
        from_arrays(MergedHistogram, arrays | {"v.positives_low": arrays["v.positives_low"] * 2}, "v", like=merged)
    table = empty_summary(TimeToEvent(EDGES), merged=True)["concordance"]
    assert isinstance(table, MergedConcordance)
    with pytest.raises(ValueError, match="add up differently"):
        from_arrays(MergedConcordance, to_arrays(table, "v") | {"v.events_early": np.ones(5)}, "v", like=table)


@pytest.mark.parametrize("target", [Binary(), TimeToEvent(EDGES), Categorical(("a", "b", "c")), Regression()])
def test_every_kind_of_target_has_a_merged_statistic_that_adds_to_its_zero(target):
    rng = np.random.default_rng(0)
    scores = rng.uniform(size=(200, 3)) if isinstance(target, Categorical) else rng.uniform(size=200)
    truth = rng.integers(0, 2, 200).astype(float)
    if isinstance(target, TimeToEvent):
        truth = np.stack([rng.uniform(1, 4000, 200), truth], axis=1)
    whole = merge_small_cells(target, summarise(target, scores, truth), LEAST)
    added = total_summary([empty_summary(target, merged=True), whole])
    for name, value in pooled_metrics(whole, 0.5).items():
        np.testing.assert_allclose(pooled_metrics(added, 0.5)[name], value, rtol=1e-12)
    assert pooled_metrics(added, 0.5)["patients"] == 200
    few = merge_small_cells(target, summarise(target, scores[:6], truth[:6]), LEAST)
    assert pooled_metrics(few, 0.5)["patients"] == 0


@given(st.lists(st.integers(0, 30), min_size=2, max_size=6))
def test_small_classes_are_grouped_and_the_total_stays(counts):
    counts = np.array(counts, dtype=float)
    grouped = group_small_classes(counts, LEAST)
    assert grouped.sum() in (0, counts.sum())
    assert (grouped.sum() == 0) == (counts.sum() < LEAST)
    assert grouped[grouped > 0].min(initial=np.inf) >= LEAST
