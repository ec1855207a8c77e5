"""Bars of predicted risk hold the patients of the rows, and never a few of them."""

from __future__ import annotations

import numpy as np
import pytest

from shared_models.metrics.binary import ScoreHistogram
from shared_models.metrics.rates_by_threshold import RATES
from shared_models.metrics.risk_histogram import FEWEST, STEPS, spread
from shared_models.metrics.scores import ScoreRange


@pytest.mark.parametrize("score_range", [None, (-3.0, 1.0)])
def test_bars_are_those_of_the_rows_where_each_step_has_enough(score_range: ScoreRange | None) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 40_000).astype(float)
    risk = rng.uniform(0.04, 0.96, 40_000)
    metrics = ScoreHistogram.of(risk, labels, 1024, score_range).metrics(0.5)
    for name, label in (("risk_with_outcome", 1), ("risk_without_outcome", 0)):
        rows, _ = np.histogram(risk[labels == label], bins=STEPS, range=(0, 1))
        bars = np.array(metrics[name])
        assert bars.sum() == pytest.approx(rows.sum())
        assert np.abs(np.cumsum(bars) - np.cumsum(rows)).max() < 0.01 * rows.sum()  # a bin lies in one step


def test_no_bar_shows_where_one_patient_is_or_a_class_of_few() -> None:
    rng = np.random.default_rng(1)
    many = rng.uniform(0.1, 0.3, 200)
    scores, labels = np.concatenate([many, [0.97], np.full(9, 0.5)]), np.repeat([0.0, 1.0], [201, 9])
    metrics = ScoreHistogram.of(scores, labels).metrics(0.5)
    assert not any(metrics["risk_with_outcome"])
    bars = np.array(metrics["risk_without_outcome"])
    assert bars.sum() == pytest.approx(201)
    assert not bars[25:].any()


@pytest.mark.parametrize("seed", range(20))
def test_every_range_of_equal_bars_holds_enough(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.exponential(3, STEPS)).astype(float) * (rng.uniform(size=STEPS) < 0.7)
    bars = spread(counts, FEWEST)
    assert bars.sum() == pytest.approx(counts.sum() if counts.sum() >= FEWEST else 0.0)
    edges = np.flatnonzero(np.diff(bars) != 0) + 1
    for part in np.split(bars, edges):
        assert part[0] == 0 or part.sum() >= FEWEST - 1e-9


def test_rates_at_each_threshold_are_those_of_the_rows() -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, 3000).astype(float)
    scores = np.clip(rng.normal(0.35 + 0.1 * labels, 0.12), 0.01, 0.99)
    metrics = ScoreHistogram.of(scores, labels).metrics(0.5)
    shown = 0
    for index, threshold in enumerate(metrics["by_threshold"]):
        flagged, ill = scores >= threshold, labels == 1
        rows = {
            "flagged": flagged.mean(),
            "sensitivity": flagged[ill].mean(),
            "specificity": (~flagged)[~ill].mean(),
            "precision": ill[flagged].mean() if flagged.any() else np.nan,
            "npv": (~ill)[~flagged].mean() if not flagged.all() else np.nan,
        }
        few = min(flagged.sum(), (~flagged).sum()) < 10
        shown += not few
        for name in RATES:
            value, low, high = (metrics[f"by_threshold_{name}{end}"][index] for end in ("", "_low", "_high"))
            assert np.isnan(value) if few else value == pytest.approx(rows[name]), (name, threshold)
            assert few or low <= value <= high
    assert 5 <= shown < len(metrics["by_threshold"])
