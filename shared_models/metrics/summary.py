"""Statistics of a target's scores, and the metrics from them, of each kind of target.

A target kind lists its statistics (`shared_models/targets.py`), each a file of this folder. A site counts all of them,
they travel and are added up one by one, and their metrics are together in results.json. Pairs of patients within
sites judge the target, and select the best round; where there are none, the first statistic does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared_models.metrics.arrays import CoarseStatistic, PooledMetrics, TargetStatistic, from_arrays, to_arrays, total
from shared_models.metrics.binary import ScoreHistogram
from shared_models.metrics.calibration import Calibration
from shared_models.metrics.categorical import ConfusionMatrix
from shared_models.metrics.censoring import at_horizon
from shared_models.metrics.confusion_counts import ConfusionCounts, threshold_metrics
from shared_models.metrics.horizon import HorizonTable
from shared_models.metrics.interval import normal_quantile
from shared_models.metrics.merged_cells import MergedConcordance, MergedHistogram, merge_concordance, merge_histogram
from shared_models.metrics.merged_horizon import MergedHorizon, merge_horizon
from shared_models.metrics.regression import RegressionSums
from shared_models.metrics.survival import ConcordanceTable
from shared_models.metrics.within_site import WithinSiteConcordance, WithinSiteHorizonAuc, WithinSitePairs
from shared_models.targets import Binary, Categorical, Target, TimeToEvent

Values = NDArray[np.floating[Any]]
Metrics = dict[str, float]
Arrays = dict[str, np.ndarray[Any, Any]]
RIGHTED_BY = {"scores": "within_site", "concordance": "within_site", "horizon": "within_site_at_horizon"}
"""Statistics of merged cells, by the pairs of the same site that show how far these are off."""
JUDGING = ("auc", "c_index", "macro_f1", "r2")
Summary = dict[str, TargetStatistic]
"""A target's statistics, by the names that it lists them under."""


def summarise(target: Target, scores: Values, truth: Values) -> Summary:
    """The target's additive statistics of some patients: all that leaves a site about their scores.

    Args:
        target: The target.
        scores: What `target.predict` gave, `(N,)` or `(N, K)`.
        truth: `(N,)`, or `(N, 2)` for time to event; NaN where unknown.
    """
    return {name: count(scores, truth) for name, count in target.statistics.items()}


def empty_summary(target: Target, merged: bool = False) -> Summary:
    """The statistics of no patients: the zero of the sum, and the shapes that a site's answer must have.

    Args:
        target: The target.
        merged: Whether of merged cells, as sites send them outside of secure aggregation.
    """
    scores = np.zeros((0, target.outputs)) if isinstance(target, Categorical) else np.zeros(0)
    empty = summarise(target, scores, np.zeros((0, 2)) if isinstance(target, TimeToEvent) else np.zeros(0))
    return merge_small_cells(target, empty, 1) if merged else empty


def shape_of_counts(target: Target) -> dict[str, tuple[int, ...]]:
    """The shape of each array that a target's statistics are packed into, as `STATISTIC.FIELD`."""
    packed = pack_summary(empty_summary(target), "")
    return {name.removeprefix("."): array.shape for name, array in packed.items()}


def merge_small_cells(target: Target, summary: Summary, least: int) -> Summary:
    """A site's statistics without a cell of fewer than `least` patients; empty where that leaves nothing to tell.

    Args:
        target: The target.
        summary: What `summarise` gave.
        least: Fewest patients of one outcome in a cell.
    """
    merged = {name: _merged(target, name, statistic, least) for name, statistic in summary.items()}
    for histogram in list(merged.values()):
        if isinstance(histogram, MergedHistogram):
            merged |= {name: histogram.calibration() for name, one in summary.items() if isinstance(one, Calibration)}
    return merged


def _merged(target: Target, name: str, statistic: TargetStatistic, least: int) -> TargetStatistic:
    match statistic:
        case ScoreHistogram():
            histogram: ScoreHistogram = merge_histogram(statistic, least)
            return histogram
        case ConcordanceTable():
            assert isinstance(target, TimeToEvent)
            table: ConcordanceTable = merge_concordance(statistic, target.edges_days, least)
            return table
        case HorizonTable():
            at_horizon: HorizonTable = merge_horizon(statistic, least)
            return at_horizon
        case CoarseStatistic():
            return statistic.without_small_cells(least)
        case _:  # it does not say what one site may tell of it
            return empty_summary(target)[name]


