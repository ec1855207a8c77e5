"""Kaplan-Meier curves of risk groups, their log-rank test, and follow-up, from a table of risk by time.

An event precedes a censoring of its own month, as in the rows. In a table of merged cells, whose rows are years, those
who are censored in a row count half of it (the life table's convention).

References:
    Kaplan & Meier, Nonparametric estimation from incomplete observations. Journal of the American Statistical
        Association 53 (1958) 457-481; with Greenwood's variance on the log(-log) scale.
    Schemper & Smith, A note on quantifying follow-up in studies of failure time. Controlled Clinical Trials 17 (1996)
        343-346: the reverse Kaplan-Meier curve, in which censoring is the event.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shared_models.metrics.arrays import Array
from shared_models.metrics.interval import normal_quantile
from shared_models.metrics.scores import left_edges
from shared_models.metrics.survival import DAYS_PER_MONTH, ConcordanceTable

MIN_TO_PART = 30
"""Patients of validation, below whom thirds would say little of those of others."""


@dataclass(frozen=True, eq=False)
class Curve:
    """Survival of one group, at the end of each row of time, (rows,) each; nan where no patient is left.

    Attributes:
        at_risk: at the start of the row.
        events: in it.
        survival: share without the event at its end.
        low: lower bound of its 95 % interval.
        high: upper bound.
    """

    at_risk: Array
    events: Array
    survival: Array
    low: Array
    high: Array


def ends_days(table: ConcordanceTable, edges_days: Sequence[float]) -> Array:
    """The end of each row of a table but the open last one, (rows - 1,), in days.

    Args:
        table: by months, or of merged cells, whose rows end at `edges_days`.
        edges_days: the ends of the study's intervals.
    """
    months = np.arange(1, len(table.events)) * DAYS_PER_MONTH
    return (
        np.asarray(months, dtype=np.float64)
        if table.CENSORED_OUTLIVE_EVENTS_OF_THEIR_ROW
        else np.asarray(edges_days, dtype=np.float64)
    )


def thirds(table: ConcordanceTable) -> tuple[float, ...]:
    """The one or two edges of bins that part patients by risk into groups as even as they can be; none of too few.

    Args:
        table: Of the patients who choose: those of validation, for the groups of test patients.

    Example:
        >>> [round(edge, 2) for edge in thirds(ConcordanceTable.of(np.arange(90) / 90, np.ones(90), np.ones(90)))]
        [0.32, 0.67]
    """
    by_bin = (table.events + table.censored).sum(axis=0)
    if table.n < MIN_TO_PART:
        return ()
    below = np.cumsum(by_bin) - by_bin  # patients below each bin's left edge
    edges = left_edges(len(by_bin), table.score_range)
    places = {int(np.abs(below / table.n - share).argmin()) for share in (1 / 3, 2 / 3)}
    return tuple(float(edges[place]) for place in sorted(places) if 0 < below[place] < table.n)


def risk_groups(table: ConcordanceTable, cutoffs: Sequence[float]) -> list[tuple[Array, Array]]:
    """Events and censored patients by row, (rows,) each, of the groups that cut-offs part, lowest risk first.

    Args:
        table: Of the patients.
        cutoffs: Ascending edges of bins; a patient at one is in the group above it.
    """
    edges = left_edges(table.events.shape[1], table.score_range)
    group = np.searchsorted(np.asarray(cutoffs), edges, side="right")
    masks = [group == number for number in range(len(cutoffs) + 1)]
    return [(table.events[:, mask].sum(axis=1), table.censored[:, mask].sum(axis=1)) for mask in masks]


def kaplan_meier(events: Array, censored: Array, half: bool) -> Curve:
    """The curve of one group.

    Args:
        events: (rows,) patients with the event, by time.
        censored: (rows,) patients whose observation ended without it.
        half: whether who is censored in a row counts half of it, else all.
    """
    at_risk = np.cumsum((events + censored)[::-1])[::-1]
    exposed = at_risk - censored / 2 if half else at_risk
    share = np.divide(events, exposed, out=np.full(len(events), np.nan), where=exposed > 0)
    survival = np.cumprod(1 - share)
    terms = np.divide(events, exposed * (exposed - events), out=np.zeros(len(events)), where=exposed > events)
    with np.errstate(divide="ignore", invalid="ignore"):
        width = normal_quantile(0.95) * np.sqrt(np.cumsum(terms)) / np.abs(np.log(survival))
        low, high = survival ** np.exp(width), survival ** np.exp(-width)
    inside = (survival > 0) & (survival < 1)
    return Curve(at_risk, events, survival, *(np.where(inside, bound, np.nan) for bound in (low, high)))


def log_rank(groups: Sequence[tuple[Array, Array]], half: bool) -> tuple[float, float]:
    """Chi-square (as many degrees of freedom as groups but one) and p-value of one curve for all; nan without events.

    Args:
        groups: events and censored patients by row, of each of the K groups.
        half: as for `kaplan_meier`.
    """
    from scipy.stats import chi2

    curves = [kaplan_meier(events, censored, half) for events, censored in groups]
    exposed = np.stack(
        [curve.at_risk - (censored / 2 if half else 0) for curve, (_, censored) in zip(curves, groups, strict=True)]
    )
    events, total = sum(events for events, _ in groups), exposed.sum(axis=0)
    share = np.divide(exposed, total, out=np.zeros_like(exposed), where=total > 0)  # (K, rows)
    left = np.divide(total - events, total - 1, out=np.zeros(len(total)), where=total > 1)
    surplus = np.array([float(own.sum()) for own, _ in groups]) - (events * share).sum(axis=1)
    covariance = np.diag((events * left * share).sum(axis=1)) - (events * left * share) @ share.T
    if not np.trace(covariance) > 0:
        return math.nan, math.nan
    statistic = float(surplus @ np.linalg.pinv(covariance, hermitian=True) @ surplus)
    return statistic, float(chi2.sf(statistic, max(int((exposed.sum(axis=1) > 0).sum()) - 1, 1)))


def median_follow_up_days(table: ConcordanceTable, edges_days: Sequence[float]) -> float:
    """The end of the row by which half of the patients would be censored, if none had the event; nan if none is."""
    events, censored = table.events.sum(axis=1), table.censored.sum(axis=1)
    before = np.cumsum((events + censored)[::-1])[::-1] - events  # an event precedes the censoring of its row
    share = np.divide(censored, before, out=np.zeros(len(events)), where=before > 0)
    followed = np.cumprod(1 - share)[:-1]
    half = np.flatnonzero(followed <= 0.5)
    return float(ends_days(table, edges_days)[half[0]]) if len(half) else math.nan
