"""Section on ROC and precision-recall curves with their bands, of all sites of a role and of single sites."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from server.report.bands import MAX_SITES, Curve, figures_of_sites, sites_with_curves
from server.report.drawing import COLOUR, DASH, HOLLOW, canvas, grid, narrow_title
from server.report.elements import Figure, Section, not_recorded
from server.report.numbers import NBSP, count, with_interval
from server.report.study import ROLES, Outcome, Role, Study
from server.report.verdict import horizon_note, is_coarse

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

TITLE = "ROC and precision–recall"
CURVES = {"ROC": ("roc_false_positive_rate", "roc_true_positive_rate"), "PR": ("pr_recall", "pr_precision")}
AXES = {"ROC": ("1 − specificity", "sensitivity"), "PR": ("recall (sensitivity)", "precision (PPV)")}


def section(study: Study) -> Section:
    """The curves, where the results hold their points."""
    outcomes = [outcome for outcome in study.outcomes if any(_curve(outcome, role, "ROC") for role in ROLES)]
    if not outcomes:
        return not_recorded(TITLE, "the results of this study hold no points of these curves.")
    figures = [figure for outcome in outcomes for figure in _figures(study, outcome)]
    return Section(TITLE, " ".join(map(_lead, outcomes)), figures)


def _curve(outcome: Outcome, role: Role, kind: str) -> Curve:
    return Curve.of(outcome.metrics(role), *CURVES[kind])


def _lead(outcome: Outcome) -> str:
    estimates = [
        f"{with_interval(outcome.metrics(role), 'average_precision')} in {role} patients"
        for role in reversed(ROLES)
        if _curve(outcome, role, "ROC")
    ]
    coarse = any(is_coarse(outcome.metrics(role)) for role in ROLES)
    doubt = (
        " Cells of few patients were merged at the hospitals, so the curves are of few steps; their bands hold what "
        "that hides."
        if coarse
        else ""
    )
    return f"{outcome.full_label}: area under the precision–recall curve {', '.join(estimates)}.{doubt}"


def _figures(study: Study, outcome: Outcome) -> Iterator[Figure]:
    yield Figure(
        name=f"curves_{outcome.name}",
        draw=lambda: _draw(outcome),
        alt=f"ROC and precision-recall curves of {outcome.full_label}",
        caption=f"Test patients of all sites of a role, in one. {horizon_note(outcome)} Bands: 95{NBSP}% at each "
        "point. These curves hold pairs of patients of different hospitals, too; the AUC within hospitals is in the "
        "section on discrimination. Dashed grey: chance; dotted: share of patients with the outcome.",
        columns=("role", "curve", "x", "y", "low", "high"),
        values=[(role, kind, *row) for role in ROLES for kind in CURVES for row in _curve(outcome, role, kind).rows],
    )
    drawing = functools.partial(_draw_sites, study, outcome)
    yield from figures_of_sites(study, outcome, "curves", "ROC and precision-recall curves", CURVES, drawing)


def _draw(outcome: Outcome) -> Drawing:
    drawing, (left, right) = canvas(3.7, 2)
    for role in ROLES:
        if not (roc := _curve(outcome, role, "ROC")):
            continue
        metrics, dash = outcome.metrics(role), DASH[role]
        roc.draw(left, COLOUR[role], linestyle=dash, label=f"{role}: {count(metrics.get('patients'))} patients")
        if recall := _curve(outcome, role, "PR"):
            estimate = with_interval(metrics, "average_precision")
            recall.draw(right, COLOUR[role], linestyle=dash, label=f"{role}: {estimate}")
            _share(right, outcome, role)
    for axes, kind, title in ((left, "ROC", "a  ROC"), (right, "PR", "b  Precision and recall")):
        _frame(axes, kind)
        axes.set(xlabel=AXES[kind][0], ylabel=AXES[kind][1], title=title)
    left.legend(loc="lower right")
    right.legend(loc="best")
    return drawing


def _draw_sites(study: Study, outcome: Outcome) -> Drawing:
    sites = sites_with_curves(study, outcome.name)[:MAX_SITES]
    drawing, rows = grid(4.3, 2, len(sites), share=1.0 if len(sites) > 2 else 0.5)
    for kind, row in zip(CURVES, rows, strict=True):
        for axes, (site, role, lists) in zip(row, sites, strict=True):
            Curve.of(lists, *CURVES[kind]).draw(axes, COLOUR[role], linestyle=DASH[role])
            _frame(axes, kind)
            axes.set(xlabel=AXES[kind][0])
            if kind == "ROC":
                axes.set_title(narrow_title(site))
        row[0].set_ylabel(AXES[kind][1])
    return drawing


def _frame(axes: Axes, kind: str) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    if kind == "ROC":
        axes.plot([0, 1], [0, 1], color=HOLLOW, linestyle=(0, (4, 3)), linewidth=0.9)


def _share(axes: Axes, outcome: Outcome, role: Role) -> None:
    """Where a model that knows nothing lies."""
    metrics = outcome.metrics(role)
    events, patients = outcome.events(metrics), metrics.get("patients")
    share = metrics.get("event_probability")
    if not isinstance(share, float) and isinstance(events, float) and isinstance(patients, float) and patients:
        share = events / patients
    if isinstance(share, float):
        axes.axhline(share, color=COLOUR[role], linestyle=":", linewidth=0.9)
