"""Section on risk groups over time: Kaplan-Meier curves by predicted risk, with the numbers at risk under them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from server.report.drawing import NAVY, ORANGE, over_under
from server.report.elements import Figure, Section, not_recorded
from server.report.numbers import NBSP, YEAR_DAYS, count, names, number, p_value, percent
from server.report.study import ROLES, Outcome, Role, Study, pairs
from server.report.verdict import is_coarse, judged_role
from server.study.results.survival_section import RiskGroup, Survival

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

TITLE = "Risk groups over time"
COLOURS, DASHES = ("#4187c7", NAVY, ORANGE), ("-", (0, (5, 2)), "-")
SHOWN_TIMES = 8


def section(study: Study) -> Section:
    """A Kaplan-Meier curve of each risk group, by role, with the numbers at risk under it."""
    outcomes = [outcome for outcome in study.outcomes if _roles(outcome)]
    if not outcomes:
        return not_recorded(TITLE, "no target of this study has times of which curves are told.")
    return Section(TITLE, " ".join(map(_lead, outcomes)), [_figure(outcome) for outcome in outcomes])


def _survival(outcome: Outcome, role: Role) -> Survival | None:
    return outcome.results.survival.get(role)


def _roles(outcome: Outcome) -> list[Role]:
    return [role for role in ROLES if _survival(outcome, role)]


def _lead(outcome: Outcome) -> str:
    role = judged_role(outcome) if _survival(outcome, judged_role(outcome)) else _roles(outcome)[0]
    survival = _survival(outcome, role)
    assert survival is not None
    index = _judged_time(outcome, survival)
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
    """The horizon, or the last time before it at which each group still has patients."""
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
        draw=lambda: _draw(outcome),
        alt=f"Kaplan-Meier curves of {outcome.label} by predicted risk",
        caption=f"Kaplan–Meier estimates by predicted risk; {_groups(outcome)}. Bands: 95{NBSP}% (Greenwood, log−log). "
        f"In the legend: events of patients. Below: patients still observed without {outcome.label} from then on. "
        f"Log-rank test of all groups: {'; '.join(_test(outcome, role) for role in _roles(outcome))}.",
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


def _draw(outcome: Outcome) -> Drawing:
    roles = _roles(outcome)
    rows = max(len(survival.groups) for role in roles if (survival := _survival(outcome, role)))
    drawing, (above, below) = over_under(2.9, 0.2 + 0.17 * rows, len(roles), share=len(roles) / 2)
    for curves, numbers, role in zip(above, below, roles, strict=True):
        survival = _survival(outcome, role)
        assert survival is not None
        for group, colour, dash in zip(survival.groups, *looks(len(survival.groups)), strict=True):
            _curve(curves, survival, group, colour, dash)
        patients = count(sum(group.patients for group in survival.groups))
        curves.set(ylim=(0, 1.02), title=f"{role}: {patients} patients", xlim=(0, _years(survival)[-1]))
        curves.legend(loc="best")
        curves.tick_params(labelbottom=True)
        curves.set_xlabel("years")
        _write_at_risk(numbers, survival)
    above[0].set_ylabel("share without the event")
    return drawing


def looks(groups: int) -> tuple[Sequence[str], Sequence[Any]]:
    """Colours and dashes of so many groups, lowest risk first; a single one is that of all patients."""
    places = {1: (1,), 2: (1, 2)}.get(groups, (0, 1, 2))
    return [COLOURS[place] for place in places], [DASHES[place] for place in places]


def _years(survival: Survival) -> list[float]:
    return [day / YEAR_DAYS for day in survival.times_days]


def _curve(axes: Axes, survival: Survival, group: RiskGroup, colour: str, dash: object) -> None:
    years: list[float | None] = [*_years(survival)]
    if not (curve := pairs(years, group.survival)):
        return
    label = f"{group.name}: {count(group.events)} of {count(group.patients)}"
    axes.step(*zip(*curve, strict=True), where="post", color=colour, linestyle=dash, label=label)
    low, high = pairs(years, group.survival_low), pairs(years, group.survival_high)
    if len(low) == len(high) and low:
        xs = [x for x, _ in low]
        axes.fill_between(
            xs, [y for _, y in low], [y for _, y in high], step="post", color=colour, alpha=0.12, linewidth=0
        )


def _write_at_risk(axes: Axes, survival: Survival) -> None:
    """A row of numbers for each group, each under its time on the curve's axis."""
    years = _years(survival)
    step = max(1, -(-len(years) // SHOWN_TIMES))
    shown = [index for index, year in enumerate(years) if abs(year - round(year)) < 0.02] or [
        *range(0, len(years), step)
    ]
    shown = shown[:: -(-len(shown) // SHOWN_TIMES)]
    colours, _ = looks(len(survival.groups))
    for row, (group, colour) in enumerate(zip(survival.groups, colours, strict=True)):
        for index in shown:
            edge = "left" if index == 0 else "right" if index == len(years) - 1 else "center"
            axes.text(years[index], row, count(group.at_risk[index]), ha=edge, va="center", fontsize=9, color=colour)
    axes.set_yticks(range(len(survival.groups)), labels=[group.name for group in survival.groups])
    for label, colour in zip(axes.get_yticklabels(), colours, strict=True):
        label.set_color(colour)
    axes.set(ylim=(len(survival.groups) - 0.4, -0.6))
    axes.set_title("at risk", fontsize=9, fontweight="normal", pad=2)
    axes.tick_params(left=False, bottom=False, labelbottom=False)
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
