"""Metrics at the horizon from additive counts, against lifelines on rows and against the truth."""

import numpy as np
import pytest
from lifelines import KaplanMeierFitter
from sklearn.metrics import roc_auc_score

from shared_models.metrics.arrays import total
from shared_models.metrics.censoring import at_horizon
from shared_models.metrics.horizon import HorizonTable
from shared_models.metrics.within_site import WithinSiteHorizonAuc

HORIZON = 1826.25


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


def test_a_site_alone_tells_no_small_cell_and_the_bound_holds():
    rng = np.random.default_rng(3)
    sites = [cohort(rng, size) for size in (140, 200)]
    exact = total(HorizonTable.of(risk, truth, HORIZON) for risk, truth, _ in sites)
    merged = [HorizonTable.of(risk, truth, HORIZON).without_small_cells(10) for risk, truth, _ in sites]
    for one in merged:
        cells = np.concatenate([one.events.ravel(), one.free, one.events_by_step, one.censored_by_step])
        assert cells[cells > 0].min() >= 10
    together = total(merged)
    assert together.n == exact.n
    assert abs(together.histogram().auc() - exact.histogram().auc()) <= together.histogram().auc_bound() + 0.01
    few = HorizonTable.of([0.9] * 3 + [0.1] * 40, [[90, 1]] * 3 + [[3000, 0]] * 40, HORIZON).without_small_cells(10)
    assert few.n == 0
