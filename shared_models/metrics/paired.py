"""Paired comparison of two scores of the same patients, by pairs of patients of the same site.

Two networks, or one network with and without something of its input, order the same pairs of patients. A site counts
on its rows by how many pairs the first orders more of them rightly than the second, with the variance of that; the
counts of all sites add up. At one site it is DeLong's paired test of two AUCs; over several, sites are strata, of which
each weighs its comparable pairs, which are taken as given.

Which pairs are comparable depends on the target: a patient with the outcome and one without (AUC); one who has the
event while the other is still observed without it (Harrell's C-index); a patient of a class and one of another class,
for each class (AUC of the classes against the rest, weighted by their pairs); two whose numbers differ (C-index).

References:
    DeLong, DeLong & Clarke-Pearson, Comparing the areas under two or more correlated receiver operating characteristic
        curves: a nonparametric approach. Biometrics 44 (1988) 837-845.
    Arvesen, Jackknifing U-statistics. Annals of Mathematical Statistics 40 (1969) 2076-2100.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Self

import numpy as np
import numpy.typing as npt

from shared_models.metrics.arrays import SIGNED, VECTOR, Array, add, require_equal_shapes
from shared_models.metrics.concordance import followed_patients, pairs_of_patients
from shared_models.metrics.delong import midranks
from shared_models.metrics.interval import Interval, normal_quantile
from shared_models.metrics.scores import finite
from shared_models.targets import Binary, Categorical, Target, TimeToEvent

MEASURES = {Binary: "auc", TimeToEvent: "c_index", Categorical: "auc_by_class"}
"""What the share of concordant pairs is called; of a number it is a C-index."""


def measure_of(target: Target) -> str:
    """The measure whose difference is reported for a target: `auc`, `c_index` or `auc_by_class`."""
    return MEASURES.get(type(target), "c_index")


@dataclass(frozen=True)
class Placement:
    """How a score places the M patients whose outcome is known.

    Attributes:
        concordant: (M,) pairs in the right order that each is part of; ties count one half.
        comparable: (M,) pairs that should be in a known order that each is part of.
        group: (M,) sample of a two-sample statistic that each is of; all 0 where there is one sample.
        cases: patients with the outcome or event, or of the smallest class.
    """

    concordant: Array
    comparable: Array
    group: npt.NDArray[np.intp]
    cases: float


def place(target: Target, scores: npt.ArrayLike, truth: npt.ArrayLike) -> Placement:
    """Counts each patient's pairs.

    Args:
        target: The target.
        scores: What `target.predict` gave, `(N,)` or `(N, K)`.
        truth: `(N,)`, or `(N, 2)` for a time to event; NaN where unknown.

    Raises:
        ValueError: For scores that are not finite.
    """
    known = np.asarray(truth, dtype=np.float64)
    if isinstance(target, TimeToEvent):
        score, time, event = followed_patients(finite(scores, "scores"), known[:, 0], known[:, 1])
        counted = pairs_of_patients(score, time, event)
        return Placement(*counted, np.zeros(len(score), np.intp), float(event.sum()))
    there = ~np.isnan(known)
    values, known = np.asarray(scores, dtype=np.float64)[there], known[there]
    if isinstance(target, Categorical):
        each = [_place_two(values[:, index], known == index) for index in range(target.outputs)]
        sizes = [float((known == index).sum()) for index in range(target.outputs)]
        concordant, comparable = np.sum(each, axis=0)
        return Placement(concordant, comparable, np.zeros(len(known), np.intp), min(filter(None, sizes), default=0.0))
    if isinstance(target, Binary):
        return Placement(*_place_two(values, known == 1), (known == 1).astype(np.intp), float((known == 1).sum()))
    counted = pairs_of_patients(-finite(values, "scores"), known, np.ones(len(known), bool))
    return Placement(*counted, np.zeros(len(known), np.intp), float(len(known)))


def _place_two(scores: Array, positive: npt.NDArray[np.bool_]) -> tuple[Array, Array]:
    """Pairs of a positive and another patient: in the right order, and all, (M,) each."""
    values, m = finite(scores, "scores"), int(positive.sum())
    concordant, n = np.zeros(len(values)), len(values) - m
    ranks = midranks(values) if len(values) else concordant
    concordant[positive] = ranks[positive] - midranks(values[positive]) if m else 0.0
    concordant[~positive] = m - (ranks[~positive] - midranks(values[~positive])) if n else 0.0
    return concordant, np.where(positive, float(n), float(m))


@dataclass(frozen=True, eq=False)
class PairedPairs:
    """V comparisons of two scores over pairs of patients of the same site. Merges by addition.

    Attributes:
        cases: (V,) patients with the outcome or event, or of the smallest class.
        others: (V,) patients without.
        comparable: (V,) pairs whose scores should differ in a known direction.
        gained: (V,) how many more of them the first score orders rightly than the second; ties count one half.
        variance: (V,) of `gained`, given `comparable`.

    Example:
        >>> one = PairedPairs.of(Binary(), [0.9, 0.8, 0.1], [[[0.1, 0.8, 0.9]]], [1, 1, 0])
        >>> one.gained.tolist(), one.comparable.tolist()
        ([2.0], [2.0])
    """

    cases: Array = field(metadata=VECTOR)
    others: Array = field(metadata=VECTOR)
    comparable: Array = field(metadata=VECTOR)
    gained: Array = field(metadata=VECTOR | SIGNED)
    variance: Array = field(metadata=VECTOR)

    def __post_init__(self) -> None:
        require_equal_shapes(self)
        if (np.abs(self.gained) > self.comparable * (1 + 1e-9)).any():
            message = "more pairs were gained than are comparable"
            raise ValueError(message)

    @classmethod
    def of(
        cls,
        target: Target,
        first: npt.ArrayLike,
        seconds: Sequence[Sequence[npt.ArrayLike]],
        truth: npt.ArrayLike,
    ) -> Self:
        """Compares one site's scores with V others.

        Args:
            target: The target.
            first: (N,) or (N, K).
            seconds: V times one or more scores of the same patients, whose pairs are averaged.
            truth: (N,) or (N, 2); nan for unknown.

        Raises:
            ValueError: For scores that are not finite.
        """
        one = place(target, first, truth)
        rows = [_compared(one, [place(target, each, truth).concordant for each in second]) for second in seconds]
        return cls(*np.array(rows, dtype=np.float64).reshape(-1, len(fields(cls))).T)

    @classmethod
    def empty(cls, comparisons: int) -> Self:
        """The zero of the sum."""
        return cls(*np.zeros((len(fields(cls)), comparisons)))

    def __add__(self, other: Self) -> Self:
        return add(self, other)

    def without_small_cells(self, least: float) -> Self:
        """In steps that hide one patient; zero with fewer than `least` cases, or a few others.

        As pairs within sites leave (`shared_models/metrics/within_site.py`): in multiples of the number of patients,
        which is more than the pairs that any one patient is part of, with a standard deviation in quarters of a step.
        """
        step = self.cases + self.others
        releasable = (self.cases >= least) & ((self.others == 0) | (self.others >= least)) & (self.comparable >= step)
        size = np.where(releasable, np.maximum(step, 1.0), 1.0)
        steps = np.where(releasable, np.floor(self.comparable / size), 0.0)
        share = np.divide(self.gained, self.comparable, out=np.zeros_like(self.gained), where=self.comparable > 0)
        relative = np.divide(
            np.sqrt(self.variance), self.comparable, out=np.zeros_like(step), where=self.comparable > 0
        )
        deviation = np.maximum(np.rint(4 * relative * steps) / 4, 0.5)
        return type(self)(
            cases=np.where(releasable, self.cases, 0.0),
            others=np.where(releasable, self.others, 0.0),
            comparable=size * steps,
            gained=size * np.rint(share * steps),
            variance=np.where(releasable, size**2 * (deviation**2 + 1 / 12), 0.0),
        )

    def without(self, hidden: npt.NDArray[np.bool_]) -> Self:
        """Zero in place of those comparisons that are `hidden`, (V,)."""
        return type(self)(*(np.where(hidden, 0.0, getattr(self, each.name)) for each in fields(self)))

    def differences(self, level: float = 0.95) -> list[tuple[Interval, float]]:
        """Each difference of the two shares of concordant pairs with its interval, and the p-value of none.

        The interval is Wald's, as DeLong's of a difference. Its bounds are nan where the two place every patient
        alike, and the p-value is then 1; both are nan without comparable pairs.
        """
        return [
            _difference(float(comparable), float(gained), float(variance), level)
            for comparable, gained, variance in zip(self.comparable, self.gained, self.variance, strict=True)
        ]


def joined(each: Sequence[PairedPairs]) -> PairedPairs:
    """Comparisons one after the other."""
    return PairedPairs(*(np.concatenate([getattr(one, part.name) for one in each]) for part in fields(PairedPairs)))


def _compared(one: Placement, seconds: Sequence[Array]) -> tuple[float, ...]:
    """The numbers of one comparison, in the order of the fields."""
    patients, pairs = len(one.comparable), float(one.comparable.sum()) / 2  # each pair is seen from both its ends
    others = patients - one.cases
    if not pairs:
        return one.cases, others, 0.0, 0.0, 0.0
    gained_by = one.concordant - np.mean(seconds, axis=0)
    gained = float(gained_by.sum()) / 2
    influence = gained_by - gained / pairs * one.comparable
    variance = 0.0
    for group in np.unique(one.group):
        squares = influence[one.group == group] ** 2
        if len(squares) < 2:
            return one.cases, others, pairs, gained, pairs**2  # unknown: the largest that it can be
        variance += float(squares.sum()) * len(squares) / (len(squares) - 1)
    return one.cases, others, pairs, gained, variance


def _difference(comparable: float, gained: float, variance: float, level: float) -> tuple[Interval, float]:
    if not comparable > 0:
        return Interval(math.nan, math.nan, math.nan), math.nan
    value, error = gained / comparable, math.sqrt(variance) / comparable
    if error < 1e-12:
        return Interval(value, math.nan, math.nan), 1.0 if abs(value) < 1e-12 else math.nan
    reach = normal_quantile(level) * error
    interval = Interval(value, max(value - reach, -1.0), min(value + reach, 1.0))
    return interval, math.erfc(abs(value) / error / math.sqrt(2))


def mcnemar(only_first: float, only_second: float) -> float:
    """Two-sided p-value of McNemar's exact test; 1 without discordant patients.

    McNemar, Note on the sampling error of the difference between correlated proportions or percentages. Psychometrika
    12 (1947) 153-157.

    Args:
        only_first: patients whom only the first calls rightly.
        only_second: patients whom only the second does.

    Example:
        >>> round(mcnemar(1, 9), 4)
        0.0215
    """
    from scipy.stats import binomtest

    first, second = round(only_first), round(only_second)
    return float(binomtest(min(first, second), first + second).pvalue) if first + second else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values over a family of tests; nan stays, and is no part of the family.

    Holm, A simple sequentially rejective multiple test procedure. Scandinavian Journal of Statistics 6 (1979) 65-70.

    Example:
        >>> holm([0.01, 0.04, 0.03, math.nan])
        [0.03, 0.06, 0.06, nan]
    """
    adjusted, largest = [math.nan] * len(p_values), 0.0
    known = sorted((value, place) for place, value in enumerate(p_values) if not math.isnan(value))
    for rank, (value, place) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * value))
        adjusted[place] = largest
    return adjusted
