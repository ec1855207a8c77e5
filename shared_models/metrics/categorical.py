"""Metrics of a target with several classes from an additive confusion matrix."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from shared_models.metrics.arrays import MATRIX, Array, PooledMetrics, add
from shared_models.metrics.interval import Interval, logit_interval
from shared_models.metrics.merged_cells import group_small_classes
from shared_models.metrics.rates import LEVEL, bounds, named, wilson
from shared_models.metrics.scores import finite


@dataclass(frozen=True, eq=False)
class ConfusionMatrix:
    """How many patients of each class were called each class. Merges by addition.

    Attributes:
        counts: (classes, classes): row the true class, column the called one.

    Example:
        >>> ConfusionMatrix.of([0, 1, 1], [0, 1, 0], classes=2).counts.tolist()
        [[1.0, 1.0], [0.0, 1.0]]
    """

    METRICS: ClassVar[Mapping[str, str]] = {
        "patients": "patients whose class is known",
        **bounds(
            {
                "accuracy": "share of them called rightly",
                "balanced_accuracy": "mean sensitivity over the classes",
                "macro_f1": "mean F1 over the classes",
                "patients_by_class": "patients of each class, in the order of the target's classes",
                "sensitivity_by_class": "share of each class's patients called so",
                "precision_by_class": "share of those called each class who have it",
                "f1_by_class": "F1 of each class",
            },
            {
                **dict.fromkeys(("accuracy", "sensitivity_by_class", "precision_by_class"), "Wilson"),
                "f1_by_class": "Wilson, of those rightly called among all who have the class or are called so",
                **dict.fromkeys(("balanced_accuracy", "macro_f1"), "delta method on the logit scale"),
            },
        ),
    }

    counts: Array = field(metadata=MATRIX)

    def __post_init__(self) -> None:
        if self.counts.shape[0] != self.counts.shape[1] or len(self.counts) < 2:
            message = f"a confusion matrix is square over 2 classes or more, not {self.counts.shape}"
            raise ValueError(message)

    @classmethod
    def of(cls, predicted: npt.ArrayLike, labels: npt.ArrayLike, classes: int) -> "ConfusionMatrix":
        """Count the patients whose label is known.

        Args:
            predicted: (N,) number of the class called.
            labels: (N,) number of the true class; nan for unknown.
            classes: how many there are.

        Raises:
            ValueError: for numbers that are not a class, or lengths that differ.
        """
        calls, truth = finite(predicted, "called"), np.asarray(labels, dtype=np.float64)
        if calls.shape != truth.shape:
            message = f"there are labels of shape {truth.shape} for calls of shape {calls.shape}"
            raise ValueError(message)
        calls, truth = calls[~np.isnan(truth)], truth[~np.isnan(truth)]
        if not (np.isin(calls, range(classes)).all() and np.isin(truth, range(classes)).all()):
            message = f"classes are numbered 0 to {classes - 1}"
            raise ValueError(message)
        cells = np.bincount((truth * classes + calls).astype(np.intp), minlength=classes * classes)
        return cls(cells.reshape(classes, classes).astype(np.float64))

    @classmethod
    def of_probabilities(cls, scores: npt.ArrayLike, labels: npt.ArrayLike) -> "ConfusionMatrix":
        """Count each patient as called the likeliest class.

        Args:
            scores: (N, classes) probabilities.
            labels: (N,) number of the true class; nan for unknown.
        """
        probabilities = np.asarray(scores)
        return cls.of(probabilities.argmax(axis=1), labels, classes=probabilities.shape[1])

    def __add__(self, other: "ConfusionMatrix") -> "ConfusionMatrix":
        return add(self, other)

    def without_small_cells(self, least: float) -> "ConfusionMatrix":
        """With rare calls of each class grouped; nothing of a class with fewer than `least` patients."""
        return ConfusionMatrix(np.stack([group_small_classes(row, least) for row in self.counts]))

    @property
    def n(self) -> float:
        """Number of patients."""
        return float(self.counts.sum())

    def metrics(self, threshold: float) -> PooledMetrics:
        """Accuracy and macro F1; the threshold plays no part."""
        del threshold
        right, row, column = np.diag(self.counts), self.counts.sum(axis=1), self.counts.sum(axis=0)
        jaccard = self._wilson(right, row + column - right)
        by_class = {
            "sensitivity_by_class": self._wilson(right, row),
            "precision_by_class": self._wilson(right, column),
            "f1_by_class": [Interval(*(2 * end / (1 + end) for end in (j.value, j.low, j.high))) for j in jaccard],
        }
        macro_f1 = self._delta(self.macro_f1, 2 * right, row + column, (1.0, 1.0))
        balanced = self._delta(self.balanced_accuracy, right, row, (1.0, 0.0))
        metrics: PooledMetrics = {"patients": self.n, "accuracy": self.accuracy, "macro_f1": self.macro_f1}
        metrics |= {"balanced_accuracy": self.balanced_accuracy, "patients_by_class": row.tolist()}
        metrics |= named("accuracy", wilson(self.accuracy, self.n)) | named("macro_f1", macro_f1)
        metrics |= named("balanced_accuracy", balanced)
        for name, each in by_class.items():
            metrics |= {name: [one.value for one in each]}
            metrics |= {f"{name}_low": [one.low for one in each], f"{name}_high": [one.high for one in each]}
        return metrics

    @staticmethod
    def _wilson(parts: Array, wholes: Array) -> list[Interval]:
        shares = np.divide(parts, wholes, out=np.full(len(parts), np.nan), where=wholes > 0)
        return [wilson(float(share), float(whole)) for share, whole in zip(shares, wholes, strict=True)]

    def _delta(self, value: float, parts: Array, wholes: Array, enters: tuple[float, float]) -> Interval:
        """Of the mean ratio of parts, a multiple of the diagonal, and wholes, into which rows and columns enter."""
        occurs = wholes > 0
        if not occurs.any():
            return Interval(value, math.nan, math.nan)
        safe, part = np.where(occurs, wholes, 1.0), sum(enters)  # F1 counts the diagonal twice, as its wholes do
        by_whole = np.where(occurs, -parts / safe**2, 0.0)
        slopes = enters[0] * by_whole[:, None] + enters[1] * by_whole[None, :]
        slopes = (slopes + np.diag(np.where(occurs, part / safe, 0.0))) / occurs.sum()
        return logit_interval(value, float((self.counts * slopes**2).sum()), float(self.n), LEVEL)

    @property
    def accuracy(self) -> float:
        """Share of patients called rightly; nan without patients."""
        return float(np.trace(self.counts)) / self.n if self.n > 0 else math.nan

    @property
    def macro_f1(self) -> float:
        """Mean F1 over the classes that occur or are called, as in scikit-learn; nan without patients."""
        margins = self.counts.sum(axis=0) + self.counts.sum(axis=1)
        return _mean_ratio(2 * np.diag(self.counts), margins)

    @property
    def balanced_accuracy(self) -> float:
        """Mean sensitivity over the classes that occur; nan without patients."""
        return _mean_ratio(np.diag(self.counts), self.counts.sum(axis=1))


def _mean_ratio(parts: Array, wholes: Array) -> float:
    """Mean of parts over wholes, of the wholes that are not empty."""
    occurs = wholes > 0
    return float((parts[occurs] / wholes[occurs]).mean()) if occurs.any() else math.nan
