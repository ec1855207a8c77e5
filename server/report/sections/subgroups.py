"""Section: Subgroups."""

from __future__ import annotations

from server.report.elements import Section, not_recorded
from server.report.study import Study

TITLE = "Subgroups"


def section(study: Study) -> Section:
    """What the results hold of it."""
    return not_recorded(
        TITLE, "the results of this study hold no metric of a subgroup; the setting subgroups names them."
    )
