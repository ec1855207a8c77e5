"""Section on calibration and net benefit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from server.report.drawing import COLOUR, HOLLOW, INK, MARKER, canvas
from server.report.elements import Element, Figure, Section, not_recorded
from server.report.numbers import count, with_interval
from server.report.study import ROLES, Outcome, Role, Study, pairs
from server.report.verdict import horizon_note, is_coarse, judged_role
from server.study.results.schema import Metric

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

BOX = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
TITLE = "Calibration and net benefit"
Points = list[tuple[float, float]]


def section(study: Study) -> Section:
    """A calibration curve and a decision curve for each target with a risk."""
    outcomes = [outcome for outcome in study.outcomes if any(_points(outcome, role) for role in ROLES)]
    if not outcomes:
        return not_recorded(TITLE, "no target of this study has a calibration curve.")
    elements: list[Element] = []
    for outcome in outcomes:
        elements.append(_calibration(outcome))
        if any(_benefit(outcome, role) for role in ROLES):
            elements.append(_decision(outcome))
    return Section(TITLE, " ".join(map(_lead, outcomes)), elements)


def _roles(outcome: Outcome) -> list[Role]:
    return [role for role in ROLES if _points(outcome, role)]


def _points(outcome: Outcome, role: Role) -> Points:
    """Predicted and observed shares of those cells that have both."""
    metrics = outcome.metrics(role)
    return pairs(metrics.get("calibration_predicted"), metrics.get("calibration_observed"))


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
        f"patients or more. {horizon_note(outcome)} Dashed: perfect. No recalibration was done after testing.",
        columns=("role", "predicted", "observed"),
        values=[(role, *point) for role in ROLES for point in _points(outcome, role)],
    )


def _draw_calibration(outcome: Outcome) -> Drawing:
    roles = _roles(outcome)
    drawing, all_axes = canvas(3.5, len(roles), share=len(roles) / 2)
    top = max((max(point) for role in roles for point in _points(outcome, role)), default=1.0)
    top = min(1.0, 0.1 * (int(10 * top) + 1))
    for axes, role in zip(all_axes, roles, strict=False):
        metrics = outcome.metrics(role)
        axes.plot([0, top], [0, top], color=HOLLOW, linestyle=(0, (4, 3)), linewidth=0.9)
        xs, ys = zip(*_points(outcome, role), strict=True)
        joined = "none" if is_coarse(metrics) else "-"  # a line between few merged cells would look like a finding
        axes.plot(xs, ys, MARKER[role], color=COLOUR[role], linestyle=joined, linewidth=1, markersize=4.5)
        axes.set(xlim=(0, top), ylim=(0, top), xlabel="predicted risk", ylabel="observed share")
        axes.set_title(f"{role}: {count(metrics.get('patients'))} patients")
        legend = "\n".join(
            f"{what} {with_interval(metrics, name)}"
            for what, name in (
                ("slope", "calibration_slope"),
                ("in the large", "calibration_in_the_large"),
                ("expected/observed", "expected_observed_ratio"),
                ("Brier score", "brier"),
            )
        )
        axes.text(
            0.98, 0.02, legend, transform=axes.transAxes, va="bottom", ha="right", fontsize=9, color=INK, bbox=BOX
        )
    return drawing


def _benefit(outcome: Outcome, role: Role) -> list[tuple[float, float, float]]:
    """Threshold, net benefit of the model, and of calling every patient positive."""
    metrics = outcome.metrics(role)
    lists = [metrics.get(name) for name in ("net_benefit_threshold", "net_benefit", "net_benefit_of_all")]
    if not all(isinstance(one, list) for one in lists):
        return []
    rows = zip(*lists, strict=False)
    return [(a, b, c) for a, b, c in rows if a is not None and b is not None and c is not None]


def _decision(outcome: Outcome) -> Figure:
    return Figure(
        name=f"net_benefit_{outcome.name}",
        draw=lambda: _draw_decision(outcome),
        alt=f"Decision curve of {outcome.full_label}",
        caption="Net benefit per 1,000 patients: patients with the outcome who are found, less patients treated in "
        "vain at the exchange rate that the threshold implies (Vickers 2006). The model is of use only where it lies "
        "above both other strategies.",
        columns=("role", "threshold", "model", "all positive"),
        values=[(role, *row) for role in ROLES for row in _benefit(outcome, role)],
    )


def _draw_decision(outcome: Outcome) -> Drawing:
    roles = [role for role in ROLES if _benefit(outcome, role)]
    drawing, all_axes = canvas(2.9, len(roles), share=len(roles) / 2, same_y=True)
    for axes, role in zip(all_axes, roles, strict=False):
        thresholds, model, everybody = (list(column) for column in zip(*_benefit(outcome, role), strict=True))
        axes.plot(
            thresholds,
            [1000 * b for b in model],
            color=COLOUR[role],
            marker=MARKER[role],
            markersize=3.5,
            label="this model",
        )
        axes.plot(thresholds, [1000 * b for b in everybody], color=HOLLOW, linewidth=1, label="treat all")
        axes.axhline(0, color=INK, linewidth=0.9, label="treat none")
        top = max(1000 * max(model + everybody), 10)
        axes.set(ylim=(-0.25 * top, 1.15 * top), xlabel="threshold of risk", title=f"{role}")
        axes.legend(loc="upper right")
    all_axes[0].set_ylabel("net benefit per 1,000")
    return drawing
