"""True and false positives and negatives at a threshold, and the rates that they give."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared_models.metrics.arrays import add
from shared_models.metrics.scores import labelled, probabilities


def share(part: float, whole: float) -> float:
    """Part of the whole; nan of nothing."""
    return part / whole if whole > 0 else math.nan


@dataclass(frozen=True)
class ConfusionCounts:
    """How many were rightly and wrongly called positive and negative at a threshold. Merges by addition.

    Each rate is nan where its denominator is empty; so is F1 where none is positive or predicted so (0/0), which other
    software reports as 0.
    """

    tp: float
    fp: float
    tn: float
    fn: float

    @classmethod
    def of(cls, scores: npt.ArrayLike, labels: npt.ArrayLike, threshold: float) -> "ConfusionCounts":
        """Count patients whose score is at least ``threshold`` as called positive.

        Args:
            scores: (N,) in [0, 1].
            labels: (N,) of 0, 1, or nan for unknown: those are left out.
            threshold: probability.

        Raises:
            ValueError: for a nan threshold, scores outside [0, 1] or other labels.
        """
        if math.isnan(threshold):
            message = "a nan threshold calls no patient positive: both classes are needed to choose one"
            raise ValueError(message)
        values, positive = labelled(probabilities(scores, "scores"), labels)
        flagged = values >= threshold
        cells = (flagged & positive, flagged & ~positive, ~flagged & ~positive, ~flagged & positive)
        return cls(*(float(np.count_nonzero(cell)) for cell in cells))

    def __add__(self, other: "ConfusionCounts") -> "ConfusionCounts":
        return add(self, other)

    @property
    def n(self) -> float:
        """Number of patients."""
        return self.tp + self.fp + self.tn + self.fn

    @property
    def sensitivity(self) -> float:
        """Share of positives called positive; nan without positives."""
        return share(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> float:
        """Share of negatives called negative; nan without negatives."""
        return share(self.tn, self.tn + self.fp)

    @property
    def precision(self) -> float:
        """Share of positives among those predicted so; nan if none is."""
        return share(self.tp, self.tp + self.fp)

    @property
    def npv(self) -> float:
        """Share of negatives among those predicted so; nan if none is."""
        return share(self.tn, self.tn + self.fn)

    @property
    def flagged(self) -> float:
        """Share of all patients called positive; nan without patients."""
        return share(self.tp + self.fp, self.n)

    @property
    def f1(self) -> float:
        """Harmonic mean of sensitivity and precision; nan if none is positive or predicted so."""
        return share(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def accuracy(self) -> float:
        """Share of patients called rightly; nan without patients."""
        return share(self.tp + self.tn, self.n)

    @property
    def balanced_accuracy(self) -> float:
        """Mean of sensitivity and specificity; nan without both classes."""
        return (self.sensitivity + self.specificity) / 2

    @property
    def mcc(self) -> float:
        """Matthews's correlation of calls and labels; nan if all calls, or all labels, are alike."""
        margins = (self.tp + self.fp) * (self.tp + self.fn) * (self.tn + self.fp) * (self.tn + self.fn)
        return share(self.tp * self.tn - self.fp * self.fn, math.sqrt(margins))


def threshold_metrics(counts: ConfusionCounts) -> dict[str, float]:
    """Counts and rates at a threshold, by name."""
    names = ("tp", "fp", "tn", "fn", "f1", "sensitivity", "specificity", "precision")
    return {name: float(getattr(counts, name)) for name in names}
