"""Section on ROC and precision-recall curves with their bands, of all sites of a role and of single sites."""

from __future__ import annotations

from collections.abc import Iterator

from server.report.study import Outcome, Study
from server.report.tested import figures_of_sites, tested_by_role
from server.report.verdict import horizon_note
from shared_models.pages.curves import CURVES, curve_values, draw_curves, draw_curves_apart, is_coarse
from shared_models.pages.drawing import ROLES
from shared_models.pages.elements import Figure, Section, not_recorded
from shared_models.pages.numbers import NBSP, with_interval

TITLE = "ROC and precision–recall"


def section(study: Study) -> Section:
    """The curves, where the results hold their points."""
    outcomes = [outcome for outcome in study.outcomes if tested_by_role(outcome, CURVES["ROC"])]
    if not outcomes:
        return not_recorded(TITLE, "the results of this study hold no points of these curves.")
    figures = [figure for outcome in outcomes for figure in _figures(study, outcome)]
    return Section(TITLE, " ".join(map(_lead, outcomes)), figures)


def _lead(outcome: Outcome) -> str:
    shown = tested_by_role(outcome, CURVES["ROC"])
    estimates = [f"{with_interval(one.metrics, 'average_precision')} in {one.role} patients" for one in reversed(shown)]
    coarse = any(is_coarse(outcome.metrics(role)) for role in ROLES)
    doubt = (
        " Cells of few patients were merged at the hospitals, so the curves are of few steps; their bands hold what "
        "that hides."
        if coarse
        else ""
    )
    return f"{outcome.full_label}: area under the precision–recall curve {', '.join(estimates)}.{doubt}"


def _figures(study: Study, outcome: Outcome) -> Iterator[Figure]:
    shown = tested_by_role(outcome, CURVES["ROC"])
    yield Figure(
        name=f"curves_{outcome.name}",
        draw=lambda: draw_curves(shown),
        alt=f"ROC and precision-recall curves of {outcome.full_label}",
        caption=f"Test patients of all sites of a role, in one. {horizon_note(outcome)} Bands: 95{NBSP}% at each "
        "point. These curves hold pairs of patients of different hospitals, too; the AUC within hospitals is in the "
        "section on discrimination. Dashed grey: chance; dotted: share of patients with the outcome.",
        columns=("role", "curve", "x", "y", "low", "high"),
        values=[*curve_values(shown)],
    )
    yield from figures_of_sites(study, outcome, "curves", "ROC and precision-recall curves", CURVES, draw_curves_apart)
