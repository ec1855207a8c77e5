"""Section on ROC and precision-recall curves, of all sites of a role."""

from __future__ import annotations

from typing import TYPE_CHECKING

from server.report.drawing import COLOUR, HOLLOW, canvas, look
from server.report.elements import Figure, Section, not_recorded
from server.report.numbers import count, with_interval
from server.report.study import ROLES, Outcome, Role, Study, pairs
from server.report.verdict import horizon_note, is_coarse

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

TITLE = "ROC and precision–recall"
CURVES = {"ROC": ("roc_false_positive_rate", "roc_true_positive_rate"), "PR": ("pr_recall", "pr_precision")}


def section(study: Study) -> Section:
    """The curves, where the results hold their points."""
    outcomes = [outcome for outcome in study.outcomes if any(_points(outcome, role, "ROC") for role in ROLES)]
    if not outcomes:
        return not_recorded(TITLE, "the results of this study hold no points of these curves.")
    return Section(TITLE, " ".join(map(_lead, outcomes)), [_figure(outcome) for outcome in outcomes])


def _points(outcome: Outcome, role: Role, curve: str) -> list[tuple[float, float]]:
    metrics = outcome.metrics(role)
    return pairs(*(metrics.get(name) for name in CURVES[curve]))


def _lead(outcome: Outcome) -> str:
    estimates = [
        f"{with_interval(outcome.metrics(role), 'average_precision')} in {role} patients"
        for role in reversed(ROLES)
        if _points(outcome, role, "ROC")
    ]
    coarse = any(is_coarse(outcome.metrics(role)) for role in ROLES)
    doubt = " Cells of few patients were merged at the hospitals, so the curves are of few steps." if coarse else ""
    return f"{outcome.full_label}: area under the precision–recall curve {', '.join(estimates)}.{doubt}"


def _figure(outcome: Outcome) -> Figure:
    return Figure(
        name=f"curves_{outcome.name}",
        draw=lambda: _draw(outcome),
        alt=f"ROC and precision-recall curves of {outcome.full_label}",
        caption=f"Test patients of all sites of a role, in one. {horizon_note(outcome)} These curves hold pairs of "
        "patients of different hospitals, too; the AUC within hospitals is in the section on discrimination. Dashed "
        "grey: chance; dotted: share of patients with the outcome.",
        columns=("role", "curve", "x", "y"),
        values=[(role, curve, *point) for role in ROLES for curve in CURVES for point in _points(outcome, role, curve)],
    )


def _draw(outcome: Outcome) -> Drawing:
    drawing, (left, right) = canvas(3.7, 2)
    for role in ROLES:
        if not (roc := _points(outcome, role, "ROC")):
            continue
        metrics = outcome.metrics(role)
        left.plot(*zip(*roc, strict=True), **look(role), label=f"{role}: {count(metrics.get('patients'))} patients")
        if recall := _points(outcome, role, "PR"):
            estimate = with_interval(metrics, "average_precision")
            right.plot(*zip(*recall, strict=True), **look(role), label=f"{role}: {estimate}")
            _share(right, outcome, role)
    left.plot([0, 1], [0, 1], color=HOLLOW, linestyle=(0, (4, 3)), linewidth=0.9)
    left.set(xlabel="1 − specificity", ylabel="sensitivity", title="a  ROC")
    right.set(xlabel="recall (sensitivity)", ylabel="precision (PPV)", title="b  Precision and recall")
    for axes in (left, right):
        axes.set(xlim=(0, 1), ylim=(0, 1.02))
    left.legend(loc="lower right")
    right.legend(loc="upper right")
    return drawing


def _share(axes: Axes, outcome: Outcome, role: Role) -> None:
    """Where a model that knows nothing lies."""
    metrics = outcome.metrics(role)
    events, patients = outcome.events(metrics), metrics.get("patients")
    share = metrics.get("event_probability")
    if not isinstance(share, float) and isinstance(events, float) and isinstance(patients, float) and patients:
        share = events / patients
    if isinstance(share, float):
        axes.axhline(share, color=COLOUR[role], linestyle=":", linewidth=0.9)
