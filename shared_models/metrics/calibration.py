"""Calibration of predicted probabilities from additive bins.

The patients are counted in bins of their predicted probability, the same at every site: tenths, of which the
outermost are cut finer, for the outcomes are rare.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from shared_models.metrics.arrays import VECTOR, Array, add, require_equal_shapes
from shared_models.metrics.scores import labelled, probabilities

INNER_EDGES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
BINS = len(INNER_EDGES) + 1


@dataclass(frozen=True, eq=False)
class Calibration:
    """Per bin of predicted probability, what was predicted and what was observed. Merges by addition.

    Attributes:
        counts: (16,) patients.
        predicted: (16,) sum of their predicted probabilities: the expected outcomes.
        observed: (16,) outcomes.
        squared_error: (16,) sum of (predicted - observed)^2.
    """

    counts: Array = field(metadata=VECTOR)
    predicted: Array = field(metadata=VECTOR)
    observed: Array = field(metadata=VECTOR)
    squared_error: Array = field(metadata=VECTOR)

    def __post_init__(self) -> None:
        require_equal_shapes(self)
        if len(self.counts) != BINS:
            message = f"calibration has {BINS} bins, not {len(self.counts)}"
            raise ValueError(message)

    @classmethod
    def of(cls, scores: npt.ArrayLike, labels: npt.ArrayLike) -> "Calibration":
        """Sum over the patients whose label is known.

        Args:
            scores: (N,) predicted probabilities.
            labels: (N,) of 0, 1, or nan for unknown.

        Raises:
            ValueError: for scores outside [0, 1] or other labels.
        """
        values, positive = labelled(probabilities(scores, "scores"), labels)
        where = np.searchsorted(np.array(INNER_EDGES), values, side="right")
        sums = (np.ones_like(values), values, positive.astype(np.float64), (values - positive) ** 2)
        return cls(*(np.bincount(where, part, BINS).astype(np.float64) for part in sums))

    def __add__(self, other: "Calibration") -> "Calibration":
        return add(self, other)

    @property
    def n(self) -> float:
        """Number of patients."""
        return float(self.counts.sum())

    def expected_observed_ratio(self) -> float:
        """Expected over observed outcomes: above 1 the risks are too high; nan without outcomes."""
        observed = float(self.observed.sum())
        return float(self.predicted.sum()) / observed if observed > 0 else math.nan

    def expected_calibration_error(self) -> float:
        """Mean distance of predicted and observed share over the bins, weighted by patients; nan without patients."""
        return float(np.abs(self.predicted - self.observed).sum()) / self.n if self.n > 0 else math.nan

    def brier(self) -> float:
        """Mean squared error of the probabilities (Brier 1950); nan without patients."""
        return float(self.squared_error.sum()) / self.n if self.n > 0 else math.nan

    def curve(self) -> tuple[Array, Array]:
        """Mean predicted and observed share of each bin, (16,) each; nan where a bin is empty."""
        nothing = np.full(BINS, np.nan)
        predicted, observed = (
            np.divide(part, self.counts, out=nothing.copy(), where=self.counts > 0)
            for part in (self.predicted, self.observed)
        )
        return predicted, observed
