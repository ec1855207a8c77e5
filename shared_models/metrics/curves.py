"""ROC and precision-recall curve at a grid of points with 95 % bands, from counts of scores in bins, for a figure.

A band is pointwise: at each point of the grid it holds the true curve in 95 of 100 samples. Two things are uncertain of
the sensitivity at a false positive rate f: which threshold has that rate, and how many positives lie above it. Both are
shares of patients, with Wilson's intervals: the threshold's true rate lies between f's bounds, so that the curve's own
values there are the bounds of the first part, and the bounds of the sensitivity at a fixed threshold those of the
second. They are of different patients, and their distances from the curve add up as squares (Zou and Donner's bounds of
a sum, see `rates`). The same with the classes exchanged gives the false positive rate at a recall, from which, and from
the share of positives, the precision follows. `tests/shared_models/metrics/test_curves.py` simulates the coverage.

Where cells are merged, the upper bound is of the curve with positives at the upper ends of their cells and the others
at the lower, and the lower bound of the opposite: what merging hides widens the band.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from shared_models.metrics.arrays import Array
from shared_models.metrics.rates import wilson_bounds

GRID: Final = np.linspace(0.0, 1.0, 51)
METRICS: Final[Mapping[str, str]] = {
    "roc_false_positive_rate": "ROC curve: share of the others at or above a threshold, 51 points",
    "roc_true_positive_rate": "share of positives at or above it, between two bins as if scores were even in them",
    "roc_true_positive_rate_low": "lower bound of its 95 % interval at that share of the others (Wilson of both "
    "classes, distances added as squares; widened by what merged cells hide)",
    "roc_true_positive_rate_high": "upper bound",
    "pr_recall": "precision-recall curve: share of positives at or above a threshold, 50 points",
    "pr_precision": "share of positives among all at or above the highest threshold of that recall or more",
    "pr_precision_low": "lower bound of its 95 % interval at that recall (as of the ROC curve, and Wilson of the share "
    "of positives)",
    "pr_precision_high": "upper bound",
}


@dataclass(frozen=True)
class Classes:
    """Scores of both classes in bins, and how many patients they stand for.

    Attributes:
        positives: (bins,) counts or weights.
        negatives: (bins,) likewise.
        positive_patients: How many patients the weights stand for; their sum where they are counts.
        negative_patients: likewise.
    """

    positives: Array
    negatives: Array
    positive_patients: float
    negative_patients: float

    @property
    def empty(self) -> bool:
        """Whether there is no curve, for want of a class."""
        return not (self.positives.sum() > 0 and self.negatives.sum() > 0)

    @property
    def share(self) -> float:
        """Of positives among all."""
        return float(self.positives.sum() / (self.positives.sum() + self.negatives.sum()))

    def rates(self) -> tuple[Array, Array]:
        """False and true positive rates from the highest threshold to the lowest, (bins + 1,) each."""
        true, false = (np.concatenate([[0.0], np.cumsum(one[::-1])]) for one in (self.positives, self.negatives))
        return false / false[-1], true / true[-1]


def curves(classes: Classes, lowest: Classes | None = None, highest: Classes | None = None) -> dict[str, list[float]]:
    """The points and their bounds, by name; nan where a class is empty.

    Args:
        classes: The patients.
        lowest: The same where merged cells may hide a lower curve; `classes` if left out.
        highest: The same where they may hide a higher one.
    """
    if classes.empty:
        sizes = [len(GRID) - name.startswith("pr") for name in METRICS]
        return {name: [float("nan")] * size for name, size in zip(METRICS, sizes, strict=True)}
    lowest, highest = lowest or classes, highest or classes
    false, true = classes.rates()
    recall, place = GRID[1:], _place(true, GRID[1:])
    precision = _precision(true[place], false[place], classes.share)
    points = (
        *(GRID, _along(false, true, GRID), _roc_bounds(lowest)[0], _roc_bounds(highest)[1]),
        *(recall, precision, _precision_bounds(lowest)[0], _precision_bounds(highest)[1]),
    )
    return {name: values.tolist() for name, values in zip(METRICS, points, strict=True)}


def _roc_bounds(classes: Classes) -> tuple[Array, Array]:
    """Of the sensitivity at each false positive rate of the grid."""
    false, true = classes.rates()
    value = _along(false, true, GRID)
    low, high = wilson_bounds(value, classes.positive_patients)
    ends = (_along(false, true, end) for end in wilson_bounds(GRID, classes.negative_patients))
    below, above = _added(value, low, high, *ends)
    below[0], above[-1] = 0.0, 1.0  # at no false positives the true sensitivity may be 0
    return below, above


def _precision_bounds(classes: Classes) -> tuple[Array, Array]:
    """Of the precision at each recall of the grid, without 0."""
    (false, true), share = classes.rates(), classes.share
    place = _place(true, GRID[1:])
    recall, rate = true[place], false[place]
    fewest, most = _false_rate_bounds(classes)
    low, high = _added(
        _precision(recall, rate, share),
        _precision(recall, most, share),
        _precision(recall, fewest, share),
        *(_precision(recall, rate, end) for end in _share_bounds(classes)),
    )
    low[-1] = min(low[-1], _share_bounds(classes)[0])  # with all patients above the threshold
    return low, high


def _false_rate_bounds(classes: Classes) -> tuple[Array, Array]:
    """Of the false positive rate at each recall of the grid, without 0; unknown beyond the outermost positives."""
    (false, true), patients = classes.rates(), classes.positive_patients
    rate = false[_place(true, GRID[1:])]
    first, last = wilson_bounds(GRID[1:], patients)
    return _added(
        rate,
        *wilson_bounds(rate, classes.negative_patients),
        np.where(first * patients < 1, 0.0, false[_place(true, first)]),
        np.where((1 - last) * patients < 1, 1.0, false[_place(true, last)]),
    )


def _share_bounds(classes: Classes) -> tuple[float, float]:
    low, high = wilson_bounds(np.array([classes.share]), classes.positive_patients + classes.negative_patients)
    return float(low[0]), float(high[0])


def _added(value: Array, low: Array, high: Array, other_low: Array, other_high: Array) -> tuple[Array, Array]:
    """Bounds of a number with two sources of error, from its bounds where only one is there."""
    below = np.hypot(value - low, np.maximum(value - other_low, 0.0))
    above = np.hypot(high - value, np.maximum(other_high - value, 0.0))
    return np.maximum(value - below, 0.0), np.minimum(value + above, 1.0)


def _precision(true_rate: Array, false_rate: Array, share: float) -> Array:
    points = share * true_rate
    return np.asarray(points / (points + (1 - share) * false_rate))


def _place(true_rate: Array, recall: Array) -> Array:
    """The first threshold, from above, of that recall or more."""
    return np.minimum(np.searchsorted(true_rate, recall - 1e-12), len(true_rate) - 1)


def _along(false_rate: Array, true_rate: Array, at: Array) -> Array:
    """The true positive rate at each false one: the highest where a step is upright."""
    last = np.searchsorted(false_rate, at, side="right") - 1
    next_one = np.minimum(last + 1, len(false_rate) - 1)
    width = false_rate[next_one] - false_rate[last]
    share = np.divide(at - false_rate[last], width, out=np.zeros_like(width), where=width > 0)
    return np.asarray(true_rate[last] + share * (true_rate[next_one] - true_rate[last]))
