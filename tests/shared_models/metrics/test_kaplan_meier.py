"""Curves of risk groups from additive counts are those of the rows, as lifelines draws them."""

from __future__ import annotations

import numpy as np
import pytest
from lifelines import KaplanMeierFitter
from lifelines.statistics import logrank_test, multivariate_logrank_test

from shared_models.metrics.kaplan_meier import kaplan_meier, log_rank, median_follow_up_days, risk_groups, thirds
from shared_models.metrics.merged_cells import merge_concordance
from shared_models.metrics.survival import DAYS_PER_MONTH, ConcordanceTable, month_of
from shared_models.targets import TimeToEvent


def cohort(patients: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Risks, days and events, with censoring."""
    rng = np.random.default_rng(1)
    risk = rng.uniform(size=patients)
    event, censoring = rng.exponential(3000 / (0.3 + 2 * risk)), rng.uniform(200, 5000, patients)
    return risk, np.minimum(event, censoring), (event <= censoring).astype(float)


def test_curves_log_rank_and_follow_up_of_two_sites_are_those_of_lifelines_on_rows() -> None:
    risk, days, event = cohort()
    sites = [ConcordanceTable.of(risk[part], days[part], event[part], 1024) for part in (slice(90), slice(90, None))]
    table, month, high = sites[0] + sites[1], month_of(days), risk >= 0.5
    groups = risk_groups(table, [0.5])
    for group, mask in zip(groups, (~high, high), strict=True):
        curve, rows = kaplan_meier(*group, half=False), KaplanMeierFitter().fit(month[mask], event[mask])
        there = int(month[mask].max())
        assert curve.survival[:there] == pytest.approx(rows.predict(np.arange(there)).to_numpy())
        bounds = rows.confidence_interval_.loc[:60].iloc[-1]
        assert (curve.low[60], curve.high[60]) == pytest.approx(tuple(bounds))
    chi2, p_value = log_rank(groups, half=False)
    theirs = logrank_test(month[high], month[~high], event[high], event[~high])
    assert (chi2, p_value) == pytest.approx((theirs.test_statistic, theirs.p_value))
    followed = KaplanMeierFitter().fit(days, 1 - event).median_survival_time_
    assert abs(median_follow_up_days(table, ()) - followed) < DAYS_PER_MONTH


def test_three_groups_are_parted_by_other_patients_and_compared_as_lifelines_compares_rows() -> None:
    risk, days, event = cohort()
    validation, tested = (
        ConcordanceTable.of(risk[part], days[part], event[part], 256) for part in (slice(160), slice(160, None))
    )
    cutoffs = thirds(validation)
    shares = [float((risk[:160] < cutoff).mean()) for cutoff in cutoffs]
    assert shares == pytest.approx([1 / 3, 2 / 3], abs=0.03)
    group = np.searchsorted(cutoffs, risk[160:], side="right")
    groups = risk_groups(tested, cutoffs)
    assert [float((events + censored).sum()) for events, censored in groups] == np.bincount(group).tolist()
    theirs = multivariate_logrank_test(month_of(days[160:]), group, event[160:])
    assert log_rank(groups, half=False) == pytest.approx((theirs.test_statistic, theirs.p_value))


@pytest.mark.parametrize(("patients", "alike", "groups"), [(29, False, 1), (90, True, 1), (90, False, 3)])
def test_too_few_patients_or_equal_risks_are_not_parted(patients: int, alike: bool, groups: int) -> None:
    risk, days, event = cohort(patients)
    table = ConcordanceTable.of(np.full(patients, 0.3) if alike else risk, days, event, 256)
    assert len(thirds(table)) == groups - 1


def test_merged_cells_give_the_curve_at_the_ends_of_the_studys_intervals() -> None:
    risk, days, event = cohort(3000)
    edges = TimeToEvent().edges_days
    table = merge_concordance(ConcordanceTable.of(risk, days, event, 1024), edges, 10)
    rows = KaplanMeierFitter().fit(days, event)
    curve = kaplan_meier(table.events.sum(axis=1), table.censored.sum(axis=1), half=True)
    assert curve.survival[:5] == pytest.approx(rows.predict(np.array(edges[:5])).to_numpy(), abs=0.01)
