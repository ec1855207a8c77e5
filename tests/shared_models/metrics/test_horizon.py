"""Metrics at the horizon from additive counts, against lifelines on rows and against the truth."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines import KaplanMeierFitter
from sklearn.metrics import roc_auc_score

from shared_models.metrics.arrays import to_arrays, total
from shared_models.metrics.censoring import at_horizon
from shared_models.metrics.horizon import SLICES, HorizonTable
from shared_models.metrics.merged_horizon import merge_horizon
from shared_models.metrics.within_site import WithinSiteHorizonAuc

HORIZON = 1826.25
LEAST = 10


def cohort(rng, patients, slope=1.2, followed=(200, 3600), whole_years=False):
    """Risks, days and events; censoring is independent of both."""
    latent = rng.standard_normal(patients)
    hazard = 0.3 * np.exp(slope * latent)
    event = np.ceil(rng.exponential(size=patients) / hazard * 365.25)
    end = rng.integers(*followed, patients)
    end = np.round(end / 365.25) * 365 if whole_years else end
    risk = -np.expm1(-hazard * HORIZON / 365.25)
    return risk, np.stack([np.minimum(event, end), event <= end], axis=1).astype(float), event <= HORIZON


def reference(risk, truth, horizon=HORIZON):
    """Weights by lifelines' Kaplan-Meier curve of the censoring, AUC by scikit-learn."""
    days, event = truth.T
    # an event precedes a censoring of its day
    curve = KaplanMeierFitter().fit(days + 0.5 * (event == 0), event == 0)
    known = ((event == 1) & (days <= horizon)) | (days >= horizon)
    weight = 1 / curve.survival_function_at_times(np.minimum(days, horizon)[known] - 0.01).to_numpy()
    label = (event == 1) & (days <= horizon)
    return roc_auc_score(label[known], risk[known], sample_weight=weight), weight, label[known], known


@pytest.mark.parametrize("whole_years", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_the_sites_sum_gives_the_auc_of_their_weighted_rows(seed, whole_years):
    rng = np.random.default_rng(seed)
    sites = [cohort(rng, size, whole_years=whole_years) for size in (150, 90, 260)]
    table = total(HorizonTable.of(risk, truth, HORIZON) for risk, truth, _ in sites)
    risk, truth = (np.concatenate([site[part] for site in sites]) for part in (0, 1))
    auc, weight, label, known = reference(risk, truth)
    metrics = table.metrics(0.5)
    assert metrics["auc"] == pytest.approx(auc, abs=0.005)
    predicted = risk[known] >= 0.5
    assert metrics["sensitivity"] == pytest.approx(weight[label & predicted].sum() / weight[label].sum(), abs=0.005)
    assert metrics["specificity"] == pytest.approx(weight[~label & ~predicted].sum() / weight[~label].sum(), abs=0.005)
    survival = KaplanMeierFitter().fit(truth[:, 0], truth[:, 1]).predict(HORIZON)
    assert metrics["event_probability"] == pytest.approx(1 - survival, abs=0.005)
    counted = [metrics[name] for name in ("events_by_horizon", "free_at_horizon", "censored_before_horizon")]
    assert counted == [label.sum(), (~label).sum(), (~known).sum()]
    own = at_horizon(truth[:, 0], truth[:, 1] == 1, HORIZON)
    np.testing.assert_allclose(own.weights[known], weight, rtol=1e-9)


def test_one_sites_pairs_are_those_of_its_weighted_rows():
    risk, truth, _ = cohort(np.random.default_rng(5), 300)
    assert WithinSiteHorizonAuc.of(risk, truth, HORIZON).share() == pytest.approx(reference(risk, truth)[0], abs=1e-12)


@pytest.mark.parametrize("statistic", [HorizonTable, WithinSiteHorizonAuc])
def test_the_interval_covers_the_truth_and_short_follow_up_does_not_move_it(statistic):
    rng = np.random.default_rng(7)
    risk, _, happened = cohort(rng, 100_000)
    truth, covered, values = roc_auc_score(happened, risk), 0, []
    for _ in range(150):
        risk, seen, _ = cohort(rng, 200, followed=(100, 2500))
        sums = statistic.of(risk, seen, HORIZON)
        interval = sums.interval()
        covered += interval.low <= truth <= interval.high
        values.append(interval.value)
    assert np.mean(values) == pytest.approx(truth, abs=0.01)
    assert covered / 150 > 0.9


def test_without_anybody_followed_to_the_horizon_nothing_is_known_of_it():
    metrics = HorizonTable.of([0.1, 0.9], [[100, 0], [90, 1]], HORIZON).metrics(0.5)
    assert np.isnan(metrics["auc"])
    assert np.isnan(WithinSiteHorizonAuc.of([0.1, 0.9], [[100, 0], [90, 1]], HORIZON).share())


def weights_of_merged_times(truth, merged, pooled):
    """Of each row of one site, by where its cell of time was placed; whether it has the event; whether either is known.

    The cells' edges are searched for: a placed time stands for the events that no earlier and no later one has.
    """
    days, event = truth[:, 0], truth[:, 1] == 1
    weight = np.zeros(len(days))
    happened = event & (days <= HORIZON)
    free = ~happened & (days >= HORIZON)
    curve = pooled.uncensored()
    order = np.flatnonzero(happened)[np.argsort(days[happened], kind="stable")]
    placed = np.flatnonzero(merged.events_by_step)
    weight[order] = np.repeat(1 / curve[placed], merged.events_by_step[placed].astype(int))
    weight[free] = 1 / curve[-1] if curve[-1] > 0 else 0
    return weight, happened, happened | free


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(30, 900)), min_size=1, max_size=3),
    st.floats(-3, 3),
    st.integers(1400, 4000),
)
def test_the_auc_of_the_rows_lies_within_the_certificate_of_the_merged_tables(sites, slope, until):
    """However strongly risk goes with time, so that those of high risk weigh less, or more."""
    rows, merged = [], []
    for seed, patients in sites:
        risk, truth, _ = cohort(np.random.default_rng(seed), patients, slope, (100, until))
        table = merge_horizon(HorizonTable.of(risk, truth, HORIZON), LEAST)
        if table.n:
            rows.append((risk, truth))
            merged.append(table)
    if not merged:
        return
    pooled = total(merged)
    assert pooled.n == sum(len(risk) for risk, _ in rows)
    weight, happened, known = (
        np.concatenate(parts)
        for parts in zip(
            *(weights_of_merged_times(truth, one, pooled) for (_, truth), one in zip(rows, merged, strict=True)),
            strict=True,
        )
    )
    histogram = pooled.histogram()
    assert histogram.n_positive == pytest.approx(weight[happened].sum())
    assert pooled.squares().n_positive == pytest.approx((weight[happened] ** 2).sum())
    if not np.isnan(histogram.auc()):
        risk = np.concatenate([risk for risk, _ in rows])
        exact = roc_auc_score(happened[known], risk[known], sample_weight=weight[known])
        assert abs(exact - histogram.auc()) <= histogram.auc_bound() + 1e-9


