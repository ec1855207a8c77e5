"""Section on external validation: the study's network at hospitals that were not in the study, after it had ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from server.report.sections import calibration, discrimination, thresholds
from server.report.study import Study
from server.study.results.schema import ExternalValidation
from shared_models.metrics.arrays import Metric
from shared_models.metrics.names import NAMES
from shared_models.pages.elements import Element, Figure, Row, Section, Table, not_recorded
from shared_models.pages.numbers import NBSP, count, with_interval

TITLE = "External validation"
MEASURES = ("auc", "calibration_slope", "expected_observed_ratio", "sensitivity", "specificity")


def section(study: Study) -> Section:
    """Hospitals' evaluations of the network, each and together."""
    validation = study.results.external_validation
    if validation is None:
        return not_recorded(TITLE, "the network was not scored at a hospital outside the study.")
    own = Study(
        study.results.model_copy(
            update={"targets": validation.targets, "sites": validation.sites, "folds": [], "external_validation": None}
        ),
        study.answers,
    )
    parts = [discrimination.section(own), calibration.section(own), thresholds.section(own)]
    elements = [element for part in parts if not part.absent for element in part.elements]
    return Section(TITLE, _lead(validation, parts[0].lead), [_table(own, validation), *map(_renamed, elements)])


def _lead(validation: ExternalValidation, result: str) -> str:
    sites = ", ".join(site.site for site in validation.sites)
    network = f"the weights after round {validation.round} (SHA-256 {validation.sha256[:12]})"
    missing = "".join(f" {site} gave no scores: {why}." for site, why in validation.problems.items())
    return f"Scored at {sites}, which had no part in the study: {network}, frozen. {result}{missing}"


def _table(own: Study, validation: ExternalValidation) -> Table:
    rows: list[Row] = []
    for outcome in own.outcomes:
        for site in validation.sites:
            metrics = site.targets.get(outcome.name, {})
            rows.append(Row(f"{site.site}: {outcome.label}", _cells(metrics)))
        rows.append(Row(f"together: {outcome.label}", _cells(outcome.results.external), kind="chosen"))
    caption = (
        f"All patients with a known outcome; 95{NBSP}% intervals in brackets. A hospital's row is what it tells of "
        "itself; the last is of the sums over hospitals, in which cells of few patients are merged."
    )
    return Table(["Hospital and outcome", "patients", *(NAMES[name] for name in MEASURES)], rows, caption)


def _cells(metrics: Mapping[str, Metric]) -> list[str]:
    return [count(metrics.get("patients")), *(with_interval(metrics, name) for name in MEASURES)]


def _renamed(element: Element) -> Element:
    """A figure under a name of its own beside the study's."""
    return replace(element, name=f"external_{element.name}") if isinstance(element, Figure) else element
