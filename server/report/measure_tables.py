"""Tables of measures beside the one that judges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from server.report.study import Study
from shared_models.metrics.names import NAMES
from shared_models.pages.drawing import ROLES
from shared_models.pages.elements import Row, Table
from shared_models.pages.numbers import NBSP, count, with_interval

_MEASURES: Mapping[str, tuple[tuple[str, int], ...]] = {
    "time-to-event": (
        ("c_index_within_sites", 2),
        ("average_precision", 2),
        ("brier", 3),
        ("event_probability", 2),
    ),
    "binary": (("average_precision", 2), ("brier", 3), ("mcc", 2)),
    "classes": (("accuracy", 2), ("macro_f1", 2)),
    "number": (("mae", 2), ("rmse", 2), ("r2", 2)),
}


def further_measures(study: Study) -> Iterator[Table]:
    """Further measures: a table for each kind of target, a row for each target and role."""
    for kind, measures in _MEASURES.items():
        outcomes = [outcome for outcome in study.outcomes if outcome.kind == kind]
        rows = [
            Row(
                f"{outcome.label}, {role}",
                [
                    count(outcome.metrics(role).get("patients")),
                    *(with_interval(outcome.metrics(role), name, d) for name, d in measures),
                ],
            )
            for outcome in outcomes
            for role in ROLES
            if outcome.metrics(role).get("patients") and outcome.metrics(role) is not outcome.alone
        ]
        if rows:
            headings = ["Further measures", "patients", *(NAMES[name] for name, _ in measures)]
            yield Table(headings, rows, _measured(kind))


def _measured(kind: str) -> str:
    if kind == "time-to-event":
        return (
            "C-index: pairs within sites, over the whole follow-up. The others at the horizon, weighted for censoring; "
            f"95{NBSP}% intervals in brackets where the results hold them."
        )
    return f"Of all test patients of a role; 95{NBSP}% intervals in brackets where the results hold them."
