"""Discrimination and classification at the horizon of a time-to-event target, from additive counts.

No patient is left out for short follow-up: patients are weighted by the inverse probability of not being censored (see
`shared_models.metrics.censoring`). Their censoring's Kaplan-Meier curve follows from the sites' summed counts of events
and of censored patients by time. Events are counted by time and risk, since their weight depends on the time; those who
are free of it at the horizon have one weight. What follows is a histogram of weighted scores, with all that it gives.

The AUC is the cumulative/dynamic one at the horizon.

References:
    Uno et al. 2007, 10.1198/016214507000000149.
    Blanche, Dartigues & Jacqmin-Gadda, Review and comparison of ROC curve estimators for a time-dependent outcome with
        marker-dependent censoring. Biometrical Journal 55 (2013) 687-704, 10.1002/bimj.201200045.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from shared_models.metrics import score_metrics
from shared_models.metrics.arrays import AGREED, MATRIX, VECTOR, Array, PooledMetrics, add
from shared_models.metrics.binary import ScoreHistogram
from shared_models.metrics.calibration import Calibration
from shared_models.metrics.concordance import followed_patients
from shared_models.metrics.interval import Interval, logit_interval
from shared_models.metrics.rates import expected_observed_interval, named
from shared_models.metrics.scores import ScoreRange, bin_logits, bin_of, left_edges, probabilities

BINS = 1024
"""Of risk, for the AUC of the bins to be that of the rows."""
SLICES = 12
"""Of time until the horizon, in each of which the events' weights are averaged."""
STEPS = 120
"""Of time until the horizon, in which events and censored patients are counted for the Kaplan-Meier curve."""


