"""Within-site discrimination: the stratified AUC and C-index, from pairs of patients of the same site.

The AUC of pooled scores rewards a network for knowing the site: where prevalence differs, pairs of patients of two
sites are ordered by it alone. The share of concordant pairs among those of the same site does not, and needs no bins:
each site counts its pairs on the rows and sends the counts with their variance, and the sites' numbers add up. With one
site it is that site's AUC or C-index.

The variance of a site's concordant pairs is that of a U-statistic: with N_i and D_i the concordant and comparable pairs
of patient i and C the site's share, a multiple of the sum of (N_i - C D_i)^2. For the AUC it is DeLong's, for C the
jackknife's. Sites are strata, of which each weighs its comparable pairs: these are taken as given, so that a
difference between sites' shares is no part of the variance, which simply adds up.

References:
    DeLong, DeLong & Clarke-Pearson, Comparing the areas under two or more correlated receiver operating characteristic
        curves: a nonparametric approach. Biometrics 44 (1988) 837-845.
    Arvesen, Jackknifing U-statistics. Annals of Mathematical Statistics 40 (1969) 2076-2100.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from shared_models.metrics.arrays import Array, PooledMetrics, add
from shared_models.metrics.censoring import at_horizon
from shared_models.metrics.concordance import followed_patients, pairs_of_patients
from shared_models.metrics.delong import auc_and_variance
from shared_models.metrics.interval import Interval, logit_interval
from shared_models.metrics.scores import labelled, probabilities


@dataclass(frozen=True)
class WithinSitePairs:
    """Pairs of patients of the same site. Each site counts its own; adding them up makes no pair of two sites.

    Attributes:
        cases: patients with the outcome or event.
        others: patients without.
        comparable: pairs whose scores should differ in a known direction.
        concordant: those whose scores do; ties count one half.
        disjoint: as many comparable pairs share no patient, at least: for the interval of a perfect order.
        variance: of `concordant`, given `comparable`.
    """

    METRICS: ClassVar[Mapping[str, str]]

    cases: float
    others: float
    comparable: float
    concordant: float
    disjoint: float
    variance: float

    def __post_init__(self) -> None:
        if self.concordant > self.comparable * (1 + 1e-9):
            message = f"{self.concordant} of {self.comparable} comparable pairs cannot be concordant"
            raise ValueError(message)

    def __add__(self, other: Self) -> Self:
        return add(self, other)

    @property
    def step(self) -> float:
        """Pairs that one site's concordant ones leave it in multiples of: as many as it has patients."""
        return self.cases + self.others

    def share(self) -> float:
        """The stratified AUC or C-index; nan without comparable pairs."""
        return min(self.concordant / self.comparable, 1.0) if self.comparable > 0 else math.nan

    def interval(self, level: float = 0.95) -> Interval:
        """The share with its interval on the logit scale; Clopper-Pearson's where the variance vanishes."""
        variance = self.variance / self.comparable**2 if self.comparable > 0 else math.nan
        return logit_interval(self.share(), variance, self.disjoint, level)

    def metrics(self, threshold: float) -> PooledMetrics:
        """The share with its interval; the threshold plays no part."""
        del threshold
        interval = self.interval()
        return dict(zip(self.METRICS, (interval.value, interval.low, interval.high), strict=True))

    def without_small_cells(self, least: float) -> Self:
        """In steps that hide one patient; zero with fewer than `least` cases, or a few others.

        Exact counts would tell a single patient's outcome: if a network scores all patients alike but one, the share
        is above 1/2 if that patient is a case and below if not. So pairs leave in multiples of the number of patients,
        a step, which is more than the pairs that any one patient is part of: comparable ones, and by how many more or
        fewer than half of them are concordant. Their standard deviation leaves in quarters of a step; one alone
        contributes half a step at most, which is the least that is said. An AUC moves by 1 / cases + 1 / others, less
        than twice its standard error; the variance of the rounding is added.

        Not hidden are two patients singled out together who both are cases, nor the difference of two rounds whose
        networks differ by design, which tells of any count: see docs/security.md.
        """
        step = self.step
        if self.cases < least or 0 < self.others < least or self.comparable < step:
            return type(self)(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        steps = math.floor(self.comparable / step)  # not rounded up: one patient's pairs would grow beyond a step
        surplus = min(max(round((self.share() - 0.5) * steps), -steps / 2), steps / 2)
        deviation = max(round(4 * math.sqrt(self.variance) / self.comparable * steps) / 4, 0.5)
        return type(self)(
            cases=self.cases,
            others=self.others,
            comparable=step * steps,
            concordant=step * (steps / 2 + surplus),
            disjoint=float(math.floor(self.disjoint)),
            variance=step**2 * (deviation**2 + 1 / 12),
        )


@dataclass(frozen=True)
class WithinSiteAuc(WithinSitePairs):
    """Pairs of a positive and a negative of the same site.

    Example:
        >>> one, other = WithinSiteAuc.of([0.9, 0.8], [1, 0]), WithinSiteAuc.of([0.2, 0.2, 0.1], [1, 0, 0])
        >>> (one + other).concordant, (one + other).comparable
        (2.5, 3.0)
    """

    METRICS: ClassVar[Mapping[str, str]] = {
        "auc_within_sites": "AUC of pairs of patients of the same site (stratified AUC), of the scores themselves; "
        "outside secure aggregation of each site's pairs in steps of its number of patients",
        "auc_within_sites_low": "lower bound of its 95 % interval (DeLong by site, on the logit scale)",
        "auc_within_sites_high": "upper bound",
    }

    @classmethod
    def of(cls, scores: npt.ArrayLike, labels: npt.ArrayLike) -> Self:
        """Count one site's pairs.

        Args:
            scores: (N,) in [0, 1].
            labels: (N,) of 0, 1, or nan for unknown: those are left out.

        Raises:
            ValueError: for scores outside [0, 1] or other labels.
        """
        values, positive = labelled(probabilities(scores, "scores"), labels)
        cases, others = float(np.count_nonzero(positive)), float(np.count_nonzero(~positive))
        pairs = cases * others
        share, variance = auc_and_variance(values, positive) if pairs else (0.0, 0.0)
        inside = round(2 * share * pairs) / 2  # whole and half pairs
        return cls(cases, others, pairs, inside, min(cases, others), _known(variance) * pairs**2)


@dataclass(frozen=True)
class WithinSiteConcordance(WithinSitePairs):
    """Pairs of patients of the same site of whom one is known to have the event first, by exact days.

    Example:
        >>> pairs = WithinSiteConcordance.of([0.9, 0.5, 0.7], [[90, 1], [800, 0], [800, 1]])
        >>> pairs.concordant, pairs.comparable
        (3.0, 3.0)
    """

    METRICS: ClassVar[Mapping[str, str]] = {
        "c_index_within_sites": "Harrell's C of pairs of patients of the same site (stratified C), of exact risks and "
        "days; outside secure aggregation of each site's pairs in steps of its number of patients",
        "c_index_within_sites_low": "lower bound of its 95 % interval (jackknife by site, on the logit scale)",
        "c_index_within_sites_high": "upper bound",
    }

    @classmethod
    def of(cls, risk: npt.ArrayLike, truth: npt.ArrayLike) -> Self:
        """Count one site's pairs; see `concordance` for which are comparable.

        Args:
            risk: (N,) in [0, 1].
            truth: (N, 2) of days and event; nan for unknown: those are left out.

        Raises:
            ValueError: for risks outside [0, 1], times that are negative or infinite, or other events.
        """
        days, event = np.asarray(truth, dtype=np.float64).T
        followed = followed_patients(probabilities(risk, "risk"), days, event)
        concordant, comparable = pairs_of_patients(*followed)
        patients, cases = len(comparable), float(np.count_nonzero(followed[2]))
        pairs, inside = float(comparable.sum()) / 2, float(concordant.sum()) / 2  # each is seen from both its ends
        if not pairs:
            return cls(cases, patients - cases, 0.0, 0.0, 0.0, 0.0)
        influence: Array = concordant - inside / pairs * comparable
        squares = float((influence**2).sum()) * patients / (patients - 1)
        variance = squares / pairs**2 if cases > 1 else math.nan
        return cls(cases, patients - cases, pairs, inside, pairs / (patients - 1), _known(variance) * pairs**2)


@dataclass(frozen=True)
class WithinSiteHorizonAuc(WithinSitePairs):
    """Pairs of patients of the same site of whom one has the event by the horizon and the other is free of it then.

    Who is censored before is part of no pair; each event weighs one over the probability of not having been censored
    until then, by the site's own Kaplan-Meier estimate, relative to that of the horizon: at most 1.

    Example:
        >>> pairs = WithinSiteHorizonAuc.of([0.9, 0.5, 0.7], [[90, 1], [800, 0], [100, 0]], horizon_days=365.25)
        >>> pairs.concordant, pairs.comparable
        (0.5, 0.5)
    """

    METRICS: ClassVar[Mapping[str, str]] = {
        "auc_within_sites": "AUC at the horizon of pairs of patients of the same site, of the risks themselves, "
        "weighted by each site's own censoring; outside secure aggregation in steps of the site's number of patients",
        "auc_within_sites_low": "lower bound of its 95 % interval (DeLong by site, weighted, on the logit scale)",
        "auc_within_sites_high": "upper bound",
    }

    @classmethod
    def of(cls, risk: npt.ArrayLike, truth: npt.ArrayLike, horizon_days: float) -> Self:
        """Count one site's pairs.

        Args:
            risk: (N,) in [0, 1].
            truth: (N, 2) of days and event; nan for unknown: those are left out.
            horizon_days: days to the horizon.

        Raises:
            ValueError: for risks outside [0, 1], times that are negative or infinite, or other events.
        """
        days, event = np.asarray(truth, dtype=np.float64).T
        score, time, happened = followed_patients(probabilities(risk, "risk"), days, event)
        known = at_horizon(time, happened, horizon_days)
        cases, others = float(np.count_nonzero(known.event)), float(np.count_nonzero(known.free))
        if not cases * others:
            return cls(cases, others, 0.0, 0.0, 0.0, 0.0)
        weights = known.weights[known.event] / known.weights[known.free][0]
        pairs, inside, variance = weighted_pairs(score[known.event], score[known.free], weights)
        return cls(cases, others, pairs, inside, min(cases, others), variance)


def weighted_pairs(cases: Array, others: Array, weights: Array) -> tuple[float, float, float]:
    """All pairs, the concordant ones (ties 1/2) and these' variance, where cases have weights.

    Args:
        cases: (M,) scores of those with the event.
        others: (N,) scores of those without.
        weights: (M,) of the cases.
    """
    order, ascending = np.sort(others), np.argsort(cases)
    below = (np.searchsorted(order, cases, "left") + np.searchsorted(order, cases, "right")) / 2
    until = np.concatenate([[0.0], np.cumsum(weights[ascending])])
    ranks = (np.searchsorted(cases[ascending], others, side) for side in ("left", "right"))
    above = until[-1] - sum(until[rank] for rank in ranks) / 2
    pairs, inside = float(weights.sum() * len(others)), float(weights @ below)
    share, variance = inside / pairs, 0.0
    for concordant, comparable in ((weights * below, weights * len(others)), (above, np.full(len(others), until[-1]))):
        if len(concordant) > 1:
            squares = float(((concordant - share * comparable) ** 2).sum())
            variance += squares * len(concordant) / (len(concordant) - 1)
    return pairs, inside, variance if min(len(cases), len(others)) > 1 else 0.25 * pairs**2


def _known(variance: float) -> float:
    """The variance of a share; where one case alone leaves it unknown, the largest that a share can have."""
    return 0.25 if math.isnan(variance) else variance