def test_a_site_alone_tells_no_small_cell_nor_one_by_a_difference_of_times_and_risks():
    for seed, patients in enumerate((140, 200, 1500, 6000)):
        risk, truth, _ = cohort(np.random.default_rng(seed), patients)
        one = merge_horizon(HorizonTable.of(risk, truth, HORIZON), LEAST)
        cells = np.concatenate([array.ravel() for array in to_arrays(one, "x").values()])
        assert cells[cells > 0].min() >= LEAST
        # Each longer time is whole merged times, and the events by risk in it are theirs: no other sum is shared.
        by_time = one.events_by_step.reshape(SLICES, -1).sum(axis=1)
        first, last = one.events.sum(axis=1), one.late.sum(axis=1)
        starts, ends = np.flatnonzero(first), np.flatnonzero(last)
        assert (starts[1:] > ends[:-1]).all()
        for start, end in zip(starts, ends, strict=True):
            assert first[start] == last[end] == by_time[start : end + 1].sum()
    few = merge_horizon(HorizonTable.of([0.9] * 3 + [0.1] * 40, [[90, 1]] * 3 + [[3000, 0]] * 40, HORIZON), LEAST)
    assert few.n == 0


@pytest.mark.parametrize("direction", [-1, 1])
def test_risks_that_follow_the_time_are_within_the_certificate_though_a_cell_mixes_their_weights(direction):
    """Forty risks of many patients each, which cells tell exactly: a cell hides which of its events weigh more."""
    step = np.arange(1000)
    days = np.concatenate([(step + 0.5) / 1000 * HORIZON, np.full(1000, HORIZON), np.arange(2500) / 2500 * HORIZON])
    truth = np.stack([days, np.repeat([1.0, 0.0, 0.0], (1000, 1000, 2500))], axis=1)
    logit = np.concatenate([direction * (step // 25), step % 40 * direction, np.zeros(2500)]) / 10
    risk = 1 / (1 + np.exp(-logit))
    one = merge_horizon(HorizonTable.of(risk, truth, HORIZON), LEAST)
    weight, happened, known = weights_of_merged_times(truth, one, one)
    exact = roc_auc_score(happened[known], risk[known], sample_weight=weight[known])
    off, hidden = abs(exact - one.histogram().auc()), HorizonTable.of(risk, truth, HORIZON).histogram().auc_bound()
    assert hidden < off <= one.histogram().auc_bound()


def test_two_sites_of_a_thousand_tell_the_pooled_auc_and_not_one_cell_of_risk_in_each_time():
    rng = np.random.default_rng(3)
    sites = [cohort(rng, 1000, slope=0.8, followed=(700, 4000)) for _ in range(2)]
    exact = total(HorizonTable.of(risk, truth, HORIZON) for risk, truth, _ in sites)
    together = total(merge_horizon(HorizonTable.of(risk, truth, HORIZON), LEAST) for risk, truth, _ in sites)
    assert together.n == exact.n
    assert abs(together.histogram().auc() - exact.histogram().auc()) <= together.histogram().auc_bound()
    assert together.histogram().auc_bound() < 0.15


def test_what_a_site_sends_of_its_cells_ends_must_add_up():
    risk, truth, _ = cohort(np.random.default_rng(4), 300)
    sent = merge_horizon(HorizonTable.of(risk, truth, HORIZON), LEAST)
    with pytest.raises(ValueError, match="add up differently"):
        replace(sent, late_high=sent.late_high * 2)