@dataclass(frozen=True, eq=False)
class HorizonTable:
    """Patients by what is known of them at the horizon, time and predicted risk. Merges by addition.

    Attributes:
        events: (12, bins) patients with the event by the horizon, by slice of time and bin of risk.
        free: (bins,) patients free of it at the horizon.
        events_by_step: (120,) patients with the event by the horizon, by step of time.
        censored_by_step: (120,) patients censored before the horizon.
        score_range: where most scores lie, on the logit scale, if that is known: see `left_edges`.

    Example:
        >>> table = HorizonTable.of([0.9, 0.5, 0.1], [[90, 1], [100, 0], [800, 0]], horizon_days=365.25)
        >>> table.metrics(0.5)["auc"], table.metrics(0.5)["censored_before_horizon"]
        (1.0, 1.0)
    """

    METRICS: ClassVar[Mapping[str, str]] = {
        "events_by_horizon": "patients with the event by the horizon",
        "free_at_horizon": "patients followed to the horizon without it",
        "censored_before_horizon": "patients whose follow-up ended before; the others represent them, by weights",
        "event_probability": "probability of the event by the horizon (Kaplan-Meier)",
        "auc": "cumulative/dynamic AUC at the horizon by inverse probability of censoring weights (IPCW), of risks in "
        "1,024 bins",
        "auc_low": "lower bound of its 95 % interval (on the logit scale, widened by what the bins hide)",
        "auc_high": "upper bound",
        "auc_bound": "the AUC of the rows lies within this of `auc`",
        "tp": "weighted true positives at the threshold",
        "fp": "weighted false positives",
        "tn": "weighted true negatives",
        "fn": "weighted false negatives",
        **score_metrics.METRICS,
        **Calibration.METRICS,
    }

    events: Array = field(metadata=MATRIX)
    free: Array = field(metadata=VECTOR)
    events_by_step: Array = field(metadata=VECTOR)
    censored_by_step: Array = field(metadata=VECTOR)
    score_range: ScoreRange | None = field(default=None, kw_only=True, metadata=AGREED)

    def __post_init__(self) -> None:
        left_edges(len(self.free))
        shapes = (self.events.shape, self.events_by_step.shape, self.censored_by_step.shape)
        if shapes != ((SLICES, len(self.free)), (STEPS,), (STEPS,)):
            message = f"a horizon table has {SLICES} slices, {STEPS} steps and as many bins everywhere, not {shapes}"
            raise ValueError(message)
        if not math.isclose(self.events.sum(), self.events_by_step.sum(), rel_tol=1e-9, abs_tol=1e-6):
            message = f"{self.events.sum()} events by risk are not {self.events_by_step.sum()} by time"
            raise ValueError(message)

    @classmethod
    def of(
        cls,
        risk: npt.ArrayLike,
        truth: npt.ArrayLike,
        horizon_days: float,
        bins: int = BINS,
        score_range: ScoreRange | None = None,
    ) -> "HorizonTable":
        """Count the patients whose time and event are known.

        Args:
            risk: (N,) predicted probability of the event by the horizon, in [0, 1].
            truth: (N, 2) of days and event; nan for unknown.
            horizon_days: the same at every site.
            bins: of risk, the same at every site.
            score_range: likewise.

        Raises:
            ValueError: for risks outside [0, 1], times that are negative or infinite, or other events.
        """
        days, event = np.asarray(truth, dtype=np.float64).T
        score, time, happened = followed_patients(probabilities(risk, "risk"), days, event)
        by_then = happened & (time <= horizon_days)
        censored = ~happened & (time < horizon_days)
        free = ~by_then & ~censored
        step = np.minimum(time / horizon_days * STEPS, STEPS - 1).astype(np.intp)
        cell = step * SLICES // STEPS * bins + bin_of(score, bins, score_range)
        counts = (
            np.bincount(cell[by_then], minlength=SLICES * bins).reshape(SLICES, bins),
            np.bincount(bin_of(score[free], bins, score_range), minlength=bins),
            *(np.bincount(step[group], minlength=STEPS) for group in (by_then, censored)),
        )
        return HorizonTable(*(count.astype(np.float64) for count in counts), score_range=score_range)

    def __add__(self, other: Self) -> Self:
        return add(self, other)

    @property
    def n(self) -> float:
        """Number of patients."""
        return float(self.events.sum() + self.free.sum() + self.censored_by_step.sum())

    def uncensored(self) -> Array:
        """P(not censored before), (121,): at the start of each step and at the horizon; events come first in a step."""
        gone = np.cumsum(self.events_by_step + self.censored_by_step)
        at_risk = self.n - np.concatenate([[0.0], gone[:-1]]) - self.events_by_step
        left = np.divide(self.censored_by_step, at_risk, out=np.zeros(STEPS), where=at_risk > 0)
        return np.concatenate([[1.0], np.cumprod(1.0 - np.minimum(left, 1.0))])

    def weights(self) -> tuple[Array, float]:
        """Of the events in each slice, (12,), and of those free at the horizon; 0 where none is left uncensored."""
        inverse = np.divide(1.0, curve := self.uncensored(), out=np.zeros(STEPS + 1), where=curve > 0)
        steps = self.events_by_step.reshape(SLICES, -1)
        total = (steps * inverse[:-1].reshape(SLICES, -1)).sum(axis=1)
        middle = inverse[:-1].reshape(SLICES, -1).mean(axis=1)
        return np.divide(total, steps.sum(axis=1), out=middle, where=steps.sum(axis=1) > 0), float(inverse[-1])

    def weighted_events(self, power: int = 1) -> Array:
        """Sums of the events' weights, raised to a power, by bin of risk, (bins,)."""
        of_events, _ = self.weights()
        return np.asarray(of_events**power @ self.events)

    def histogram(self) -> ScoreHistogram:
        """Weighted scores of those with the event and of those free of it at the horizon."""
        _, of_free = self.weights()
        return ScoreHistogram(self.weighted_events(), of_free * self.free, score_range=self.score_range)

    def squares(self) -> ScoreHistogram:
        """Sums of the squared weights, which say how many patients the weights stand for."""
        _, of_free = self.weights()
        return ScoreHistogram(self.weighted_events(2), of_free**2 * self.free, score_range=self.score_range)

    def _expected_observed(self, histogram: ScoreHistogram, squares: ScoreHistogram) -> dict[str, float]:
        """The bounds of that ratio, with as many patients as the weights stand for."""
        share = histogram.n_positive / histogram.n if histogram.n > 0 else math.nan
        spread = squares.n_positive * (1 - share) ** 2 + squares.n_negative * share**2
        patients = share * (1 - share) * histogram.n**2 / spread if spread > 0 else 0.0
        ratio = self.calibration().expected_observed_ratio()
        return named("expected_observed_ratio", expected_observed_interval(ratio, share, patients))

    def _observed_bounds(self, squares: ScoreHistogram) -> PooledMetrics:
        """The bounds of the observed share of each bin of risk, with as many patients as its weights stand for."""
        calibration = self.calibration()
        squared = Calibration.of_bins(self._risks(), squares.positives, squares.negatives).counts
        patients = np.divide(calibration.counts**2, squared, out=np.zeros_like(squared), where=squared > 0)
        return calibration.observed_bounds(patients)

    def _risks(self) -> Array:
        """The middle of each bin of risk, (bins,)."""
        return np.asarray(1 / (1 + np.exp(-bin_logits(len(self.free), self.score_range))))

    def calibration(self) -> Calibration:
        """Weighted sums by bin of risk, where a patient's risk is the middle of its bin."""
        histogram = self.histogram()
        return Calibration.of_bins(self._risks(), histogram.positives, histogram.negatives)

    def event_probability(self) -> float:
        """Kaplan-Meier estimate of the event by the horizon, from the steps; nan without patients."""
        gone = np.cumsum(self.events_by_step + self.censored_by_step)
        at_risk = self.n - np.concatenate([[0.0], gone[:-1]])
        share = np.divide(self.events_by_step, at_risk, out=np.zeros(STEPS), where=at_risk > 0)
        return float(1.0 - np.prod(1.0 - share)) if self.n > 0 else math.nan

    def interval(self, level: float = 0.95, value: float | None = None) -> Interval:
        """The AUC with an interval on the logit scale, widened on both sides by the bound of its bins.

        Another `value` than that of the bins takes its place.

        The variance is that of DeLong's structural components, weighted; the weights are taken as given, which is on
        the safe side (Blanche 2013). Bounds are nan with fewer than two events or two free of it.
        """
        histogram = self.histogram()
        value = histogram.auc() if value is None else value
        cases, controls = histogram.n_positive, histogram.n_negative
        n_events, n_free = float(self.events.sum()), float(self.free.sum())
        if math.isnan(value) or min(n_events, n_free) < 2:
            return logit_interval(value, math.nan, 0, level)
        below = (np.cumsum(histogram.negatives) - histogram.negatives / 2) / controls
        above = (cases - np.cumsum(histogram.positives) + histogram.positives / 2) / cases
        of_cases = float(self.weighted_events(2) @ (below - value) ** 2) / cases**2
        of_controls = float(self.free @ (above - value) ** 2) / n_free**2
        variance = of_cases * n_events / (n_events - 1) + of_controls * n_free / (n_free - 1)
        return logit_interval(value, variance, min(n_events, n_free), level).widened(histogram.bound_of(value))

    def around(self, value: float) -> PooledMetrics:
        """A value of the AUC with its interval and certificate."""
        interval = self.interval(value=value)
        bounds: PooledMetrics = {"auc_low": interval.low, "auc_high": interval.high}
        return {"auc": interval.value, **bounds, "auc_bound": self.histogram().bound_of(value)}

    def metrics(self, threshold: float) -> PooledMetrics:
        """Counts, the AUC with its interval, and the rates at the threshold, which must be an edge of a bin."""
        histogram = self.histogram()
        return {
            "events_by_horizon": float(self.events.sum()),
            "free_at_horizon": float(self.free.sum()),
            "censored_before_horizon": float(self.censored_by_step.sum()),
            "event_probability": self.event_probability(),
            **self.around(histogram.auc()),
            **self.calibration().metrics(threshold),
            **score_metrics.score_metrics(histogram, threshold, squares := self.squares()),
            **self._expected_observed(histogram, squares),
            **self._observed_bounds(squares),
        }
