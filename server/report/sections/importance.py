"""Section: What the model uses."""

from __future__ import annotations

from server.report.elements import Section, not_recorded
from server.report.study import Study

TITLE = "What the model uses"


def section(study: Study) -> Section:
    """What the results hold of it."""
    return not_recorded(
        TITLE, "the results of this study hold no metric with a modality or a feature shuffled between patients."
    )
