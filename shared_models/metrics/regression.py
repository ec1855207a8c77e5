"""Metrics of a continuous target, such as Ki-67, from additive sums."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from shared_models.metrics.arrays import SIGNED, PooledMetrics, add
from shared_models.metrics.interval import Interval, log_interval
from shared_models.metrics.rates import bounds, named
from shared_models.metrics.scores import finite

STEP_PATIENTS = 5
"""Sums of errors that one site tells move in steps of what so many patients add to them, or more."""


@dataclass(frozen=True)
class RegressionSums:
    """Sums over patients of target y, prediction p and error e = p - y. Merges by addition.

    Variances come from sums of squares: targets whose mean is a million times their spread need centring first.

    Attributes:
        n: patients.
        absolute_error: sum of |e|.
        squared_error: sum of e^2.
        target: sum of y.
        target_squared: sum of y^2.
        prediction: sum of p.
        prediction_squared: sum of p^2.
        product: sum of y p.
    """

    METRICS: ClassVar[Mapping[str, str]] = {
        "patients": "patients whose number is known",
        **bounds(
            {
                "mae": "mean absolute error, in the target's unit",
                "rmse": "root mean squared error, in the target's unit",
                "r2": "share of the variance explained",
            },
            {
                "mae": "on the log scale",
                "rmse": "on the log scale, as of normal errors",
                "r2": "of the unexplained share on the log scale, as of normal numbers and errors",
            },
        ),
    }

    n: float
    absolute_error: float
    squared_error: float
    target: float = field(metadata=SIGNED)
    target_squared: float
    prediction: float = field(metadata=SIGNED)
    prediction_squared: float
    product: float = field(metadata=SIGNED)

    @classmethod
    def of(cls, predictions: npt.ArrayLike, targets: npt.ArrayLike) -> "RegressionSums":
        """Sum over the patients whose target is known.

        Args:
            predictions: (N,) finite.
            targets: (N,) in the same unit; nan for unknown.

        Raises:
            ValueError: for predictions that are not finite, infinite targets, or lengths that differ.
        """
        p, y = finite(predictions, "predictions"), np.asarray(targets, dtype=np.float64)
        if p.shape != y.shape:
            message = f"there are targets of shape {y.shape} for predictions of shape {p.shape}"
            raise ValueError(message)
        p, y = p[~np.isnan(y)], finite(y[~np.isnan(y)], "targets")
        e = p - y
        return cls(float(len(y)), *(float(part.sum()) for part in (np.abs(e), e * e, y, y * y, p, p * p, y * p)))

    def __add__(self, other: "RegressionSums") -> "RegressionSums":
        return add(self, other)

    def metrics(self, threshold: float) -> PooledMetrics:
        """Errors and explained variance; the threshold plays no part."""
        del threshold
        intervals = {"mae": self._of_mae(), "rmse": self._of_rmse(), "r2": self._of_r2()}
        values = {"patients": self.n, "mae": self.mae, "rmse": self.rmse, "r2": self.r2}
        return {**values, **{key: end for name, each in intervals.items() for key, end in named(name, each).items()}}

    def _of_mae(self) -> Interval:
        spread = self.squared_error / self.n - self.mae**2 if self.n > 1 else math.nan
        return log_interval(self.mae, spread / (self.n - 1) / self.mae**2 if self.n > 1 and self.mae > 0 else math.nan)

    def _of_rmse(self) -> Interval:
        return log_interval(self.rmse, 1 / (2 * self.n) if self.n > 1 else math.nan)

    def _of_r2(self) -> Interval:
        """Errors e and numbers y, both normal: the log of the unexplained share has variance 4 (1 - r_ey^2) / n."""
        spread = self._spread(self.target, self.target_squared)
        if self.n < 3 or not (spread > 0 and self.squared_error > 0):
            return Interval(self.r2, math.nan, math.nan)
        error = self.prediction - self.target
        together = self.product - self.target_squared - error * (self.target / self.n)
        correlation = min(together**2 / (self.squared_error * spread), 1.0)
        unexplained = log_interval(1 - self.r2, 4 * (1 - correlation) / (self.n - 1))
        return Interval(self.r2, 1 - unexplained.high, 1 - unexplained.low)

    def without_small_cells(self, least: float) -> "RegressionSums":
        """Nothing of fewer than `least` patients; else what depends on the predictions in steps of several patients.

        Exact sums would tell a single patient's number: a network that predicts 1 for her and 0 for all others has it
        as the sum of products. So sums of errors leave in steps of the largest error that one patient can have among
        n: the square root of n times the typical error, which is rounded up by a fifth at most; of products of
        errors and numbers, and of squared errors, times these numbers' standard deviation. The numbers' own sums are
        those that the description of the patients has too.
        """
        if self.n < least:
            return RegressionSums.of([], [])
        if least <= 1 or self.squared_error <= 0:
            return self
        typical = 2.0 ** (math.ceil(4 * math.log2(self.rmse)) / 4)
        step = max(math.sqrt(self.n), STEP_PATIENTS) * typical
        mean, spread = self.target / self.n, math.sqrt(self._spread(self.target, self.target_squared) / self.n)
        square = max(STEP_PATIENTS * typical**2, step * spread)
        squared = max(_in_steps(self.squared_error, square), square)
        most = math.sqrt(self.n * squared)
        error = min(max(_in_steps(self.prediction - self.target, step), -most), most)
        together = self.product - self.target_squared - (self.prediction - self.target) * mean
        with_error = _in_steps(together, step * spread) + error * mean
        return RegressionSums(
            n=self.n,
            absolute_error=min(max(_in_steps(self.absolute_error, step), abs(error)), most),
            squared_error=squared,
            target=self.target,
            target_squared=self.target_squared,
            prediction=self.target + error,
            prediction_squared=max(self.target_squared + 2 * with_error + squared, 0.0),
            product=self.target_squared + with_error,
        )

    @property
    def mae(self) -> float:
        """Mean absolute error, in the target's unit; nan without patients."""
        return self.absolute_error / self.n if self.n > 0 else math.nan

    @property
    def rmse(self) -> float:
        """Root mean squared error, in the target's unit; nan without patients."""
        return math.sqrt(self.squared_error / self.n) if self.n > 0 else math.nan

    @property
    def r2(self) -> float:
        """Share of the target's variance explained, 1 - SSE / SST; nan if the target does not vary."""
        spread = self._spread(self.target, self.target_squared)
        return 1 - self.squared_error / spread if spread > 0 else math.nan

    @property
    def pearson(self) -> float:
        """Correlation of target and prediction; nan if either does not vary."""
        targets = self._spread(self.target, self.target_squared)
        predictions = self._spread(self.prediction, self.prediction_squared)
        if not (targets > 0 and predictions > 0):
            return math.nan
        shared = self.product - self.target * (self.prediction / self.n)
        return min(max(shared / math.sqrt(targets) / math.sqrt(predictions), -1.0), 1.0)

    def _spread(self, values: float, squares: float) -> float:
        """Sum of squares about the mean; 0 if no more than the rounding of the sums, or without patients."""
        spread = squares - values * (values / self.n) if self.n > 0 else 0.0
        return spread if spread > 1e-12 * squares else 0.0


def _in_steps(value: float, step: float) -> float:
    return round(value / step) * step if step > 0 else value
