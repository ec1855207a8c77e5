"""Histogram of predicted risks, with and without the outcome, in which no bar is of a few patients.

Risks are counted in steps of two percent, halved into ever smaller ranges as long as a half holds enough patients. The
patients of a half that does not are shared out over the other one, so that a bar never ends at one patient's risk: what
is empty may hold a few.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from shared_models.metrics.arrays import Array
from shared_models.metrics.scores import ScoreRange, bin_logits

STEPS = 50
FEWEST = 10
SHORT = 4
"""Steps that are spread evenly where few are in all and a half has too few: moved next door, they would look a comb."""
METRICS: Final[Mapping[str, str]] = {
    "risk_with_outcome": "patients with the outcome by predicted risk, 50 steps of 2 %; fewer than 10 of a range "
    "are spread over the range beside it, so that an empty one may hold a few",
    "risk_without_outcome": "patients without it, likewise",
}


def risk_histogram(
    classes: tuple[Array, Array], squares: tuple[Array, Array], score_range: ScoreRange | None = None
) -> dict[str, list[float]]:
    """Both classes by name; 0 everywhere of a class of fewer than 10 patients.

    Args:
        classes: (bins,) counts or weights of those with and of those without the outcome.
        squares: of both, sums of the squared weights; the counts themselves where they are counts.
        score_range: what the bins were made of.
    """
    risks = 1 / (1 + np.exp(-bin_logits(len(classes[0]), score_range)))
    step = np.minimum(risks * STEPS, STEPS - 1).astype(np.intp)
    bars = {}
    for name, counts, squared in zip(METRICS, classes, squares, strict=True):
        heaviest = float(np.divide(squared, counts, out=np.ones_like(counts), where=counts > 0).max())
        bars[name] = spread(np.bincount(step, counts, STEPS).astype(np.float64), FEWEST * heaviest).tolist()
    return bars


def spread(counts: Array, least: float) -> Array:
    """Counts of neighbouring steps, even over ranges that hold at least so many; the total stays, or is 0 if less.

    Args:
        counts: (N,) patients or weights.
        least: positive.

    Example:
        >>> spread(np.array([12.0, 0, 9, 3, 0, 0, 0, 1]), 10).tolist()
        [6.25, 6.25, 6.25, 6.25, 0.0, 0.0, 0.0, 0.0]
    """
    total = float(counts.sum())
    if total < least:
        return np.zeros_like(counts)
    halves = np.array_split(counts, 2)
    fewest, most = sorted(float(half.sum()) for half in halves)
    sparse = len(counts) <= SHORT and total < SHORT * least and fewest < least
    if len(counts) < 2 or most < least or sparse:
        return np.full_like(counts, total / len(counts))
    parts = np.concatenate([spread(half, least) for half in halves])
    return np.asarray(parts * (total / parts.sum()))
