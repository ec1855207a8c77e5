"""Section on calibration and net benefit."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from server.report.bands import MAX_SITES, Curve, Lists, figures_of_sites, sites_with_curves
from server.report.drawing import COLOUR, HOLLOW, INK, MARKER, canvas, grid, narrow_title, over_under
from server.report.elements import Element, Figure, Section, not_recorded
from server.report.numbers import NBSP, count, with_interval
from server.report.study import ROLES, Outcome, Role, Study
from server.report.verdict import horizon_note, is_coarse, judged_role
from server.study.results.section import Metric
from shared_models.metrics.names import NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

TITLE = "Calibration and net benefit"
ESTIMATES = ("calibration_slope", "calibration_in_the_large", "expected_observed_ratio", "brier")
CALIBRATION = ("calibration_predicted", "calibration_observed")
BENEFIT = ("net_benefit_threshold", "net_benefit")
RISKS = ("risk_with_outcome", "risk_without_outcome")


def section(study: Study) -> Section:
    """A calibration curve and a decision curve for each target with a risk."""
    outcomes = [outcome for outcome in study.outcomes if _roles(outcome)]
    if not outcomes:
        return not_recorded(TITLE, "no target of this study has a calibration curve.")
    elements: list[Element] = []
    for outcome in outcomes:
        elements.append(_calibration(outcome))
        if any(_benefit(outcome.metrics(role)) for role in ROLES):
            elements.append(_decision(outcome))
        kinds = {"calibration": CALIBRATION, "net benefit": BENEFIT}
        drawing = functools.partial(_draw_sites, study, outcome)
        elements += figures_of_sites(study, outcome, "calibration", "Calibration and decision curves", kinds, drawing)
    return Section(TITLE, " ".join(map(_lead, outcomes)), elements)


def _roles(outcome: Outcome) -> list[Role]:
    return [role for role in ROLES if Curve.of(outcome.metrics(role), *CALIBRATION)]


def _lead(outcome: Outcome) -> str:
    role = judged_role(outcome) if judged_role(outcome) in _roles(outcome) else _roles(outcome)[0]
    metrics = outcome.metrics(role)
    place = "external hospitals" if role == "external" else "hospitals that trained"
    ratio, slope = (with_interval(metrics, name) for name in ("expected_observed_ratio", "calibration_slope"))
    estimates = f"expected over observed {ratio}, calibration slope {slope}; 1 is right"
    return f"{outcome.full_label}, in {place}: {estimates}.{_doubt(metrics)}"


def _doubt(metrics: Mapping[str, Metric]) -> str:
    if not is_coarse(metrics):
        return ""
    return (
        " Read it with care: cells of few patients were merged before they left the hospitals, so these curves are of "
        "coarse steps of risk."
    )


def _calibration(outcome: Outcome) -> Figure:
    return Figure(
        name=f"calibration_{outcome.name}",
        draw=lambda: _draw_calibration(outcome),
        alt=f"Calibration curve of {outcome.full_label}",
        caption=f"Observed share of {outcome.full_label} against the mean predicted risk, in cells of risk with five "
        f"patients or more, with 95{NBSP}% intervals. {horizon_note(outcome)} Dashed: perfect. Below: patients "
        f"in each 2{NBSP}% of predicted risk, with the outcome upwards and without it downwards; fewer than ten of a "
        "range are drawn in the one beside it, so that an empty one may hold a few. No recalibration was done after "
        "testing.",
        columns=("role", "series", "predicted", "observed or patients", "low", "high"),
        values=[row for role in ROLES for row in _values(outcome.metrics(role), role)],
    )


def _draw_calibration(outcome: Outcome) -> Drawing:
    roles = _roles(outcome)
    drawing, (above, below) = over_under(3.0, 0.9, len(roles), share=len(roles) / 2)
    top = _top([outcome.metrics(role) for role in roles])
    for axes, under, role in zip(above, below, roles, strict=True):
        metrics = outcome.metrics(role)
        _plot(axes, metrics, role, top)
        axes.set_title(f"{role}: {count(metrics.get('patients'))} patients")
        _write_estimates(axes, metrics)
        _draw_risks(under, metrics, role)
        under.set_xlabel("predicted risk")
    above[0].set_ylabel("observed share")
    below[0].set_ylabel("patients")
    return drawing


def _draw_risks(axes: Axes, lists: Lists, role: Role) -> None:
    """Patients in each step of risk: those with the outcome upwards, the others downwards."""
    for name, sign, alpha in zip(RISKS, (1, -1), (0.85, 0.3), strict=True):
        bars = lists.get(name)
        if isinstance(bars, list) and any(bars):
            heights = [sign * (bar or 0.0) for bar in bars]
            edges = [index / len(bars) for index in range(len(bars) + 1)]
            axes.stairs(heights, edges, fill=True, color=COLOUR[role], alpha=alpha, linewidth=0)
    axes.axhline(0, color=INK, linewidth=0.7)
    axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):,.0f}")
    axes.locator_params(axis="y", nbins=4, integer=True)
    axes.set_title("upwards with the outcome, downwards without", fontsize=9, fontweight="normal", pad=3)


def _values(lists: Lists, role: Role) -> Iterator[tuple[object, ...]]:
    yield from ((role, "calibration", *row) for row in Curve.of(lists, *CALIBRATION).rows)
    for name in RISKS:
        if isinstance(bars := lists.get(name), list):
            middles = ((index + 0.5) / len(bars) for index in range(len(bars)))
            yield from ((role, name, middle, bar, None, None) for middle, bar in zip(middles, bars, strict=True))


def _write_estimates(axes: Axes, metrics: Mapping[str, Metric]) -> None:
    """The estimates, where they cover least of what is drawn."""
    text = "\n".join(f"{NAMES[name].removeprefix('calibration ')} {with_interval(metrics, name)}" for name in ESTIMATES)
    nothing = axes.plot([], [], linestyle="none", label=text)
    axes.legend(handles=nothing, loc="best", handlelength=0, handletextpad=0, borderpad=0.2)


def _top(listed: Sequence[Lists]) -> float:
    """Where the axes end: above all points, half of what their intervals reach beyond, and all bars of risk."""
    rows = [row for lists in listed for row in Curve.of(lists, *CALIBRATION).rows]
    ends = [max(x, y, (y + high) / 2 if high is not None else 0.0) for x, y, _, high in rows]
    bars = [bars for lists in listed for name in RISKS if isinstance(bars := lists.get(name), list)]
    ends += [(index + 0.5) / len(each) for each in bars for index, bar in enumerate(each) if bar]
    highest = max(ends, default=1.0)
    return min(1.0, 0.1 * (int(10 * highest) + 1))


def _plot(axes: Axes, lists: Lists, role: Role, top: float) -> None:
    """One calibration curve with its intervals, and the line of perfect ones."""
    axes.plot([0, top], [0, top], color=HOLLOW, linestyle=(0, (4, 3)), linewidth=0.9)
    plot_points(axes, lists, role)
    axes.set(xlim=(0, top), ylim=(0, top))


def plot_points(axes: Axes, lists: Lists, role: Role, joined: str = "-") -> None:
    """The points of a calibration curve, their intervals and the line through them, in the look of a role.

    Args:
        axes: Where to.
        lists: Metrics by name.
        role: Whose look.
        joined: The line's style; there is none between a few merged cells, where it would look like a finding.
    """
    curve = Curve.of(lists, *CALIBRATION)
    line = "none" if is_coarse(lists) else joined
    curve.bars(axes, COLOUR[role])
    (marks,) = axes.plot(*curve.points, MARKER[role], color=COLOUR[role], linestyle=line, linewidth=1, markersize=4.5)
    marks.set_clip_on(False)  # a mark at 0 or 1 is whole


def _benefit(lists: Lists) -> Curve:
    """Net benefit of the model at each threshold."""
    return Curve.of(lists, *BENEFIT)


def _of_all(lists: Lists) -> Curve:
    """Net benefit of calling every patient positive."""
    return Curve.of(lists, BENEFIT[0], "net_benefit_of_all")


def _decision(outcome: Outcome) -> Figure:
    return Figure(
        name=f"net_benefit_{outcome.name}",
        draw=lambda: _draw_decision(outcome),
        alt=f"Decision curve of {outcome.full_label}",
        caption="Net benefit per 1,000 patients: patients with the outcome who are found, less patients treated in "
        f"vain at the exchange rate that the threshold implies (Vickers 2006), with 95{NBSP}% bands. The model is of "
        "use only where it lies above both other strategies.",
        columns=("role", "threshold", "model", "low", "high", "all positive"),
        values=[(role, *row) for role in ROLES for row in _benefit_rows(outcome.metrics(role))],
    )


def _benefit_rows(lists: Lists) -> list[tuple[float | None, ...]]:
    everybody = dict(zip(*_of_all(lists).points, strict=True))
    return [(*row, everybody.get(row[0])) for row in _benefit(lists).rows]


def _draw_decision(outcome: Outcome) -> Drawing:
    roles = [role for role in ROLES if _benefit(outcome.metrics(role))]
    top = _highest_benefit([outcome.metrics(role) for role in roles])
    drawing, all_axes = canvas(2.9, len(roles), share=len(roles) / 2, same_y=True)
    for axes, role in zip(all_axes, roles, strict=False):
        _plot_benefit(axes, outcome.metrics(role), role, top)
        axes.set(xlabel="threshold of risk", title=f"{role}")
        axes.legend(loc="best", frameon=True, facecolor="white", edgecolor="none", framealpha=1)  # over the line of 0
    all_axes[0].set_ylabel("net benefit per 1,000")
    return drawing


def _highest_benefit(listed: Sequence[Lists]) -> float:
    """Per 1,000, of all that is drawn on the same scale, bands included."""
    rows = [row for lists in listed for curve in (_benefit(lists), _of_all(lists)) for row in curve.rows]
    return max([10.0, *(1000 * (y if high is None else high) for _, y, _, high in rows)])


def _plot_benefit(axes: Axes, lists: Lists, role: Role, top: float) -> None:
    model, everybody = _benefit(lists), _of_all(lists)
    model.draw(axes, COLOUR[role], scale=1000, marker=MARKER[role], markersize=3.5, label="this model")
    everybody.draw(axes, HOLLOW, scale=1000, linewidth=1, label="treat all")
    axes.axhline(0, color=INK, linewidth=0.9, label="treat none")
    axes.set(ylim=(-0.25 * top, 1.05 * top))


def _draw_sites(study: Study, outcome: Outcome) -> Drawing:
    sites = sites_with_curves(study, outcome.name)[:MAX_SITES]
    listed = [lists for *_, lists in sites]
    top, highest = _top(listed), _highest_benefit(listed)
    drawing, (above, below) = grid(4.3, 2, len(sites), share=1.0 if len(sites) > 2 else 0.5)
    for axes, under, (site, role, lists) in zip(above, below, sites, strict=True):
        _plot(axes, lists, role, top)
        axes.set(xlabel="predicted risk", title=narrow_title(site))
        _plot_benefit(under, lists, role, highest)
        under.set(xlabel="threshold of risk")
    above[0].set_ylabel("observed share")
    below[0].set_ylabel("net benefit per 1,000")
    return drawing
