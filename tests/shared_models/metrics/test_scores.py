"""Bins of scores, and where half of them go once it is known where a study's scores lie."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from shared_models.metrics.binary import ScoreHistogram
from shared_models.metrics.horizon import HorizonTable
from shared_models.metrics.scores import ScoreRange, bin_of, left_edges, range_of
from shared_models.metrics.survival import ConcordanceTable

BINS = 1024


def range_around(scores: np.ndarray, passes: int = 2) -> ScoreRange | None:
    """What a study knows after some rounds of validation patients with such scores."""
    found = None
    for _ in range(passes):
        found = range_of(np.bincount(bin_of(scores, BINS, found), minlength=BINS).astype(float), found)
    return found


@given(st.floats(0.001, 0.999), st.sampled_from([1e-5, 1e-3, 0.01, 0.9]), st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_scores_are_told_apart_wherever_and_however_close_they_lie(
    middle: float, spread: float, seed: int, passes: int
) -> None:
    rng = np.random.default_rng(seed)
    width = spread * min(middle, 1 - middle)
    validation, test = (middle + width * rng.uniform(-1, 1, (2, 400))).astype(np.float32)
    labels = rng.random(400) < 0.2 + 0.5 * (test - test.min()) / max(np.ptp(test), 1e-9)
    found = range_around(validation, passes)
    edges = left_edges(BINS, found)
    assert (np.diff(edges) >= 0).all()
    assert 0.5 in edges
    histogram = ScoreHistogram.of(test, labels, BINS, found)
    assert abs(histogram.auc() - roc_auc_score(labels, test)) <= histogram.auc_bound() + 1e-12
    if passes > 1 and spread > 1e-4 and width > 1e-5:  # what float32 tells apart
        assert histogram.auc_bound() < 0.01
    # patients of another hospital, whose scores lie elsewhere, are told apart nearly as well as before
    other = rng.uniform(0.01, 0.99, 400)
    assert ScoreHistogram.of(other, labels, BINS, found).auc_bound() < 0.005


def test_what_three_bins_held_is_told_apart_in_each_statistic() -> None:
    rng = np.random.default_rng(1)
    scores, days = rng.uniform(0.50, 0.51, 500), rng.uniform(30, 3000, 500)
    event = (rng.random(500) < 0.5).astype(float)
    before, after = None, range_around(rng.uniform(0.50, 0.51, 100))
    bounds = {
        score_range: (
            ScoreHistogram.of(scores, event, score_range=score_range).auc_bound(),
            HorizonTable.of(scores, np.stack([days, event], 1), 1826, score_range=score_range).metrics(0.5)[
                "auc_bound"
            ],
            ConcordanceTable.of(scores, days, event, BINS, score_range).bound(),
        )
        for score_range in (before, after)
    }
    assert min(bounds[before]) > 0.1
    assert max(bounds[after]) < 0.01


def test_counts_in_different_bins_are_not_added() -> None:
    one, other = (ScoreHistogram.of([0.3], [1], score_range=found) for found in (None, (-1.0, 1.0)))
    with pytest.raises(ValueError, match=r"cannot add two of ScoreHistogram whose score_range is None and \(-1"):
        one + other


def test_nobody_says_nothing_about_where_scores_lie() -> None:
    assert range_of(np.zeros(BINS)) is None
    assert range_of(np.zeros(BINS), (-1.0, 2.0)) == (-1.0, 2.0)


@pytest.mark.parametrize("score", [0.0, 1e-6, 1 - 1e-7, 1.0])
def test_a_network_that_is_sure_of_everything_has_a_range_still(score: float) -> None:
    low, high = range_around(np.full(50, score), passes=9) or (0.0, 0.0)
    assert -14 <= low < high <= 14
