"""Section on risk groups over time: Kaplan-Meier curves below and above the decision threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from server.report.drawing import DASH, NAVY, ORANGE, canvas
from server.report.elements import Element, Figure, Row, Section, Table, not_recorded
from server.report.numbers import NBSP, YEAR_DAYS, count, number, p_value, percent
from server.report.study import ROLES, Outcome, Role, Study, pairs
from server.report.verdict import judged_role
from server.study.results.survival_section import RiskGroup, Survival

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

TITLE = "Risk groups over time"
COLOURS, DASHES = (NAVY, ORANGE), (DASH["external"], DASH["internal"])
SHOWN_TIMES = 6


def section(study: Study) -> Section:
    """A Kaplan-Meier curve of each risk group, by role, with the numbers at risk."""
    outcomes = [outcome for outcome in study.outcomes if _roles(outcome)]
    if not outcomes:
        return not_recorded(TITLE, "no target of this study has times of which curves are told.")
    elements: list[Element] = []
    for outcome in outcomes:
        elements.append(_figure(outcome))
        elements += [_at_risk(outcome, role) for role in _roles(outcome)]
    return Section(TITLE, " ".join(map(_lead, outcomes)), elements)


def _survival(outcome: Outcome, role: Role) -> Survival | None:
    return outcome.results.survival.get(role)


def _roles(outcome: Outcome) -> list[Role]:
    return [role for role in ROLES if _survival(outcome, role)]


def _lead(outcome: Outcome) -> str:
    role = judged_role(outcome) if _survival(outcome, judged_role(outcome)) else _roles(outcome)[0]
    survival = _survival(outcome, role)
    assert survival is not None
    last = [(group, _last(group)) for group in survival.groups]
    days = max((survival.times_days[index] for _, index in last if index is not None), default=0.0)
    shares = [
        f"{percent(group.survival[index])} of those {group.name} "
        f"({_bounds(group, index)} of {count(group.patients)} patients)"
        for group, index in last
        if index is not None
    ]
    where = f"{role} patients, {number(days / YEAR_DAYS, 1)} years after time zero"
    return f"{outcome.label}, {where}: free of it were {' and '.join(shares) or 'too few to tell'}."


def _last(group: RiskGroup) -> int | None:
    known = [index for index, value in enumerate(group.survival) if value is not None]
    return known[-1] if known else None


def _bounds(group: RiskGroup, index: int) -> str:
    low, high = group.survival_low[index], group.survival_high[index]
    return f"{percent(low)} to {percent(high)}" if low is not None and high is not None else "no interval"


def _figure(outcome: Outcome) -> Figure:
    return Figure(
        name=f"risk_groups_{outcome.name}",
        draw=lambda: _draw(outcome),
        alt=f"Kaplan-Meier curves of {outcome.label} by predicted risk",
        caption=f"Kaplan–Meier estimates of patients below and at or above the decision threshold of "
        f"{number(outcome.results.threshold)}, which validation patients chose. Bands: 95{NBSP}% (Greenwood, log−log). "
        f"Log-rank test: {'; '.join(_test(outcome, role) for role in _roles(outcome))}.",
        columns=("role", "group", "days", "at risk", "free", "low", "high"),
        values=[
            (role, group.name, *row)
            for role in _roles(outcome)
            if (survival := _survival(outcome, role))
            for group in survival.groups
            for row in zip(
                survival.times_days,
                group.at_risk,
                group.survival,
                group.survival_low,
                group.survival_high,
                strict=True,
            )
        ],
    )


def _test(outcome: Outcome, role: Role) -> str:
    survival = _survival(outcome, role)
    if survival is None or survival.log_rank_p is None:
        return f"{role} not recorded"
    follow = survival.median_follow_up_days
    years = f", median follow-up {number(follow / YEAR_DAYS, 1)} years" if follow is not None else ""
    p = p_value(survival.log_rank_p)
    return f"{role} p {p if p.startswith('<') else f'= {p}'}{years}"


def _draw(outcome: Outcome) -> Drawing:
    roles = _roles(outcome)
    drawing, all_axes = canvas(3.2, len(roles), share=len(roles) / 2, same_y=True)
    for axes, role in zip(all_axes, roles, strict=True):
        survival = _survival(outcome, role)
        assert survival is not None
        for group, colour, dash in zip(survival.groups, COLOURS, DASHES, strict=False):
            _curve(axes, survival, group, colour, dash)
        patients = count(sum(group.patients for group in survival.groups))
        axes.set(xlabel="years", ylim=(0, 1.02), title=f"{role}: {patients} patients")
        axes.set_xlim(left=0)
        axes.legend(loc="lower left")
    all_axes[0].set_ylabel("share without the event")
    return drawing


def _curve(axes: Axes, survival: Survival, group: RiskGroup, colour: str, dash: object) -> None:
    years: list[float | None] = [day / YEAR_DAYS for day in survival.times_days]
    if not (curve := pairs(years, group.survival)):
        return
    label = f"{group.name}: {count(group.patients)} patients, {count(group.events)} events"
    axes.step(*zip(*curve, strict=True), where="post", color=colour, linestyle=dash, label=label)
    low, high = pairs(years, group.survival_low), pairs(years, group.survival_high)
    if len(low) == len(high) and low:
        xs = [x for x, _ in low]
        axes.fill_between(
            xs, [y for _, y in low], [y for _, y in high], step="post", color=colour, alpha=0.12, linewidth=0
        )


def _at_risk(outcome: Outcome, role: Role) -> Table:
    survival = _survival(outcome, role)
    assert survival is not None
    step = max(1, (len(survival.times_days) - 1) // SHOWN_TIMES)
    shown = range(0, len(survival.times_days), step)
    headings = [f"{number(survival.times_days[index] / YEAR_DAYS, 1)} years" for index in shown]
    rows = [Row(group.name, [count(group.at_risk[index]) for index in shown]) for group in survival.groups]
    return Table(
        [f"At risk, {role}", *headings], rows, f"Patients still observed without {outcome.label} from then on."
    )
