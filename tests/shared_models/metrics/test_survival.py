import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from shared_models.metrics.scores import left_edges
from shared_models.metrics.survival import (
    MONTHS,
    ConcordanceTable,
    concordance,
    concordance_interval,
    month_of,
)


def follow(rng, n, effect=1.0, unit=1.0, decimals=12):
    """Risks, times in whole ``unit``s of days, and events of ``n`` patients, about half of them censored."""
    x = rng.normal(0, 1, n)
    death, leaving = rng.exponential(1500 * np.exp(-effect * x)), rng.exponential(1500, n)
    time = np.ceil(np.minimum(death, leaving) / unit) * unit
    return np.round(1 / (1 + np.exp(2 - x)), decimals), time, (death <= leaving).astype(float)


followed = st.builds(
    lambda seed, n, unit, decimals: follow(np.random.default_rng(seed), n, 1.0, unit, decimals),
    st.integers(0, 2**32 - 1),
    st.integers(0, 60),
    st.sampled_from([1e-6, 30.0, 400.0, 10000.0]),
    st.sampled_from([1, 2, 12]),
)


@given(followed)
def test_concordance_equals_lifelines(data):
    lifelines = pytest.importorskip("lifelines.utils")
    risk, time, event = data
    ours = concordance(risk, time, event)
    try:
        theirs = lifelines.concordance_index(time, -risk, event)
    except ZeroDivisionError:
        theirs = math.nan
    assert ours == pytest.approx(theirs, nan_ok=True)


@given(followed)
def test_the_concordance_of_the_rows_lies_within_the_certificate(data):
    table, exact = ConcordanceTable.of(*data), concordance(*data)
    if not (math.isnan(exact) or math.isnan(table.concordance())):
        assert abs(exact - table.concordance()) <= table.bound() + 1e-12
        low, high = table.limits()
        assert low - 1e-12 <= exact <= high + 1e-12


@given(followed)
def test_the_table_is_the_concordance_of_binned_rows(data):
    risk, time, event = data
    edges = left_edges(256)
    binned = edges[np.searchsorted(edges, risk, side="right") - 1]
    expected = concordance(binned, month_of(time).astype(float), event)
    assert ConcordanceTable.of(*data).concordance() == pytest.approx(expected, nan_ok=True)


def test_rows_the_bins_separate_leave_nothing_undecided():
    table = ConcordanceTable.of([0.9, 0.5, 0.1], [40, 80, 120], [1, 1, 0])
    assert (table.concordance(), table.bound()) == (1, 0)


def test_rows_in_one_cell_leave_everything_undecided():
    table = ConcordanceTable.of([0.5, 0.5, 0.5], [40, 41, 42], [1, 1, 0])
    assert table.concordance() == 0.5
    assert table.limits() == (0, 1)


def test_the_last_month_is_open():
    assert month_of(np.array([0.0, 30.0, 30.4375, 1e6])).tolist() == [0, 0, 1, MONTHS]
    assert ConcordanceTable.of([0.2, 0.3], [9000, 50000], [1, 1]).events[MONTHS].sum() == 2


@pytest.mark.parametrize("event", [[], [0, 0, 0], [1, 1, 1]])
def test_without_comparable_pairs_there_is_no_concordance(event):
    rows = ([0.1, 0.2, 0.3][: len(event)], [10.0, 10.0, 10.0][: len(event)], event)
    table = ConcordanceTable.of(*rows)
    values = (concordance(*rows), table.concordance(), table.bound(), table.interval().low)
    assert all(math.isnan(value) for value in values)
    assert math.isnan(concordance_interval(*rows, repeats=20).low)


def test_unknown_times_and_events_leave_the_patient_out():
    rows = ([0.9, 0.5, 0.1, 0.3, 0.8], [40, 80, 120, math.nan, 50], [1, 1, 0, 1, math.nan])
    assert ConcordanceTable.of(*rows).n == 3
    assert concordance(*rows) == 1
    assert concordance_interval(*rows, repeats=20).value == 1


