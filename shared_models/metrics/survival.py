"""Harrell's C-index from additive counts of risk by time.

Each site counts its patients in a table of months by bins of predicted risk. The sum gives C of the binned data, a
certificate of how far C of the rows may lie from it, and an interval. At one site, where the rows are at hand, C is
exact: `concordance` and `concordance_interval`.

References:
    Harrell, Lee & Mark, Multivariable prognostic models. Statistics in Medicine 15 (1996) 361-387.
    Pencina & D'Agostino, Overall C as a measure of discrimination in survival analysis. Statistics in Medicine 23
        (2004) 2109-2123.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from shared_models.metrics.arrays import AGREED, MATRIX, Array, PooledMetrics, add, require_equal_shapes
from shared_models.metrics.concordance import concordance, concordance_interval, followed_patients
from shared_models.metrics.interval import Interval, logit_interval
from shared_models.metrics.scores import ScoreRange, bin_of, left_edges, probabilities

__all__ = ["DAYS_PER_MONTH", "MONTHS", "ConcordanceTable", "concordance", "concordance_interval", "month_of"]

DAYS_PER_MONTH = 30.4375
MONTHS = 180
"""Fifteen years in months; one open bin follows."""
RISK_BINS = 256
"""Of a table by month. What the months hide is as much: four times the bins halve the certificate at best, and a masked
count takes 40 bytes, so that a round's table would be 15 MB."""


