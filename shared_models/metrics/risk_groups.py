"""Risk groups of a time to event: their Kaplan-Meier curves, the log-rank test between them, and follow-up."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from shared_models.metrics.arrays import Array
from shared_models.metrics.kaplan_meier import (
    Curve,
    ends_days,
    kaplan_meier,
    log_rank,
    median_follow_up_days,
    risk_groups,
)
from shared_models.metrics.summary import Summary
from shared_models.metrics.survival import ConcordanceTable
from shared_models.targets import Target, TimeToEvent

STEP_ROWS = 3  # of months; those of merged cells are years
MIN_PATIENTS = 10
Counts = tuple[Array, Array]
"""Events and censored patients by row, (rows,) each."""


class RiskGroup(BaseModel):
    """One risk group's curve, at `times_days`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(description="which risks it has")
    patients: int = Field(description="how many it has")
    events: int = Field(description="how many of them had the event")
    at_risk: list[float] = Field(description="how many are still observed without it, from then on")
    survival: list[float | None] = Field(description="share without the event (Kaplan-Meier); null without patients")
    survival_low: list[float | None] = Field(description="lower bound of its 95 % interval (Greenwood, log(-log))")
    survival_high: list[float | None] = Field(description="upper bound")


class Survival(BaseModel):
    """Patients of a time-to-event target by risk, from counts by month, without secure aggregation by interval."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    median_follow_up_days: float | None = Field(
        description="median follow-up (reverse Kaplan-Meier); null where more than half are followed longer"
    )
    times_days: list[float] = Field(description="the days of the curves")
    cutoffs: list[float] = Field(default=[], description="the risks at which the groups part, ascending")
    cutoffs_source: str = Field(default="the decision threshold", description="where these come from")
    groups: list[RiskGroup] = Field(
        description="the groups, lowest risk first; one of fewer than 10 patients is joined with its neighbour"
    )
    log_rank_chi2: float | None = Field(description="chi-square of the log-rank test between the groups")
    log_rank_p: float | None = Field(description="its p-value; of cut-offs that no test patient chose")


def survival_by_risk(
    target: Target, summary: Summary, threshold: float | None, cutoffs: Sequence[float] = ()
) -> Survival | None:
    """The section of one role's patients; None for other targets, and without patients.

    Args:
        target: The target.
        summary: Its statistics over the role's sites.
        threshold: Its decision threshold.
        cutoffs: Where risk groups part, ascending; at the threshold where there are none.
    """
    tables = [each for each in summary.values() if isinstance(each, ConcordanceTable)]
    if not isinstance(target, TimeToEvent) or not tables or not tables[0].n:
        return None
    (table,) = tables
    half = not table.CENSORED_OUTLIVE_EVENTS_OF_THEIR_ROW
    step = 1 if half else STEP_ROWS
    at = cutoffs or (0.5 if threshold is None else threshold,)
    groups = risk_groups(table, at)
    if len(at) > 1:  # thirds of other patients may leave a few alone; two groups of a threshold are the finding
        groups, at = _enough_patients(groups, at)
    chi2, p_value = log_rank(groups, half)
    ends = ends_days(table, target.edges_days)[step - 1 :: step]
    ends = ends[ends <= target.edges_days[-1] + 1]
    return Survival(
        median_follow_up_days=_finite(median_follow_up_days(table, target.edges_days)),
        times_days=[0.0, *np.round(ends, 2).tolist()],
        cutoffs=[round(cutoff, 6) for cutoff in at],
        cutoffs_source="thirds of pooled validation patients" if cutoffs else "the decision threshold",
        groups=[
            _group(name, kaplan_meier(*group, half), group[1].sum(), step, len(ends))
            for name, group in zip(_names(at), groups, strict=True)
        ],
        log_rank_chi2=_finite(chi2),
        log_rank_p=_finite(p_value),
    )


def _enough_patients(groups: list[Counts], cutoffs: Sequence[float]) -> tuple[list[Counts], tuple[float, ...]]:
    """Groups of fewer than ten patients joined with the one before them, the first with the next."""
    joined, at = [groups[0]], list[float]()
    for group, cutoff in zip(groups[1:], cutoffs, strict=True):
        if min(_patients(joined[-1]), _patients(group)) < MIN_PATIENTS:
            joined[-1] = (joined[-1][0] + group[0], joined[-1][1] + group[1])
        else:
            joined, at = [*joined, group], [*at, cutoff]
    return joined, tuple(at)


def _patients(group: Counts) -> float:
    return float(group[0].sum() + group[1].sum())


def _names(cutoffs: Sequence[float]) -> list[str]:
    """Of each group, by its risks, with as many digits as tell them apart.

    >>> _names([0.12, 0.25]), _names([0.501, 0.504])
    (['risk < 0.12', '0.12 to 0.25', 'risk ≥ 0.25'], ['risk < 0.501', '0.501 to 0.504', 'risk ≥ 0.504'])
    """
    if not cutoffs:
        return ["any risk"]
    distinct = (
        digits for digits in range(2, 6) if len({round(c, digits) for c in (0.0, *cutoffs, 1.0)}) > len(cutoffs) + 1
    )
    digits = next(distinct, 6)
    ends = [f"{cutoff:.{digits}f}" for cutoff in cutoffs]
    between = [f"{low} to {high}" for low, high in itertools.pairwise(ends)]
    return [f"risk < {ends[0]}", *between, f"risk ≥ {ends[-1]}"]


def _group(name: str, curve: Curve, censored: float, step: int, times: int) -> RiskGroup:
    rows = slice(step - 1, step * times, step)
    events = float(curve.events.sum())
    later = np.append(curve.at_risk[1:], 0.0)[rows]
    start = 1.0 if curve.at_risk[0] > 0 else None
    return RiskGroup(
        name=name,
        patients=round(events + float(censored)),
        events=round(events),
        at_risk=[float(curve.at_risk[0]), *later.tolist()],
        survival=[start, *map(_finite, curve.survival[rows])],
        survival_low=[start, *map(_finite, curve.low[rows])],
        survival_high=[start, *map(_finite, curve.high[rows])],
    )


def _finite(value: Any) -> float | None:
    return round(float(value), 6) if math.isfinite(value) else None
