"""Metrics of a binary target (AUC, F1, sensitivity, specificity) from additive histograms of scores.

Each site counts the scores of its positives and of its negatives in fixed bins. The sums give the ROC of all
patients, and a certificate of how far the AUC of the bins may lie from that of the scores: only pairs that share a
bin are undecided, and each counts one half where it might have counted 0 or 1.

What concerns the patients of one place, whose rows are at hand, is exact: `auc`, `auc_interval` and `delong_test`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from shared_models.metrics import score_metrics
from shared_models.metrics.arrays import AGREED, VECTOR, Array, PooledMetrics, add, require_equal_shapes
from shared_models.metrics.confusion_counts import ConfusionCounts, share
from shared_models.metrics.delong import PairedTest, auc, auc_interval, delong_test, larger_variance
from shared_models.metrics.interval import Interval, logit_interval
from shared_models.metrics.scores import ScoreRange, bin_of, labelled, left_edges, probabilities

__all__ = [
    "PairedTest",
    "ScoreHistogram",
    "auc",
    "auc_interval",
    "delong_test",
    "pooled_auc_interval",
]


@dataclass(frozen=True, eq=False)
class ScoreHistogram:
    """The scores of the positives and of the negatives, counted in fixed bins. Merges by addition.

    Attributes:
        positives: (bins,) counts.
        negatives: (bins,) counts.
        score_range: where most scores lie, on the logit scale, if that is known: see `left_edges`.

    Example:
        >>> histogram = ScoreHistogram.of([0.9, 0.4], [1, 0]) + ScoreHistogram.of([0.2], [0])
        >>> histogram.n, histogram.auc()
        (3.0, 1.0)
    """

    METRICS: ClassVar[Mapping[str, str]] = {
        "patients": "patients whose outcome is known",
        "positives": "those of them who have it",
        "auc": "area under the ROC curve, of scores in 1,024 bins",
        "auc_low": "lower bound of its 95 % interval (larger of DeLong's and Hanley-McNeil's variance, on the logit "
        "scale, widened by what the bins hide)",
        "auc_high": "upper bound",
        "auc_bound": "the AUC of the rows lies within this of `auc`",
        "tp": "true positives at the threshold",
        "fp": "false positives",
        "tn": "true negatives",
        "fn": "false negatives",
        **score_metrics.METRICS,
    }

    positives: Array = field(metadata=VECTOR)
    negatives: Array = field(metadata=VECTOR)
    score_range: ScoreRange | None = field(default=None, kw_only=True, metadata=AGREED)

    def __post_init__(self) -> None:
        require_equal_shapes(self)
        left_edges(len(self.positives))

    @property
    def edges(self) -> Array:
        """The left edge of each bin, (bins,)."""
        return left_edges(len(self.positives), self.score_range)

    @classmethod
    def of(
        cls, scores: npt.ArrayLike, labels: npt.ArrayLike, bins: int = 1024, score_range: ScoreRange | None = None
    ) -> "ScoreHistogram":
        """Count the patients whose label is known.

        Args:
            scores: (N,) in [0, 1].
            labels: (N,) of 0, 1, or nan for unknown: those are left out.
            bins: the same at every site.
            score_range: likewise.

        Raises:
            ValueError: for scores that are not finite or outside [0, 1], and for other labels.
        """
        values, positive = labelled(probabilities(scores, "scores"), labels)
        where = bin_of(values, bins, score_range)
        counts = (np.bincount(where[group], minlength=bins).astype(np.float64) for group in (positive, ~positive))
        return cls(*counts, score_range=score_range)

    def __add__(self, other: "ScoreHistogram") -> "ScoreHistogram":
        return add(self, other)

    @property
    def n(self) -> float:
        """Number of patients."""
        return self.n_positive + self.n_negative

    @property
    def n_positive(self) -> float:
        """Number of positives."""
        return float(self.positives.sum())

    @property
    def n_negative(self) -> float:
        """Number of negatives."""
        return float(self.negatives.sum())

    def auc(self) -> float:
        """AUC of the bins, pairs that share one counting one half; nan if a class is empty."""
        below = np.cumsum(self.negatives) - self.negatives / 2
        return share(float(self.positives @ below), self.n_positive * self.n_negative)

    def limits(self) -> tuple[float, float]:
        """The lowest and highest AUC that scores with these counts can have: pairs that share a bin are undecided."""
        undecided = share(float(self.positives @ self.negatives) / 2, self.n_positive * self.n_negative)
        return self.auc() - undecided, self.auc() + undecided

    def auc_bound(self) -> float:
        """The AUC of the scores lies within this of `auc`."""
        return self.bound_of(self.auc())

    def bound_of(self, value: float) -> float:
        """The AUC of the scores lies within this of a value."""
        low, high = self.limits()
        return max(high - value, value - low)

    def confusion(self, threshold: float) -> ConfusionCounts:
        """Exactly what `ConfusionCounts.of` counts on the scores.

        Raises:
            ValueError: if ``threshold`` is not an edge of a bin (`threshold` and 0.5 are).
        """
        cut = int(np.searchsorted(self.edges, threshold))
        if cut == len(self.positives) or self.edges[cut] != threshold:
            message = f"{threshold} is not an edge of the {len(self.positives)} bins"
            raise ValueError(message)
        parts = (self.positives[cut:], self.negatives[cut:], self.negatives[:cut], self.positives[:cut])
        return ConfusionCounts(*(float(part.sum()) for part in parts))

    def threshold(self, rule: str) -> float:
        """The best probability at and above which to call a patient positive.

        The candidates are the left edges of the bins. Of those that tie, the lowest run is taken (it misses fewer
        patients), and of the run the middle, which keeps clear of the scores on either side.

        Args:
            rule: `f1` or `youden` maximise F1, or sensitivity + specificity - 1; `sensitivity=0.9` is the highest
                threshold of that sensitivity or more, `specificity=0.9` the lowest of that specificity or more.

        Returns:
            An edge of a bin; nan if a class is empty.
        """
        if not (self.n_positive > 0 and self.n_negative > 0):
            return math.nan
        tp, fp = np.cumsum(self.positives[::-1])[::-1], np.cumsum(self.negatives[::-1])[::-1]
        name, _, share = rule.partition("=")
        if name == "sensitivity":
            enough = np.flatnonzero(tp >= float(share) * self.n_positive - 1e-9)
            return float(self.edges[enough[-1]])
        if name == "specificity":
            enough = np.flatnonzero(self.n_negative - fp >= float(share) * self.n_negative - 1e-9)
            return float(self.edges[enough[0]]) if len(enough) else 1.0
        f1 = 2 * tp / (tp + fp + self.n_positive)
        youden = tp * self.n_negative - fp * self.n_positive  # times both class sizes: whole, so that ties are exact
        gain = {"f1": f1, "youden": youden}[rule]
        best = np.flatnonzero(gain == gain.max())
        run = best[best - best[0] == np.arange(len(best))]
        return float(self.edges[run[(len(run) - 1) // 2]])

    def metrics(self, threshold: float) -> PooledMetrics:
        """AUC with its interval, and the counts and rates at the threshold, which must be an edge of a bin."""
        counts: PooledMetrics = {"patients": self.n, "positives": self.n_positive}
        return {**counts, **self.around(self.auc()), **score_metrics.score_metrics(self, threshold)}

    def around(self, value: float) -> PooledMetrics:
        """A value of the AUC with its interval and certificate."""
        interval = pooled_auc_interval(self, value=value)
        bounds: PooledMetrics = {"auc_low": interval.low, "auc_high": interval.high}
        return {"auc": interval.value, **bounds, "auc_bound": self.bound_of(value)}

    def roc(self) -> tuple[Array, Array]:
        """False and true positive rates from threshold 1 down to 0, (bins + 1,) each; nan where a class is empty."""
        rates = []
        for counts in (self.negatives, self.positives):
            above = np.concatenate([[0.0], np.cumsum(counts[::-1])])
            rates.append(above / above[-1] if above[-1] > 0 else np.full_like(above, np.nan))
        return rates[0], rates[1]

    def extremes(self) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        """Positives and negatives where the curves are lowest and highest: the same, for nothing is hidden."""
        counted = (self.positives, self.negatives)
        return counted, counted

    def average_precision(self) -> float:
        """Precision averaged over the steps of recall, a bin a step; nan without positives."""
        gained = self.positives[::-1]
        tp, flagged = np.cumsum(gained), np.cumsum((self.positives + self.negatives)[::-1])
        precision = np.divide(tp, flagged, out=np.zeros_like(tp), where=flagged > 0)
        return share(float(gained @ precision), self.n_positive)


def pooled_auc_interval(histogram: ScoreHistogram, level: float = 0.95, value: float | None = None) -> Interval:
    """The AUC of all sites with its logit-transformed DeLong interval, widened on both sides by `auc_bound`.

    DeLong's structural components are the same for all patients of a class in a bin, so the counts give their variance.
    Bounds are nan when a class has fewer than two, and Clopper-Pearson's when the variance vanishes, as in
    `auc_interval`. Another `value` than that of the bins takes its place.
    """
    m, n = histogram.n_positive, histogram.n_negative
    value = histogram.auc() if value is None else value
    if min(m, n) < 2:
        return logit_interval(value, math.nan, 0, level)
    below = (np.cumsum(histogram.negatives) - histogram.negatives / 2) / n
    above = (m - np.cumsum(histogram.positives) + histogram.positives / 2) / m
    variance = 0.0
    for counts, component, size in ((histogram.positives, below, m), (histogram.negatives, above, n)):
        variance += float(counts @ (component - value) ** 2) / (size - 1) / size
    variance = larger_variance(value, variance, m, n)
    return logit_interval(value, variance, min(m, n), level).widened(histogram.bound_of(value))
