"""Calibration of predicted probabilities from additive bins.

The patients are counted in bins of their predicted probability, the same at every site: tenths, of which the
outermost are cut finer, for the outcomes are rare. Outside secure aggregation a site makes them of its merged cells
(`MergedHistogram.calibration`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from shared_models.metrics.arrays import VECTOR, Array, PooledMetrics, add, require_equal_shapes
from shared_models.metrics.rates import bounds, expected_observed_interval, named, wilson_bounds
from shared_models.metrics.scores import labelled, probabilities

INNER_EDGES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
BINS = len(INNER_EDGES) + 1
MIN_PATIENTS = 5
"""Of a point of the curve that is shown: a share of fewer is no share, and may be of one patient."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Per bin of predicted probability, what was predicted and what was observed. Merges by addition.

    Attributes:
        counts: (16,) patients.
        predicted: (16,) sum of their predicted probabilities: the expected outcomes.
        observed: (16,) outcomes.
        squared_error: (16,) sum of (predicted - observed)^2.
    """

    METRICS: ClassVar[Mapping[str, str]] = {
        "brier": "mean squared error of the probabilities",
        **bounds(
            {"expected_observed_ratio": "expected over observed outcomes; above 1 the probabilities are too high"},
            {"expected_observed_ratio": "on the log scale"},
        ),
        "calibration_error": "mean distance of expected and observed share over the bins, weighted by patients; chance "
        "alone makes it larger than 0, so that it has no interval",
        "calibration_predicted": "calibration curve: mean probability of the patients in each of 16 bins of it",
        "calibration_observed": "their observed share; both undefined where fewer than 5 patients are",
        "calibration_observed_low": "lower bound of its 95 % interval (Wilson)",
        "calibration_observed_high": "upper bound",
    }

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

    @classmethod
    def of_bins(cls, scores: Array, positives: Array, negatives: Array) -> "Calibration":
        """Of counts or weights in bins, of each of which all patients have one score.

        Args:
            scores: (bins,) probabilities.
            positives: (bins,) of those with the outcome.
            negatives: (bins,) of those without.
        """
        where, counts = np.searchsorted(np.array(INNER_EDGES), scores, side="right"), positives + negatives
        squared = positives * (1 - scores) ** 2 + negatives * scores**2
        return cls(
            *(
                np.bincount(where, part, BINS).astype(np.float64)
                for part in (counts, counts * scores, positives, squared)
            )
        )

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

    def metrics(self, threshold: float) -> PooledMetrics:
        """Summaries, and the points of the curve; the threshold plays no part."""
        del threshold
        predicted, observed = self.curve(MIN_PATIENTS)
        ratio, observed_share = self.expected_observed_ratio(), float(self.observed.sum()) / (self.n or math.nan)
        return {
            "brier": self.brier(),
            "expected_observed_ratio": ratio,
            **named("expected_observed_ratio", expected_observed_interval(ratio, observed_share, self.n)),
            "calibration_error": self.expected_calibration_error(),
            "calibration_predicted": predicted.tolist(),
            "calibration_observed": observed.tolist(),
            **self.observed_bounds(self.counts),
        }

    def observed_bounds(self, patients: Array) -> PooledMetrics:
        """The bounds of the observed share of each bin that is told, by name.

        Args:
            patients: (16,) how many the counts stand for, where they are sums of weights.
        """
        low, high = wilson_bounds(self.curve(MIN_PATIENTS)[1], patients)
        return {"calibration_observed_low": low.tolist(), "calibration_observed_high": high.tolist()}

    def curve(self, fewest: float = 1) -> tuple[Array, Array]:
        """Mean predicted and observed share of each bin, (16,) each; nan where it has fewer patients than `fewest`."""
        nothing = np.full(BINS, np.nan)
        predicted, observed = (
            np.divide(part, self.counts, out=nothing.copy(), where=self.counts >= fewest)
            for part in (self.predicted, self.observed)
        )
        return predicted, observed
