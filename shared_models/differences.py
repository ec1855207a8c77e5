"""Differences of one hospital's tables and outcomes from the other hospitals', larger than patients explain.

A size in another unit, codes that say the contrary or logarithms to another base make a table that is plausible by
itself. Beside the others' it is not: its mean, its spread or the share of a class is elsewhere. Both ends compare, from
sums that they have anyway: the center hospital by hospital, a hospital itself against all without its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from shared_models.features import Feature, FeatureStatistics
from shared_models.targets import Binary, Categorical, Regression, Target, TimeToEvent
from shared_models.task import Task

Vector = NDArray[np.float64]

MIN_KNOWN = 20  # patients on either side of a comparison
SHIFT = 1.5  # deviations between the means
SPREAD = 3.0  # between the deviations, as a factor
ODDS, HAZARD_ODDS = 5.0, 3.0  # between the odds of a class, or of an event in an interval, as a factor
CERTAIN = 4.0  # standard errors
MAX_NAMED = 6  # columns in a sentence


@dataclass(frozen=True)
class Sums:
    """What patients add up to.

    Attributes:
        statistics: Sums of their features, by tabular modality.
        counts: Their class counts, by target; none where they are not known.
    """

    statistics: Mapping[str, FeatureStatistics]
    counts: Mapping[str, NDArray[Any]]


def differences(own: Sums, others: Sums, task: Task) -> list[str]:
    """Sentences on what differs between one hospital's patients and all others', by table and target."""
    sentences = [
        _table(name, table.features, own.statistics[name], others.statistics[name])
        for name, table in task.tables.items()
        if name in own.statistics and name in others.statistics
    ]
    sentences += [
        _outcome(name, target, own.counts[name], others.counts[name])
        for name, target in task.targets.items()
        if name in own.counts and name in others.counts
    ]
    return [sentence for sentence in sentences if sentence]


def each_from_the_others(sites: Mapping[str, Sums], task: Task) -> dict[str, list[str]]:
    """What differs at each of several hospitals from the others, by hospital; those that do not are left out.

    Columns are compared with those of the hospital in the middle, so that one in another unit makes no other unlike.
    """
    if len(sites) < 2:
        return {}
    first = next(iter(sites.values()))
    tables = {name: SortedColumns.of([one.statistics[name] for one in sites.values()]) for name in first.statistics}
    totals = {name: np.sum([one.counts[name] for one in sites.values()], axis=0) for name in first.counts}
    by_site = {}
    for row, (site, own) in enumerate(sites.items()):
        statistics = {name: table.middle_of_others(row) for name, table in tables.items()}
        counts = {name: total - own.counts[name] for name, total in totals.items()}
        by_site[site] = differences(own, Sums(statistics, counts), task)
    return {site: sentences for site, sentences in by_site.items() if sentences}


@dataclass(frozen=True)
class SortedColumns:
    """The columns of one table at S hospitals, sorted once for all of them.

    Attributes:
        patients: `(S,)`.
        sums: `(3, S, C)` known, total, squares.
        means: `(S, C)`; infinite where too few are known.
        order: `(S, C)` the hospitals of each column by their means.
        rank: `(S, C)` each hospital's place in that order.
    """

    patients: Vector
    sums: Vector
    means: Vector
    order: NDArray[np.intp]
    rank: NDArray[np.intp]

    @classmethod
    def of(cls, sites: Sequence[FeatureStatistics]) -> Self:
        """Sorts the hospitals of each column."""
        sums = np.stack([[getattr(one, part) for one in sites] for part in ("known", "total", "squares")])
        means = np.where(sums[0] >= MIN_KNOWN, sums[1] / np.maximum(sums[0], 1), np.inf)
        order = np.argsort(means, axis=0, kind="stable")
        return cls(np.array([one.patients for one in sites]), sums, means, order, np.argsort(order, axis=0))

    def middle_of_others(self, row: int) -> FeatureStatistics:
        """Of each column the sums of the hospital whose mean is in the middle without this one's; of two the nearer."""
        enough = np.isfinite(self.means)
        last, columns = np.maximum(enough.sum(axis=0) - enough[row] - 1, 0), np.arange(self.means.shape[1])
        places = (last // 2, (last + 1) // 2)
        low, high = (self.order[place + (place >= self.rank[row]), columns] for place in places)
        own = self.sums[1, row] / np.maximum(self.sums[0, row], 1)
        nearer = np.abs(self.means[high, columns] - own) < np.abs(self.means[low, columns] - own)
        known, total, squares = self.sums[:, np.where(nearer, high, low), columns]
        return FeatureStatistics(float(self.patients.sum() - self.patients[row]), known, total, squares)


def without(all_sites: FeatureStatistics, own: FeatureStatistics) -> FeatureStatistics:
    """The sums of all hospitals but one."""
    known, sums, squares = (getattr(all_sites, part) - getattr(own, part) for part in ("known", "total", "squares"))
    return FeatureStatistics(all_sites.patients - own.patients, np.maximum(known, 0), sums, np.maximum(squares, 0))


def _table(name: str, features: Sequence[Feature], own: FeatureStatistics, others: FeatureStatistics) -> str:
    columns = list(_columns(features, own, others))
    if not columns:
        return ""
    more = f"; and {len(columns) - MAX_NAMED} more columns" if len(columns) > MAX_NAMED else ""
    return f"{name}: {'; '.join(columns[:MAX_NAMED])}{more}"


def _columns(features: Sequence[Feature], own: FeatureStatistics, others: FeatureStatistics) -> Iterator[str]:
    names = [(column, feature) for feature in features for column in feature.columns]
    enough = np.minimum(own.known, others.known) >= MIN_KNOWN
    shares = _only_zeros_and_ones(own) & _only_zeros_and_ones(others)
    means = np.abs(own.mean - others.mean)
    error = np.sqrt(own.variance / np.maximum(own.known, 1) + others.variance / np.maximum(others.known, 1))
    shifted = means > np.maximum(SHIFT * np.sqrt((own.variance + others.variance) / 2), CERTAIN * error)
    both_vary = (own.variance > 0) & (others.variance > 0)
    deviations = np.where(both_vary, own.deviation / others.deviation, 1.0)
    spread = np.abs(np.log(deviations)) > np.log(SPREAD)
    for index in np.flatnonzero(enough & ~shares & (shifted | spread)):
        column, feature = names[index]
        scale = " as log(1 + x)" if feature.log else ""
        here, there = (f"{one.mean[index]:.4g} (SD {one.variance[index] ** 0.5:.3g})" for one in (own, others))
        yield f"{column}{scale} is {here} on average, elsewhere {there}"
    for index in np.flatnonzero(enough & shares):
        column, feature = names[index]
        if shares_text := _share(own.total[index], own.known[index], others.total[index], others.known[index]):
            yield f"{column} is {shares_text}" if feature.categories else f"{column} is 1 for {shares_text}"


def _only_zeros_and_ones(sums: FeatureStatistics) -> NDArray[np.bool_]:
    return np.isclose(sums.total, sums.squares, rtol=1e-9) & (sums.total >= 0) & (sums.total <= sums.known)


def _outcome(name: str, target: Target, own: NDArray[Any], others: NDArray[Any]) -> str:
    """A class, an event in an interval, or the mean of a number, whose odds are several times the others'."""
    match target:
        case Binary() | Categorical():
            classes = ("0", "1") if isinstance(target, Binary) else target.classes
            pairs = zip(classes, own, others, strict=True)
            shares = [f"{label} is {text}" for label, a, b in pairs if (text := _share(a, own.sum(), b, others.sum()))]
            shares = shares[-1:] if isinstance(target, Binary) else shares
            return f"outcome {name}: {'; '.join(shares)}" if shares else ""
        case TimeToEvent():
            text = _share(
                own[1].sum(), own.sum(), others[1].sum(), others.sum(), HAZARD_ODDS, "of the intervals at risk"
            )
            return f"outcome {name}: the event comes in {text}" if text else ""
        case Regression():
            if min(own[0], others[0]) < MIN_KNOWN:
                return ""
            here, there = own[1] / own[0], others[1] / others[0]
            if here * there > 0 and abs(np.log(here / there)) > np.log(ODDS):
                return f"outcome {name} is {here:.4g} on average, elsewhere {there:.4g}"
            return ""


def _share(own: float, known: float, others: float, others_known: float, factor: float = ODDS, unit: str = "") -> str:
    """`12%, elsewhere 80%`, where the odds differ by more than a factor, and more than chance explains."""
    if min(known, others_known) < MIN_KNOWN:
        return ""
    # the others' counts are all sites' less this one's, and those of all may be coarser than its own
    cells = np.maximum([own, known - own, others, others_known - others], 0) + 0.5
    ratio = np.log(cells[0] * cells[3] / (cells[1] * cells[2]))
    if abs(ratio) < max(np.log(factor), CERTAIN * float(np.sqrt((1 / cells).sum()))):
        return ""
    unit = f" {unit}" if unit else ""
    return f"{own / known:.0%}{unit}, elsewhere {others / others_known:.0%}"
