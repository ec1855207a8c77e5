"""Net benefit of deciding by a score, from counts of scores in bins.

At a threshold probability p, at which a patient would be treated, a false positive costs p / (1 - p) of what a true
positive gains. The net benefit is compared with treating nobody, which is 0, and with treating all.

References:
    Vickers & Elkin, Decision curve analysis: a novel method for evaluating prediction models. Medical Decision Making
        26 (2006) 565-574.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from shared_models.metrics.arrays import Array
from shared_models.metrics.scores import left_edges

THRESHOLDS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
METRICS: Final[Mapping[str, str]] = {
    "net_benefit_threshold": "decision curve: thresholds, the edges of bins nearest to 5, 10, 15, 20, 25, 30, 40, 50 %",
    "net_benefit": "net benefit of calling those at or above the threshold positive, per patient",
    "net_benefit_of_all": "net benefit of calling all positive; of calling none it is 0",
}


def decision_curve(positives: Array, negatives: Array) -> dict[str, list[float]]:
    """The points of the curve; nan without patients.

    Args:
        positives: (bins,) counts or weights of those with the outcome.
        negatives: (bins,) of those without.
    """
    edges = left_edges(len(positives))
    cuts = [int(np.abs(edges - threshold).argmin()) for threshold in THRESHOLDS]
    odds = edges[cuts] / (1 - edges[cuts])
    total = float(positives.sum() + negatives.sum())
    true, false = (np.cumsum(counts[::-1])[::-1] / (total or np.nan) for counts in (positives, negatives))
    curves = (edges[cuts], true[cuts] - false[cuts] * odds, true[0] - false[0] * odds)
    return {name: curve.tolist() for name, curve in zip(METRICS, curves, strict=True)}