@dataclass(frozen=True, eq=False)
class ConcordanceTable:
    """Patients counted by month of their event or last observation, and by bin of their predicted risk.

    Merges by addition. Bins are the same at every site: months of 30.4375 days up to 15 years and one open bin, and the
    bins of `shared_models.metrics.scores`.

    Attributes:
        events: (181, bins) patients with the event.
        censored: (181, bins) patients without.
        score_range: where most scores lie, on the logit scale, if that is known: see `left_edges`.

    Example:
        >>> table = ConcordanceTable.of([0.9, 0.1], [90, 800], [1, 0])
        >>> table.concordance(), table.bound()
        (1.0, 0.0)
    """

    CENSORED_OUTLIVE_EVENTS_OF_THEIR_ROW: ClassVar[bool] = True

    METRICS: ClassVar[Mapping[str, str]] = {
        "patients": "patients whose time and event are known",
        "events": "those of them who had the event",
        "c_index": "Harrell's C, of risks in 256 bins and times in months; merged cells are righted by what "
        "they are off among pairs of the same site",
        "c_index_low": "lower bound of its 95 % interval (jackknife on the logit scale, widened by what the bins hide)",
        "c_index_high": "upper bound",
        "c_index_bound": "the C-index of the rows lies within this of `c_index`",
    }

    events: Array = field(metadata=MATRIX)
    censored: Array = field(metadata=MATRIX)
    score_range: ScoreRange | None = field(default=None, kw_only=True, metadata=AGREED)

    def __post_init__(self) -> None:
        require_equal_shapes(self)
        if len(self.events) != MONTHS + 1:
            message = f"a concordance table has {MONTHS + 1} months, not {len(self.events)}"
            raise ValueError(message)
        left_edges(self.events.shape[1])

    @classmethod
    def of(
        cls,
        risk: npt.ArrayLike,
        time_days: npt.ArrayLike,
        event: npt.ArrayLike,
        bins: int = 256,
        score_range: ScoreRange | None = None,
    ) -> "ConcordanceTable":
        """Count the patients whose time and event are known.

        Args:
            risk: (N,) predicted probability of the event, in [0, 1].
            time_days: (N,) days to the event or to the end of observation; nan for unknown.
            event: (N,) 1 for an event, 0 for censored, nan for unknown.
            bins: of risk, the same at every site.
            score_range: likewise.

        Raises:
            ValueError: for risks outside [0, 1], times that are negative or infinite, or other events.
        """
        score, time, happened = followed_patients(probabilities(risk, "risk"), time_days, event)
        cell = month_of(time) * bins + bin_of(score, bins, score_range)
        shape = (MONTHS + 1, bins)
        counts = (np.bincount(cell[group], minlength=math.prod(shape)) for group in (happened, ~happened))
        return cls(*(count.reshape(shape).astype(np.float64) for count in counts), score_range=score_range)

    @classmethod
    def of_truth(
        cls, risk: npt.ArrayLike, truth: npt.ArrayLike, score_range: ScoreRange | None = None
    ) -> "ConcordanceTable":
        """Count the patients whose truth, (N, 2) of days and event, is known, in `RISK_BINS` bins."""
        days, event = np.asarray(truth, dtype=np.float64).T
        return cls.of(risk, days, event, RISK_BINS, score_range)

    def __add__(self, other: "ConcordanceTable") -> "ConcordanceTable":
        return add(self, other)

    @property
    def n(self) -> float:
        """Number of patients."""
        return self.n_events + float(self.censored.sum())

    @property
    def n_events(self) -> float:
        """Number of events."""
        return float(self.events.sum())

    def concordance(self) -> float:
        """Harrell's C of the binned times and risks; nan without comparable pairs."""
        concordant, comparable = self.pairs()
        return concordant / comparable if comparable > 0 else math.nan

    def pairs(self) -> tuple[float, float]:
        """Pairs in the right order, ties one half, and all comparable ones, of the binned times and risks."""
        below, same, above = pairs_by_risk(self.events, self._outliving())
        return below + same / 2, below + same + above

    def limits(self) -> tuple[float, float]:
        """The lowest and highest C that rows with these counts can have; nan without comparable pairs.

        Undecided are the order of risks in one bin, and of times in one month: two events of a month may be comparable
        either way or not at all, an event and a censoring of a month may be comparable or not.
        """
        if math.isnan(self.concordance()):
            return math.nan, math.nan
        below, same, above = pairs_by_risk(self.events, later(self.events + self.censored))
        month_below, month_same, month_above = pairs_by_risk(self.events, self.censored)
        of_month = self.events.sum(axis=1)
        twins = float((of_month * np.maximum(of_month - 1, 0)).sum()) / 2
        undecided = same + twins + month_same
        least, most = below + above + undecided + month_above, below + above + undecided + month_below
        return below / least if least > 0 else 1.0, 1 - above / most if most > 0 else 0.0

    def bound(self) -> float:
        """The C-index of the rows lies within this of `concordance`; nan without comparable pairs."""
        return self._bound_of(self.concordance())

    def _bound_of(self, value: float) -> float:
        low, high = self.limits()
        return max(high - value, value - low)

    def interval(self, level: float = 0.95) -> Interval:
        """C with an interval on the logit scale, widened on both sides by `bound`.

        C is a ratio of two sums over pairs. Its variance is that of the patients' influence on it (the infinitesimal
        jackknife: Efron, The Jackknife, the Bootstrap and Other Resampling Plans, 1982, chapter 6), which plays the
        part of DeLong's structural components and needs the counts only. Bounds are nan with fewer than two events or
        without comparable pairs. If the variance vanishes they are Clopper-Pearson's, as in `concordance_interval`.
        """
        return self._interval_of(self.concordance(), level)

    def _interval_of(self, value: float, level: float = 0.95) -> Interval:
        if math.isnan(value) or self.n_events < 2:
            return logit_interval(value, math.nan, 0, level)
        pairs = squares = 0.0
        for counts, (concordant, comparable) in zip((self.events, self.censored), self._placements(), strict=True):
            pairs += float((counts * comparable).sum()) / 2  # each pair is seen from both its ends
            squares += float((counts * (concordant - value * comparable) ** 2).sum())
        variance = squares / pairs**2 * self.n / (self.n - 1)
        return logit_interval(value, variance, pairs / (self.n - 1), level).widened(self._bound_of(value))

    def _outliving(self) -> Array:
        """Patients who outlive an event of each row, by their own risk, (rows, bins)."""
        later_ones = later(self.events + self.censored)
        return later_ones + self.censored if self.CENSORED_OUTLIVE_EVENTS_OF_THEIR_ROW else later_ones

    def metrics(self, threshold: float) -> PooledMetrics:
        """C with its interval; the threshold plays no part."""
        del threshold
        counts: PooledMetrics = {"patients": self.n, "events": self.n_events}
        return {**counts, **self.around(self.concordance())}

    def around(self, value: float) -> PooledMetrics:
        """A value of C with its interval and certificate."""
        interval = self._interval_of(value)
        bounds: PooledMetrics = {"c_index_low": interval.low, "c_index_high": interval.high}
        return {"c_index": interval.value, **bounds, "c_index_bound": self._bound_of(value)}

    def _placements(self) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        """Concordant and comparable pairs of one patient of each cell, (181, bins): for an event, for a censored."""
        until = np.cumsum(self.events, axis=0)
        before = until - self.events
        outlived = {"event": before, "censored": until if self.CENSORED_OUTLIVE_EVENTS_OF_THEIR_ROW else before}
        last = {
            kind: (_of_lower_risk(earlier[:, ::-1])[:, ::-1], earlier.sum(axis=1, keepdims=True))
            for kind, earlier in outlived.items()
        }
        outliving = self._outliving()
        first = _of_lower_risk(outliving), outliving.sum(axis=1, keepdims=True)
        return (first[0] + last["event"][0], first[1] + last["event"][1]), last["censored"]


def month_of(time_days: Array) -> npt.NDArray[np.intp]:
    """The month of each time, same shape, from 0; the last, `MONTHS`, is open."""
    return np.minimum(np.floor(time_days / DAYS_PER_MONTH), MONTHS).astype(np.intp)


def later(counts: Array) -> Array:
    """Counts of strictly later rows, same shape."""
    return np.cumsum(counts[::-1], axis=0)[::-1] - counts


def _of_lower_risk(counts: Array) -> Array:
    """Counts of lower bins and half of the same, (181, bins)."""
    return np.cumsum(counts, axis=1) - counts / 2


def pairs_by_risk(events: Array, others: Array) -> tuple[float, float, float]:
    """Pairs of an event and one of ``others`` in its row, by the other's risk: below the event's, same bin, above."""
    same = float((events * others).sum())
    below = float((events * _of_lower_risk(others)).sum()) - same / 2
    every = float(events.sum(axis=1) @ others.sum(axis=1))
    return below, same, every - below - same
