"""Section on calibration and net benefit."""

from __future__ import annotations

from collections.abc import Mapping

from server.report.study import Outcome, Study
from server.report.tested import figures_of_sites, tested_by_role
from server.report.verdict import horizon_note, judged_role
from shared_models.metrics.arrays import Metric
from shared_models.pages.calibration import (
    BENEFIT,
    CALIBRATION,
    benefit_values,
    calibration_values,
    draw_benefit,
    draw_calibration,
    draw_calibration_apart,
)
from shared_models.pages.curves import is_coarse
from shared_models.pages.elements import Element, Figure, Section, not_recorded
from shared_models.pages.numbers import NBSP, with_interval

TITLE = "Calibration and net benefit"


def section(study: Study) -> Section:
    """A calibration curve and a decision curve for each target with a risk."""
    outcomes = [outcome for outcome in study.outcomes if tested_by_role(outcome, CALIBRATION)]
    if not outcomes:
        return not_recorded(TITLE, "no target of this study has a calibration curve.")
    elements: list[Element] = []
    for outcome in outcomes:
        elements.append(_calibration(outcome))
        if tested_by_role(outcome, BENEFIT):
            elements.append(_decision(outcome))
        kinds = {"calibration": CALIBRATION, "net benefit": BENEFIT}
        title = "Calibration and decision curves"
        elements += figures_of_sites(study, outcome, "calibration", title, kinds, draw_calibration_apart)
    return Section(TITLE, " ".join(map(_lead, outcomes)), elements)


def _lead(outcome: Outcome) -> str:
    roles = [one.role for one in tested_by_role(outcome, CALIBRATION)]
    role = judged_role(outcome) if judged_role(outcome) in roles else roles[0]
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
    shown = tested_by_role(outcome, CALIBRATION)
    return Figure(
        name=f"calibration_{outcome.name}",
        draw=lambda: draw_calibration(shown),
        alt=f"Calibration curve of {outcome.full_label}",
        caption=f"Observed share of {outcome.full_label} against the mean predicted risk, in cells of risk with five "
        f"patients or more, with 95{NBSP}% intervals. {horizon_note(outcome)} Dashed: perfect. Below: patients "
        f"in each 2{NBSP}% of predicted risk, with the outcome upwards and without it downwards; fewer than ten of a "
        "range are drawn in the one beside it, so that an empty one may hold a few. No recalibration was done after "
        "testing.",
        columns=("role", "series", "predicted", "observed or patients", "low", "high"),
        values=[*calibration_values(shown)],
    )


def _decision(outcome: Outcome) -> Figure:
    shown = tested_by_role(outcome, BENEFIT)
    return Figure(
        name=f"net_benefit_{outcome.name}",
        draw=lambda: draw_benefit(shown),
        alt=f"Decision curve of {outcome.full_label}",
        caption="Net benefit per 1,000 patients: patients with the outcome who are found, less patients treated in "
        f"vain at the exchange rate that the threshold implies (Vickers 2006), with 95{NBSP}% bands. The model is of "
        "use only where it lies above both other strategies.",
        columns=("role", "threshold", "model", "low", "high", "all positive"),
        values=[*benefit_values(shown)],
    )
