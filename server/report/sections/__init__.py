"""Sections of the report, a file each; adding one is a file here and its name in `ORDER`."""

from __future__ import annotations

import importlib

from server.report.study import Study
from shared_models.pages.elements import Section

ORDER = (
    "design",
    "flow",
    "participation",
    "patients",
    "discrimination",
    "curves",
    "calibration",
    "risk_groups",
    "thresholds",
    "external_validation",
    "comparisons",
    "importance",
    "subgroups",
    "training",
    "privacy",
    "reproducibility",
    "checklists",
    "model_card",
)
OF_OTHERS = {"checklists"}  # made of what the sections before it hold


def sections(study: Study) -> dict[str, Section]:
    """Each section by its file's name, in the page's order."""
    made: dict[str, Section] = {}
    for name in ORDER:
        make = importlib.import_module(f"{__name__}.{name}").section
        made[name] = make(study, made) if name in OF_OTHERS else make(study)
    return made
