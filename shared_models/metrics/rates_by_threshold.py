"""Rates of a score at several thresholds, for a table beside the one that the study froze."""

import math
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from shared_models.metrics.arrays import Array
from shared_models.metrics.confusion_counts import ConfusionCounts
from shared_models.metrics.rates import bounds, effective, rate_bounds

THRESHOLDS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
FEWEST = 10
"""Patients on either side of a threshold, below which nothing is told of it."""
RATES: Final[Mapping[str, str]] = {
    "flagged": "share of patients at or above each",
    "sensitivity": "share of positives at or above it",
    "specificity": "share of negatives below it",
    "precision": "share of positives among those at or above it",
    "npv": "share of negatives among those below it",
}
METRICS: Final[Mapping[str, str]] = {
    "by_threshold": "thresholds, the edges of bins nearest to 5, 10, 15, 20, 25, 30, 40, 50, 60, 70, 80, 90 %; context "
    "for the frozen one, none was chosen by them",
    **bounds(
        {f"by_threshold_{name}": text for name, text in RATES.items()},
        {f"by_threshold_{name}": "Wilson; undefined where fewer than 10 patients are on one side" for name in RATES},
    ),
}


Count = Callable[[float], ConfusionCounts]


def rates_by_threshold(confusion: Count, squared: Count, edges: Array) -> dict[str, list[float]]:
    """The thresholds, and each rate with its bounds there, by name.

    Args:
        confusion: Counts, or sums of weights, at a threshold that is an edge of a bin.
        squared: Sums of the squared weights; the same as `confusion` where they are counts.
        edges: (bins,) the left edges of the bins.
    """
    thresholds = [float(edges[int(np.abs(edges - threshold).argmin())]) for threshold in THRESHOLDS]
    rows = [_rates(confusion(threshold), squared(threshold)) for threshold in thresholds]
    return {"by_threshold": thresholds} | {f"by_threshold_{name}": [row[name] for row in rows] for name in rows[0]}


def _rates(counts: ConfusionCounts, squares: ConfusionCounts) -> dict[str, float]:
    everything = {name: float(getattr(counts, name)) for name in RATES} | rate_bounds(counts, squares)
    rates = {f"{name}{end}": everything[f"{name}{end}"] for name in RATES for end in ("", "_low", "_high")}
    sides = ((counts.tp + counts.fp, squares.tp + squares.fp), (counts.tn + counts.fn, squares.tn + squares.fn))
    few = any(effective(*side) < FEWEST for side in sides)
    return dict.fromkeys(rates, math.nan) if few else rates