def pack_summary(summary: Summary, prefix: str) -> Arrays:
    """The statistics as named arrays: `PREFIX.STATISTIC.FIELD`."""
    arrays: Arrays = {}
    for name, statistic in summary.items():
        arrays |= to_arrays(statistic, f"{prefix}.{name}")
    return arrays


def unpack_summary(
    target: Target, arrays: Mapping[str, np.ndarray[Any, Any]], prefix: str, merged: bool = False
) -> Summary:
    """The inverse of `pack_summary`.

    Raises:
        ValueError: If an array is missing, of another shape, negative where it counts, or not finite.
    """
    return {
        name: from_arrays(type(zero), arrays, f"{prefix}.{name}", like=zero)
        for name, zero in empty_summary(target, merged).items()
    }


def total_summary(summaries: Iterable[Summary]) -> Summary:
    """The statistics of all sites together.

    Raises:
        ValueError: If there are none, or if they do not fit together.
    """
    parts = list(summaries)
    return {name: total(part[name] for part in parts) for name in parts[0]} if parts else total([])


def selection_score(summaries: Iterable[Summary]) -> float:
    """The number by which a global model is judged on validation patients: the mean over its targets, NaN if none is.

    AUC, C-index and macro F1 have their best at 1 as R squared has, so that no target drowns the others.
    """
    values = [value for value in map(target_score, summaries) if not np.isnan(value)]
    return float(np.mean(values)) if values else float("nan")


def selection_interval(summaries: Iterable[Summary]) -> tuple[float, float]:
    """The 95 % interval of `selection_score`, NaN where a target has none.

    Targets are taken as independent, which they are not quite: the interval of a mean over several is for the eye.
    """
    judged = [(value, _interval(summary)) for summary in summaries if not np.isnan(value := target_score(summary))]
    if not judged:
        return float("nan"), float("nan")
    mean = float(np.mean([value for value, _ in judged]))
    below, above = (np.array([abs(value - ends[end]) for value, ends in judged]) for end in (0, 1))
    reach_low, reach_high = (float(np.sqrt((reach**2).sum())) / len(judged) for reach in (below, above))
    return mean - reach_low, mean + reach_high


def _interval(summary: Summary) -> tuple[float, float]:
    """The interval of `target_score`."""
    for statistic in summary.values():
        if isinstance(statistic, WithinSitePairs) and not np.isnan(statistic.share()):
            interval = statistic.interval()
            return interval.low, interval.high
    metrics = next(iter(summary.values())).metrics(0.5)
    judged = next((name for name in JUDGING if name in metrics), "")
    low, high = (metrics.get(f"{judged}_{end}") for end in ("low", "high"))
    return (low, high) if isinstance(low, float) and isinstance(high, float) else (float("nan"), float("nan"))


def selection_error(summaries: Iterable[Summary]) -> float:
    """The standard error of `selection_score`; that of a single coin where too few patients leave it unknown."""
    low, high = selection_interval(summaries)
    return 0.5 if np.isnan(low + high) else (high - low) / (2 * normal_quantile(0.95))


def selection_step(parts: Sequence[Sequence[Summary]]) -> float:
    """What sites' rounding alone may make of a difference of two rounds' `selection_score`, some 2.4 standard errors.

    A number rounded to multiples of a step is off by a twelfth of the step squared, and the difference of two by a
    sixth. Of one site it is a step: neighbouring multiples may be of two rounds that hardly differ.

    Args:
        parts: Of each site that told its pairs in steps, its targets' statistics.
    """
    pairs = [[_pairs_within(summary) for summary in targets] for targets in zip(*parts, strict=True)]
    squares = [
        sum(one.step**2 for one in sites if one.comparable) / comparable**2
        for sites in ([one for one in target if one] for target in pairs)
        if (comparable := sum(one.comparable for one in sites))
    ]
    return float(np.sqrt(sum(squares))) / len(squares) if squares else 0.0


def target_score(summary: Summary) -> float:
    """How well one target is predicted: higher is better, NaN if undefined.

    By pairs of patients within sites, which no knowledge of the site orders; by the first statistic where there are no
    such pairs.

    Raises:
        ValueError: If that statistic is none that judges.
    """
    if not np.isnan(within := score_within_sites(summary)):
        return within
    match next(iter(summary.values())):
        case ScoreHistogram() as scores:
            return scores.auc()
        case ConcordanceTable() as table:
            return table.concordance()
        case ConfusionMatrix() as matrix:
            return matrix.macro_f1
        case RegressionSums() as sums:
            return sums.r2
        case other:
            msg = f"a {type(other).__name__} does not say how well a target is predicted; list another statistic first"
            raise ValueError(msg)


