"""Metrics of a histogram of scores beside its AUC: rates at a threshold, recalibration and curves, with intervals."""

import math
from collections.abc import Mapping
from typing import Final, Protocol

import numpy as np

from shared_models.metrics import curves, decision_curve, rates_by_threshold, recalibration, risk_histogram
from shared_models.metrics.arrays import Array, PooledMetrics
from shared_models.metrics.confusion_counts import ConfusionCounts, threshold_metrics
from shared_models.metrics.rates import (
    average_precision_interval,
    bounds,
    brier_interval,
    effective,
    named,
    rate_bounds,
)
from shared_models.metrics.scores import ScoreRange, bin_logits, left_edges

METRICS: Final[Mapping[str, str]] = bounds(
    {
        "f1": "F1 at the threshold",
        "sensitivity": "share of positives at or above the threshold",
        "specificity": "share of negatives below it",
        "precision": "share of positives among those at or above it",
        "npv": "share of negatives among those below it",
        "flagged": "share of patients at or above it",
        "accuracy": "share of patients called rightly at the threshold",
        "balanced_accuracy": "mean of sensitivity and specificity",
        "mcc": "Matthews's correlation of calls and outcomes",
        "average_precision": "area under the precision-recall curve, as the mean precision over the steps of recall",
    },
    {
        **dict.fromkeys(("sensitivity", "specificity", "precision", "npv", "flagged", "accuracy"), "Wilson"),
        "f1": "Wilson, of true positives among those positive or called so",
        "balanced_accuracy": "Zou and Donner, of Wilson's",
        "mcc": "delta method on Fisher's scale",
        "average_precision": "Boyd, on the logit scale",
    },
) | {
    **recalibration.METRICS,
    **decision_curve.METRICS,
    **curves.METRICS,
    **rates_by_threshold.METRICS,
    **risk_histogram.METRICS,
    "brier_low": "lower bound of the 95 % interval of `brier` (on the logit scale)",
    "brier_high": "upper bound",
}


BESIDE_COUNTS = ("accuracy", "balanced_accuracy", "mcc", "npv", "flagged")
"""Rates that follow from the counts at the threshold, beside those that a site gives of itself, too."""
Classes = tuple[Array, Array]
"""Positives and negatives, (bins,) each."""


class Histogram(Protocol):
    """Counts or weights of scores in bins, as `ScoreHistogram` has them."""

    @property
    def positives(self) -> Array:
        """(bins,) of those with the outcome."""

    @property
    def negatives(self) -> Array:
        """(bins,) of those without."""

    @property
    def n_positive(self) -> float:
        """Sum of those with the outcome."""

    @property
    def n_negative(self) -> float:
        """Sum of those without."""

    @property
    def score_range(self) -> ScoreRange | None:
        """What the bins were made of."""

    def confusion(self, threshold: float) -> ConfusionCounts:
        """Counts at a threshold."""

    def average_precision(self) -> float:
        """Area under the precision-recall curve."""

    def extremes(self) -> tuple[Classes, Classes]:
        """Positives and negatives where what merged cells hide makes the curves lowest and highest, (bins,) each."""


def score_metrics(histogram: Histogram, threshold: float, squares: Histogram | None = None) -> PooledMetrics:
    """What a histogram gives beside its AUC, by name, with intervals: rates, recalibration, curves.

    Args:
        histogram: counts, or sums of weights.
        threshold: an edge of a bin.
        squares: sums of the squared weights; the counts themselves if left out.
    """
    squared = squares or histogram
    counts, classes = histogram.confusion(threshold), (histogram.positives, histogram.negatives)
    of_squares, scores = (
        (squared.positives, squared.negatives),
        1 / (1 + np.exp(-bin_logits(len(classes[0]), histogram.score_range))),
    )
    further = {name: float(getattr(counts, name)) for name in BESIDE_COUNTS}
    metrics: PooledMetrics = {
        **threshold_metrics(counts),
        **further,
        **rate_bounds(counts, squared.confusion(threshold)),
    }
    metrics["average_precision"] = precision = histogram.average_precision()
    positives = effective(histogram.n_positive, squared.n_positive)
    metrics |= named("average_precision", average_precision_interval(precision, positives))
    metrics |= named("brier", brier_interval(scores, classes, of_squares))
    metrics |= _recalibration(histogram, classes, of_squares)
    metrics |= decision_curve.decision_curve(*classes, of_squares, histogram.score_range)
    metrics |= risk_histogram.risk_histogram(classes, of_squares, histogram.score_range)
    edges = left_edges(len(classes[0]), histogram.score_range)
    metrics |= rates_by_threshold.rates_by_threshold(histogram.confusion, squared.confusion, edges)
    patients = (positives, effective(histogram.n_negative, squared.n_negative))
    return metrics | curves.curves(*(curves.Classes(*each, *patients) for each in (classes, *histogram.extremes())))


def _recalibration(histogram: Histogram, classes: Classes, of_squares: Classes) -> dict[str, float]:
    """Slope and the like, with bounds that also hold what they are at either end of what merged cells hide.

    Cells draw the scores of their patients together, so that the slope of their middles alone is too steep. All is nan
    where one threshold could part the classes at an end: then the cells leave the slope open.
    """
    numbers = recalibration.recalibration(*classes, of_squares, histogram.score_range)
    ends = [each for each in histogram.extremes() if each[0] is not classes[0]]  # the same where nothing is merged
    for end in ends:
        there = recalibration.recalibration(*end, score_range=histogram.score_range)
        for name in ("calibration_in_the_large", "calibration_slope", "calibration_intercept"):
            shift = there[name] - numbers[name]
            low, high = numbers[f"{name}_low"] + min(0.0, shift), numbers[f"{name}_high"] + max(0.0, shift)
            if math.isnan(shift):
                numbers[name] = low = high = math.nan
            numbers |= {f"{name}_low": low, f"{name}_high": high}
    return numbers
