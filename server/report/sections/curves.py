"""Section on ROC and precision-recall curves."""

from __future__ import annotations

from server.report.elements import Section, not_recorded
from server.report.study import Study

TITLE = "ROC and precision–recall"


def section(study: Study) -> Section:
    """The curves, where the results hold their points."""
    return not_recorded(TITLE, "the results of this study hold no points of these curves.")