def score_within_sites(summary: Summary) -> float:
    """The stratified AUC or C-index of one target; NaN if it has none, or no site has comparable pairs."""
    pairs = _pairs_within(summary)
    return pairs.share() if pairs else float("nan")


def _pairs_within(summary: Summary) -> WithinSitePairs | None:
    return next((statistic for statistic in summary.values() if isinstance(statistic, WithinSitePairs)), None)


def pooled_metrics(summary: Summary, threshold: float) -> PooledMetrics:
    """Metrics of all sites together, from their summed statistics."""
    metrics: PooledMetrics = {}
    for statistic in summary.values():
        metrics |= statistic.metrics(threshold)
    for cells, pairs in RIGHTED_BY.items():
        match summary.get(cells), summary.get(pairs):
            case ((MergedHistogram() | MergedConcordance() | MergedHorizon() as table), WithinSitePairs() as within):
                metrics |= table.righted(within.share())
    return metrics


def site_metrics(target: Target, scores: Values, truth: Values, threshold: float, seed: int = 0) -> Metrics:
    """Metrics of one site, computed where the rows are: exact, with DeLong's or a bootstrap's interval.

    Of the other targets those numbers that their statistics give; curves are for all sites together.
    """
    if isinstance(target, Binary):
        from shared_models.metrics.delong import auc_interval

        interval = auc_interval(scores, truth)
        counts = {"patients": float((~np.isnan(truth)).sum()), "positives": float((truth == 1).sum())}
        auc = {"auc": interval.value, "auc_low": interval.low, "auc_high": interval.high}
        return {**counts, **auc, **threshold_metrics(ConfusionCounts.of(scores, truth, threshold))}
    if isinstance(target, TimeToEvent):
        return time_to_event_metrics(target, scores, truth, threshold, seed)
    pooled = pooled_metrics(summarise(target, scores, truth), threshold)
    rates = ("accuracy_low", "accuracy_high", "balanced_accuracy", "macro_f1_low", "macro_f1_high")
    hidden = {*rates, "balanced_accuracy_low", "balanced_accuracy_high"}  # of exact counts, which a site does not tell
    return {name: value for name, value in pooled.items() if isinstance(value, float) and name not in hidden}


def time_to_event_metrics(target: TimeToEvent, risk: Values, truth: Values, threshold: float, seed: int) -> Metrics:
    """A site's own C-index, and its own AUC and rates at the horizon, weighted by its own patients' censoring.

    Args:
        target: The target.
        risk: `(N,)`.
        truth: `(N, 2)` of days and event; NaN where unknown.
        threshold: At and above which a risk counts as positive.
        seed: Of the C-index's bootstrap.
    """
    known = ~np.isnan(truth).any(axis=1)
    risk, days, event = risk[known], truth[known, 0].astype(np.float64), truth[known, 1] == 1
    c_index = WithinSiteConcordance.of(risk, truth[known]).interval()
    outcome = at_horizon(days, event, target.horizon_days)
    auc = WithinSiteHorizonAuc.of(risk, truth[known], target.horizon_days).interval()
    flagged, sums = risk >= threshold, outcome.weights
    counts = {"patients": len(risk), "events": event.sum(), "events_by_horizon": outcome.event.sum()}
    counts |= {"free_at_horizon": outcome.free.sum()}
    counts |= {"censored_before_horizon": len(risk) - counts["events_by_horizon"] - counts["free_at_horizon"]}
    tp, fp = sums[flagged & outcome.event].sum(), sums[flagged & outcome.free].sum()
    tn, fn = sums[~flagged & outcome.free].sum(), sums[~flagged & outcome.event].sum()
    return {
        **{name: float(count) for name, count in counts.items()},
        "c_index": c_index.value,
        "c_index_low": c_index.low,
        "c_index_high": c_index.high,
        "auc": auc.value,
        "auc_low": auc.low,
        "auc_high": auc.high,
        **threshold_metrics(ConfusionCounts(float(tp), float(fp), float(tn), float(fn))),
    }