@pytest.mark.parametrize(
    ("risk", "time", "event", "reason"),
    [
        ([math.nan], [1], [1], "not finite"),
        ([0.5], [-1], [1], "not negative"),
        ([0.5], [math.inf], [1], "finite"),
        ([0.5], [1], [2], "events must be"),
        ([0.5], [1, 2], [1], "do not fit"),
    ],
)
def test_rows_that_make_no_sense_are_refused(risk, time, event, reason):
    with pytest.raises(ValueError, match=reason):
        concordance(risk, time, event)
    with pytest.raises(ValueError, match=reason):
        ConcordanceTable.of(risk, time, event)


def test_a_table_needs_risks_that_are_probabilities_but_the_exact_index_does_not():
    assert concordance([3.0, -2.0], [10, 20], [1, 1]) == 1
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        ConcordanceTable.of([3.0, -2.0], [10, 20], [1, 1])


def test_the_bootstrap_is_that_of_resampled_rows():
    rng = np.random.default_rng(0)
    risk, time, event = follow(rng, 30, unit=100.0, decimals=1)
    resamples = np.random.default_rng(7).multinomial(30, np.full(30, 1 / 30), size=100)
    rows = [np.repeat(np.arange(30), weights) for weights in resamples]
    expected = np.quantile([concordance(risk[r], time[r], event[r]) for r in rows], [0.025, 0.975])
    interval = concordance_interval(risk, time, event, repeats=100, seed=7)
    assert (interval.low, interval.high) == pytest.approx(tuple(expected))
    assert interval.value == pytest.approx(concordance(risk, time, event))


def test_lesions_of_one_patient_are_resampled_together():
    risk, time, event = follow(np.random.default_rng(1), 60)
    alone = concordance_interval(risk, time, event)
    repeated = [np.repeat(part, 4) for part in (risk, time, event)]
    clustered = concordance_interval(*repeated, patient=np.repeat(np.arange(60), 4))
    careless = concordance_interval(*repeated)
    assert clustered.high - clustered.low == pytest.approx(alone.high - alone.low, rel=1e-9)
    assert careless.high - careless.low < 0.7 * (alone.high - alone.low)
    with pytest.raises(ValueError, match="patients of shape"):
        concordance_interval(risk, time, event, patient=[1, 2])


def test_perfect_concordance_has_no_interval_of_zero_width():
    risk, time = np.linspace(0.9, 0.1, 20), np.linspace(40, 4000, 20)
    for interval in (
        concordance_interval(risk, time, np.ones(20)),
        ConcordanceTable.of(risk, time, np.ones(20)).interval(),
    ):
        assert (interval.value, interval.high) == (1, 1)
        assert interval.low == pytest.approx(0.025 ** (1 / 10))  # ten disjoint pairs


def test_the_interval_of_the_table_agrees_with_the_bootstrap():
    data = follow(np.random.default_rng(2), 400)
    table = ConcordanceTable.of(*data)
    ours, theirs = table.interval(), concordance_interval(*data)
    assert ours.low + table.bound() == pytest.approx(theirs.low, abs=0.01)
    assert ours.high - table.bound() == pytest.approx(theirs.high, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("n", [60, 200])
def test_intervals_cover_the_concordance_of_the_population(n):
    rng = np.random.default_rng(3)
    truth = concordance(*follow(rng, 20000))
    bootstrap = unwidened = 0
    for _ in range(400):
        data = follow(rng, n)
        interval = concordance_interval(*data, repeats=200)
        bootstrap += interval.low <= truth <= interval.high
        table = ConcordanceTable.of(*data)
        interval, bound = table.interval(), table.bound()
        unwidened += interval.low + bound <= truth <= interval.high - bound
    least = stats.binom.ppf(0.001, 400, 0.92) / 400
    assert bootstrap / 400 >= least
    assert unwidened / 400 >= least
