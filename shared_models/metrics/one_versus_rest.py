"""AUC of each class of several against the rest, from additive histograms of the classes' probabilities."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from shared_models.metrics.arrays import AGREED, MATRIX, Array, PooledMetrics, add
from shared_models.metrics.binary import ScoreHistogram, pooled_auc_interval
from shared_models.metrics.merged_cells import MergedHistogram, merge_histogram
from shared_models.metrics.scores import ScoreRange


@dataclass(frozen=True, eq=False)
class OneVersusRest:
    """For each class, a histogram of its probability over the patients who have it and over the others.

    Attributes:
        positives: (classes, bins) patients of the class.
        negatives: (classes, bins) all others.
        score_ranges: where most probabilities of each class lie, on the logit scale; none where that is not known.

    Example:
        >>> table = OneVersusRest.of([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7]], [0, 1, 2])
        >>> table.metrics(0.5)["auc_by_class"]
        [1.0, 1.0, 1.0]
    """

    METRICS: ClassVar[Mapping[str, str]] = {
        "auc_by_class": "AUC of each class against the rest, of its probability in 1,024 bins",
        "auc_by_class_low": "lower bounds of their 95 % intervals, as of a binary target's",
        "auc_by_class_high": "upper bounds",
        "auc_by_class_bound": "the AUC of the rows lies within this of each",
        "macro_auc": "mean of them over the classes that have patients",
    }

    positives: Array = field(metadata=MATRIX)
    negatives: Array = field(metadata=MATRIX)
    score_ranges: tuple[ScoreRange, ...] = field(default=(), kw_only=True, metadata=AGREED)

    @classmethod
    def of(
        cls,
        scores: npt.ArrayLike,
        labels: npt.ArrayLike,
        bins: int = 1024,
        score_ranges: tuple[ScoreRange, ...] = (),
    ) -> "OneVersusRest":
        """Count the patients whose class is known.

        Args:
            scores: (N, classes) probabilities.
            labels: (N,) number of the true class; nan for unknown.
            bins: the same at every site.
            score_ranges: likewise.
        """
        probabilities, truth = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=np.float64)
        each = []
        for index in range(probabilities.shape[1]):
            is_class = np.where(np.isnan(truth), np.nan, truth == index)
            score_range = score_ranges[index] if score_ranges else None
            each.append(ScoreHistogram.of(np.clip(probabilities[:, index], 0.0, 1.0), is_class, bins, score_range))
        counts = (np.stack([getattr(one, name) for one in each]) for name in ("positives", "negatives"))
        return OneVersusRest(*counts, score_ranges=score_ranges)

    def __add__(self, other: Self) -> Self:
        return add(self, other)

    def histograms(self) -> list[ScoreHistogram]:
        """Of each class."""
        counts, ranges = zip(self.positives, self.negatives, strict=True), self.ranges()
        return [ScoreHistogram(*rows, score_range=one) for rows, one in zip(counts, ranges, strict=True)]

    def ranges(self) -> Sequence[ScoreRange | None]:
        """Of each class."""
        return self.score_ranges or [None] * len(self.positives)

    def metrics(self, threshold: float) -> PooledMetrics:
        """AUC with interval and certificate by class; the threshold plays no part."""
        del threshold
        histograms = self.histograms()
        intervals = [pooled_auc_interval(one) for one in histograms]
        known = [interval.value for interval in intervals if not math.isnan(interval.value)]
        return {
            "auc_by_class": [interval.value for interval in intervals],
            "auc_by_class_low": [interval.low for interval in intervals],
            "auc_by_class_high": [interval.high for interval in intervals],
            "auc_by_class_bound": [one.auc_bound() for one in histograms],
            "macro_auc": float(np.mean(known)) if known else math.nan,
        }

    def without_small_cells(self, least: float) -> "MergedOneVersusRest":
        """Each class's histogram without a cell of fewer than ``least`` patients; a rare class's is empty."""
        merged = [merge_histogram(one, least) for one in self.histograms()]
        names = ("positives", "negatives", "positives_low", "positives_high", "negatives_low", "negatives_high")
        counts = (np.stack([getattr(one, name) for one in merged]) for name in names)
        return MergedOneVersusRest(*counts, score_ranges=self.score_ranges)


@dataclass(frozen=True, eq=False)
class MergedOneVersusRest(OneVersusRest):
    """A `OneVersusRest` of merged cells, with the ends of its cells as `MergedHistogram` has them.

    Attributes:
        positives_low: (classes, bins) patients of the class at the lowest bin of their cells.
        positives_high: (classes, bins) at the highest.
        negatives_low: (classes, bins) the others at the lowest.
        negatives_high: (classes, bins) at the highest.
    """

    positives_low: Array = field(metadata=MATRIX)
    positives_high: Array = field(metadata=MATRIX)
    negatives_low: Array = field(metadata=MATRIX)
    negatives_high: Array = field(metadata=MATRIX)

    def histograms(self) -> list[ScoreHistogram]:
        """Of each class, with the ends of its cells."""
        ends = (self.positives_low, self.positives_high, self.negatives_low, self.negatives_high)
        counts, ranges = zip(self.positives, self.negatives, *ends, strict=True), self.ranges()
        return [MergedHistogram(*rows, score_range=one) for rows, one in zip(counts, ranges, strict=True)]

    def without_small_cells(self, least: float) -> "MergedOneVersusRest":
        """Itself: it has none."""
        del least
        return self
