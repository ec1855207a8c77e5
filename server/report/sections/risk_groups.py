"""Section on risk groups over time: Kaplan-Meier curves by predicted risk, with the numbers at risk under them."""

from __future__ import annotations

from server.report.study import Outcome, Study
from server.report.verdict import judged_role
from shared_models.metrics.risk_groups import RiskGroup, Survival
from shared_models.pages.curves import is_coarse
from shared_models.pages.drawing import ROLES, Role
from shared_models.pages.elements import Figure, Section, not_recorded
from shared_models.pages.numbers import NBSP, YEAR_DAYS, count, names, number, p_value, percent
from shared_models.pages.survival import draw_survival, survival_values

TITLE = "Risk groups over time"


def section(study: Study) -> Section:
    """A Kaplan-Meier curve of each risk group, by role, with the numbers at risk under it."""
    outcomes = [outcome for outcome in study.outcomes if _roles(outcome)]
    if not outcomes:
        return not_recorded(TITLE, "no target of this study has times of which curves are told.")
    return Section(TITLE, " ".join(map(_lead, outcomes)), [_figure(outcome) for outcome in outcomes])


def _survival(outcome: Outcome, role: Role) -> Survival | None:
    return outcome.results.survival.get(role)


def _shown(outcome: Outcome) -> dict[str, Survival]:
    return {role: survival for role in ROLES if (survival := _survival(outcome, role))}


def _roles(outcome: Outcome) -> list[Role]:
    return [role for role in ROLES if _survival(outcome, role)]


def _lead(outcome: Outcome) -> str:
    role = judged_role(outcome) if _survival(outcome, judged_role(outcome)) else _roles(outcome)[0]
    survival = _survival(outcome, role)
    assert survival is not None
    index = _judged_time(outcome, survival)
    if not index:
        return f"{outcome.label}, {role} patients: too few are told to compare groups at any time."
    shares = [
        f"{percent(group.survival[index])} ({_bounds(group, index)}) of {count(group.patients)} with {_risk(group)}"
        for group in survival.groups
        if group.survival[index] is not None
    ]
    where = f"{role} patients, {number(survival.times_days[index] / YEAR_DAYS, 1)} years after time zero"
    return f"{outcome.label}, {where}: free of it were {names(shares) or 'too few to tell'}.{_doubt(outcome, role)}"


def _doubt(outcome: Outcome, role: Role) -> str:
    if not is_coarse(outcome.metrics(role)):
        return ""
    return (
        " Read it with care: cells of few patients, of risk and of time, were merged before they left the hospitals, "
        "so groups and steps are coarse."
    )


def _risk(group: RiskGroup) -> str:
    return group.name if "risk" in group.name else f"risk {group.name}"


def _judged_time(outcome: Outcome, survival: Survival) -> int:
    """The horizon, or the last time before it at which each group still has patients; 0 where there is none."""
    horizon = outcome.results.horizon_days or survival.times_days[-1]
    known = [
        index
        for index, days in enumerate(survival.times_days)
        if days <= horizon + 1 and all(group.survival[index] is not None for group in survival.groups)
    ]
    return max(known, default=0)


def _bounds(group: RiskGroup, index: int) -> str:
    low, high = group.survival_low[index], group.survival_high[index]
    return f"{percent(low)} to {percent(high)}" if low is not None and high is not None else "no interval"


def _figure(outcome: Outcome) -> Figure:
    return Figure(
        name=f"risk_groups_{outcome.name}",
        draw=lambda: draw_survival(_shown(outcome)),
        alt=f"Kaplan-Meier curves of {outcome.label} by predicted risk",
        caption=f"Kaplan–Meier estimates by predicted risk; {_groups(outcome)}. Bands: 95{NBSP}% (Greenwood, log−log). "
        f"In the legend: events of patients. Below: patients still observed without {outcome.label} from then on. "
        f"Log-rank test of all groups: {'; '.join(_test(outcome, role) for role in _roles(outcome))}.",
        columns=("role", "group", "days", "at risk", "free", "low", "high"),
        values=[*survival_values(_shown(outcome))],
    )


def _test(outcome: Outcome, role: Role) -> str:
    survival = _survival(outcome, role)
    if survival is None or survival.log_rank_p is None:
        return f"{role} not recorded"
    follow = survival.median_follow_up_days
    years = f", median follow-up {number(follow / YEAR_DAYS, 1)} years" if follow is not None else ""
    p = p_value(survival.log_rank_p)
    return f"{role} p {p if p.startswith('<') else f'= {p}'}{years}"


def _groups(outcome: Outcome) -> str:
    """Where the groups part, and who chose that."""
    each = [survival for role in ROLES if (survival := _survival(outcome, role))]
    survival = max(each, key=lambda one: len(one.groups))  # the other role's may be joined, where few of it are in one
    if len(survival.groups) < 2:
        return "all patients together, since too few are in any group"
    if not survival.cutoffs:  # of an earlier release
        return "groups part at the decision threshold"
    at = names([number(cutoff, 3) for cutoff in survival.cutoffs])
    return f"groups part at {at}: {survival.cutoffs_source}, so that no test patient chose"
