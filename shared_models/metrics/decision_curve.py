"""Net benefit of deciding by a score, from counts of scores in bins.

At a threshold probability p, at which a patient would be treated, a false positive costs p / (1 - p) of what a true
positive gains. The net benefit is compared with treating none, which is 0, and with treating all.

References:
    Vickers & Elkin, Decision curve analysis: a novel method for evaluating prediction models. Medical Decision Making
        26 (2006) 565-574.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from shared_models.metrics.arrays import Array
from shared_models.metrics.rates import mean_interval
from shared_models.metrics.scores import ScoreRange, left_edges

THRESHOLDS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
MIN_CALLED = 5
"""Patients called positive, below which an interval by their variance means little."""
METRICS: Final[Mapping[str, str]] = {
    "net_benefit_threshold": "decision curve: thresholds, the edges of bins nearest to 5, 10, 15, 20, 25, 30, 40, 50 %",
    "net_benefit": "net benefit of calling those at or above the threshold positive, per patient",
    "net_benefit_low": "lower bound of its 95 % interval (Wald); undefined where fewer than 5 are called",
    "net_benefit_high": "upper bound",
    "net_benefit_of_all": "net benefit of calling all positive; of calling none it is 0",
}


def decision_curve(
    positives: Array,
    negatives: Array,
    squares: tuple[Array, Array] | None = None,
    score_range: ScoreRange | None = None,
) -> dict[str, list[float]]:
    """The points of the curve; nan without patients.

    Args:
        positives: (bins,) counts or weights of those with the outcome.
        negatives: (bins,) of those without.
        squares: sums of the squared weights of both; the counts themselves if left out.
        score_range: what the bins were made of.
    """
    edges = left_edges(len(positives), score_range)
    cuts = [int(np.abs(edges - threshold).argmin()) for threshold in THRESHOLDS]
    odds = edges[cuts] / (1 - edges[cuts])
    total = float(positives.sum() + negatives.sum())
    true, false = (np.cumsum(counts[::-1])[::-1] / (total or np.nan) for counts in (positives, negatives))
    counted = (positives, negatives)
    gained = [np.arange(len(edges)) >= cut for cut in cuts]
    values = [(flagged.astype(float), -odd * flagged) for flagged, odd in zip(gained, odds, strict=True)]
    intervals = [mean_interval(value, counted, squares or counted) for value in values]
    few = total * (true + false)[cuts] < MIN_CALLED
    low, high = (np.where(few, np.nan, [getattr(interval, end) for interval in intervals]) for end in ("low", "high"))
    curves = (edges[cuts], true[cuts] - false[cuts] * odds, low, high, true[0] - false[0] * odds)
    return {name: curve.tolist() for name, curve in zip(METRICS, curves, strict=True)}
