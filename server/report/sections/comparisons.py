"""Section: Comparisons."""

from __future__ import annotations

from server.report.elements import Section, not_recorded
from server.report.study import Study

TITLE = "Comparisons"


def section(study: Study) -> Section:
    """What the results hold of it."""
    return not_recorded(TITLE, "the results of this study hold no other model on the same patients.")
