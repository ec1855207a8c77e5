from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_models.metrics.arrays import LARGEST, from_arrays, to_arrays, total
from shared_models.metrics.binary import ScoreHistogram, pooled_auc_interval
from shared_models.metrics.calibration import Calibration
from shared_models.metrics.categorical import ConfusionMatrix
from shared_models.metrics.confusion_counts import ConfusionCounts
from shared_models.metrics.regression import RegressionSums
from shared_models.metrics.survival import ConcordanceTable

KINDS = {
    "histogram": lambda score, label, time: ScoreHistogram.of(score, label, bins=32),
    "counts": lambda score, label, time: ConfusionCounts.of(score, label, 0.5),
    "calibration": lambda score, label, time: Calibration.of(score, label),
    "matrix": lambda score, label, time: ConfusionMatrix.of(score > 0.5, label, classes=3),
    "sums": lambda score, label, time: RegressionSums.of(100 * score, time),
    "table": lambda score, label, time: ConcordanceTable.of(score, time, label, bins=16),
}


def patients(n=40, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.choice([0.0, 1.0, np.nan], size=n, p=[0.5, 0.4, 0.1])
    return rng.random(n), label, rng.exponential(1000, n)


@pytest.mark.parametrize("kind", KINDS)
@given(n=st.integers(0, 60), seed=st.integers(0, 2**32 - 1), cuts=st.lists(st.integers(0, 60), max_size=4))
def test_splitting_patients_over_sites_then_merging_equals_pooling(kind, n, seed, cuts):
    score, label, time = patients(n, seed)
    bounds = [0, *sorted(min(cut, n) for cut in cuts), n]
    parts = [slice(start, end) for start, end in pairwise(bounds)]
    merged = total(KINDS[kind](score[part], label[part], time[part]) for part in parts)
    pooled = to_arrays(KINDS[kind](score, label, time), "")
    for name, array in to_arrays(merged, "").items():
        np.testing.assert_allclose(array, pooled[name], rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_statistic_survives_the_journey(kind):
    sent = KINDS[kind](*patients())
    arrays = to_arrays(sent, "er")
    received = from_arrays(type(sent), {**arrays, "pr.other": np.zeros(2)}, "er", like=sent)
    for name, array in to_arrays(received, "er").items():
        assert array.dtype == np.float64
        np.testing.assert_array_equal(array, arrays[name])


@pytest.mark.parametrize(
    ("garbage", "reason"),
    [
        (np.full(32, np.nan), "finite"),
        (np.full(32, np.inf), "finite"),
        (np.full(32, -1.0), "negative"),
        (np.full(32, 10 * LARGEST), "larger"),
        (np.zeros((32, 1)), "axes"),
        (np.float64(3), "axes"),
        (np.zeros(1), "shape"),
        (np.zeros(31), "shape"),
        (np.array(["a"] * 32), "real numbers"),
        (np.array([None] * 32), "real numbers"),
        (np.zeros(32, complex), "real numbers"),
    ],
)
def test_garbage_from_a_site_is_refused_by_the_name_of_its_field(garbage, reason):
    arrays = to_arrays(KINDS["histogram"](*patients()), "er") | {"er.positives": garbage}
    with pytest.raises(ValueError, match=reason) as refusal:
        from_arrays(ScoreHistogram, arrays, "er")
    assert "positives" in str(refusal.value)


def test_a_missing_field_is_named():
    with pytest.raises(ValueError, match=r"er\.positives is missing from the ScoreHistogram"):
        from_arrays(ScoreHistogram, {}, "er")


def test_bins_other_than_the_receivers_are_refused():
    theirs, ours = (ScoreHistogram.of([0.3], [1], bins=bins) for bins in (64, 32))
    with pytest.raises(ValueError, match=r"er\.positives has shape \(64,\), expected \(32,\)"):
        from_arrays(ScoreHistogram, to_arrays(theirs, "er"), "er", like=ours)
    with pytest.raises(ValueError, match="cannot add"):
        ours + theirs


def test_only_sums_that_may_be_negative_may_be():
    arrays = to_arrays(RegressionSums.of([-2.0, 0.5], [-1.0, 1.0]), "ki67")
    assert from_arrays(RegressionSums, arrays, "ki67").prediction == -1.5
    with pytest.raises(ValueError, match=r"ki67\.squared_error counts, and cannot be negative"):
        from_arrays(RegressionSums, arrays | {"ki67.squared_error": np.float64(-1)}, "ki67")


@pytest.mark.parametrize(
    ("cls", "shape"), [(ConcordanceTable, (180, 16)), (ConfusionMatrix, (3, 2)), (Calibration, (10,))]
)
def test_shapes_a_statistic_cannot_have_are_refused(cls, shape):
    names = cls.__dataclass_fields__
    with pytest.raises(ValueError, match="not"):
        from_arrays(cls, {f"er.{name}": np.zeros(shape) for name in names}, "er")


@pytest.mark.parametrize("value", [0.0, 1e-300, 1 / LARGEST, LARGEST])
@pytest.mark.parametrize("kind", KINDS)
def test_extreme_but_finite_entries_break_no_metric(kind, value):
    honest = KINDS[kind](*patients())
    arrays = {name: np.full_like(array, value) for name, array in to_arrays(honest, "x").items()}
    received = from_arrays(type(honest), arrays, "x", like=honest)
    for name in dir(received):
        metric = getattr(received, name)
        if callable(metric) and name in {"auc", "auc_bound", "average_precision", "roc", "brier", "curve", "limits"}:
            metric()
        if name == "threshold":
            pooled_auc_interval(received)
            metric("f1")
            metric("youden")
        if name in {"concordance", "bound", "interval", "expected_observed_ratio", "expected_calibration_error"}:
            metric()


def test_unlike_statistics_do_not_add_and_nothing_has_no_total():
    with pytest.raises(ValueError, match="cannot add RegressionSums to ConfusionCounts"):
        total([KINDS["counts"](*patients()), KINDS["sums"](*patients())])
    with pytest.raises(ValueError, match="no statistic"):
        total([])
