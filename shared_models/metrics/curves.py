"""ROC and precision-recall curve at a grid of points, from counts of scores in bins, for a figure."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from shared_models.metrics.arrays import Array

GRID: Final = np.linspace(0.0, 1.0, 51)
METRICS: Final[Mapping[str, str]] = {
    "roc_false_positive_rate": "ROC curve: share of the others at or above a threshold, 51 points",
    "roc_true_positive_rate": "share of positives at or above it, between two bins as if scores were even in them",
    "pr_recall": "precision-recall curve: share of positives at or above a threshold, 50 points",
    "pr_precision": "share of positives among all at or above the highest threshold of that recall or more",
}


def curves(positives: Array, negatives: Array) -> dict[str, list[float]]:
    """The points, by name; nan where a class is empty.

    Args:
        positives: (bins,) counts or weights.
        negatives: (bins,) likewise.
    """
    nothing = [float("nan")] * len(GRID)
    names = tuple(METRICS)
    if not (positives.sum() > 0 and negatives.sum() > 0):
        return dict(zip(names, (nothing, nothing, nothing[1:], nothing[1:]), strict=True))
    true, false = (np.concatenate([[0.0], np.cumsum(counts[::-1])]) for counts in (positives, negatives))
    rate = _along(false / false[-1], true / true[-1])
    recall = GRID[1:]
    place = np.searchsorted(true / true[-1], recall - 1e-12)
    precision = true[place] / (true[place] + false[place])
    return dict(zip(names, (GRID.tolist(), rate.tolist(), recall.tolist(), precision.tolist()), strict=True))


def _along(false_rate: Array, true_rate: Array) -> Array:
    """The true positive rate at each false one of the grid: the highest where a step is upright."""
    last = np.searchsorted(false_rate, GRID, side="right") - 1
    next_one = np.minimum(last + 1, len(false_rate) - 1)
    width = false_rate[next_one] - false_rate[last]
    share = np.divide(GRID - false_rate[last], width, out=np.zeros_like(width), where=width > 0)
    return np.asarray(true_rate[last] + share * (true_rate[next_one] - true_rate[last]))
