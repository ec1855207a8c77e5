"""Statistics and metrics of each kind of target."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared_models.metrics.binary import ConfusionCounts, ScoreHistogram, pooled_auc_interval
from shared_models.metrics.categorical import ConfusionMatrix
from shared_models.metrics.merged_cells import group_small_classes, merge_concordance, merge_histogram
from shared_models.metrics.regression import RegressionSums
from shared_models.metrics.survival import ConcordanceTable
from shared_models.targets import Binary, Categorical, Regression, Target, TimeToEvent

Values = NDArray[np.floating[Any]]
Summary = ScoreHistogram | ConcordanceTable | ConfusionMatrix | RegressionSums
Metrics = dict[str, float]

# Enough to order risks to a C-index within its certificate, and a message of a few hundred kilobytes.
RISK_BINS = 128


def summarise(target: Target, scores: Values, truth: Values) -> Summary:
    """The additive statistic of a target's scores: all that leaves a site about them.

    Args:
        target: The target.
        scores: What `target.predict` gave, `(N,)` or `(N, K)`.
        truth: `(N,)`, or `(N, 2)` for time to event; NaN where unknown.
    """
    match target:
        case Binary():
            return ScoreHistogram.of(scores, truth)
        case TimeToEvent():
            known = ~np.isnan(truth).any(axis=1)
            return ConcordanceTable.of(scores[known], truth[known, 0], truth[known, 1], bins=RISK_BINS)
        case Categorical():
            known = ~np.isnan(truth)
            return ConfusionMatrix.of(scores[known].argmax(axis=1), truth[known], classes=target.outputs)
        case Regression():
            known = ~np.isnan(truth)
            return RegressionSums.of(scores[known], truth[known])


def empty_summary(target: Target, merged: bool = False) -> Summary:
    """The statistic of no patients: the zero of the sum, and the shape that a site's answer must have.

    Args:
        target: The target.
        merged: Whether of merged cells, as sites send them outside a secure sum.
    """
    scores = np.zeros((0, target.outputs)) if isinstance(target, Categorical) else np.zeros(0)
    empty = summarise(target, scores, np.zeros((0, 2)) if isinstance(target, TimeToEvent) else np.zeros(0))
    return merge_small_cells(target, empty, 1) if merged else empty


def merge_small_cells(target: Target, summary: Summary, least: int) -> Summary:
    """A site's statistic without a cell of fewer than `least` patients; empty where that leaves nothing to tell.

    Args:
        target: The target.
        summary: What `summarise` gave.
        least: Fewest patients of one outcome in a cell.
    """
    match summary:
        case ScoreHistogram():
            return merge_histogram(summary, least)
        case ConcordanceTable():
            assert isinstance(target, TimeToEvent)
            return merge_concordance(summary, target.edges_days, least)
        case ConfusionMatrix():
            return ConfusionMatrix(np.stack([group_small_classes(row, least) for row in summary.counts]))
        case RegressionSums():
            return summary if summary.n >= least else RegressionSums.of([], [])


def selection_score(summaries: Iterable[Summary]) -> float:
    """The number by which a global model is judged on validation patients: the mean over its targets, NaN if none is.

    AUC, C-index and macro F1 have their best at 1 as R squared has, so that no target drowns the others.
    """
    values = [value for value in map(target_score, summaries) if not np.isnan(value)]
    return float(np.mean(values)) if values else float("nan")


def target_score(summary: Summary) -> float:
    """How well one target is predicted: higher is better, NaN if undefined."""
    match summary:
        case ScoreHistogram():
            return summary.auc()
        case ConcordanceTable():
            return summary.concordance()
        case ConfusionMatrix():
            return summary.macro_f1
        case RegressionSums():
            return summary.r2


def pooled_metrics(summary: Summary, threshold: float) -> Metrics:
    """Metrics of all sites together, from their summed statistics."""
    match summary:
        case ScoreHistogram():
            interval = pooled_auc_interval(summary)
            counts = {"patients": summary.n, "positives": summary.n_positive}
            auc = {"auc": interval.value, "auc_low": interval.low, "auc_high": interval.high}
            bound = {"auc_bound": summary.auc_bound()}
            return {**counts, **auc, **bound, **_at_threshold(summary.confusion(threshold))}
        case ConcordanceTable():
            interval = summary.interval()
            counts = {"patients": summary.n, "events": summary.n_events}
            c_index = {"c_index": interval.value, "c_index_low": interval.low, "c_index_high": interval.high}
            return {**counts, **c_index, "c_index_bound": summary.bound()}
        case ConfusionMatrix():
            return {"patients": summary.n, "accuracy": summary.accuracy, "macro_f1": summary.macro_f1}
        case RegressionSums():
            return {"patients": summary.n, "mae": summary.mae, "rmse": summary.rmse, "r2": summary.r2}


def site_metrics(target: Target, scores: Values, truth: Values, threshold: float, seed: int = 0) -> Metrics:
    """Metrics of one site, computed where the rows are: exact, with DeLong's or a bootstrap's interval."""
    if isinstance(target, Binary):
        from shared_models.metrics.delong import auc_interval

        interval = auc_interval(scores, truth)
        counts = {"patients": float((~np.isnan(truth)).sum()), "positives": float((truth == 1).sum())}
        auc = {"auc": interval.value, "auc_low": interval.low, "auc_high": interval.high}
        return {**counts, **auc, **_at_threshold(ConfusionCounts.of(scores, truth, threshold))}
    if isinstance(target, TimeToEvent):
        from shared_models.metrics.concordance import concordance_interval

        known = ~np.isnan(truth).any(axis=1)
        interval = concordance_interval(scores[known], truth[known, 0], truth[known, 1], seed=seed)
        counts = {"patients": float(known.sum()), "events": float(truth[known, 1].sum())}
        return {**counts, "c_index": interval.value, "c_index_low": interval.low, "c_index_high": interval.high}
    return pooled_metrics(summarise(target, scores, truth), threshold)


def _at_threshold(counts: ConfusionCounts) -> Metrics:
    names = ("tp", "fp", "tn", "fn", "f1", "sensitivity", "specificity", "precision")
    return {name: float(getattr(counts, name)) for name in names}
