"""Table of a target with classes: each class against the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from server.report.elements import Row, Table
from server.report.numbers import NBSP, count, with_interval
from server.report.study import ROLES, Outcome
from server.study.results import Metric

COLUMNS = (
    ("AUC", "auc_by_class"),
    ("sensitivity", "sensitivity_by_class"),
    ("PPV", "precision_by_class"),
    ("F1", "f1_by_class"),
)


def class_table(outcome: Outcome) -> Iterator[Table]:
    """A row for each class and role, where the results hold metrics by class."""
    rows = [
        Row(f"{name}, {role}", [count(_at(metrics, "patients_by_class", index)), *_cells(metrics, index)])
        for index, name in enumerate(outcome.results.classes)
        for role in ROLES
        if isinstance((metrics := outcome.metrics(role)).get("patients_by_class"), list) and metrics.get("patients")
    ]
    if rows:
        headings = [f"Classes of {outcome.label}", "patients", *(head for head, _ in COLUMNS)]
        yield Table(headings, rows, f"Each class against the rest, all test patients of a role; 95{NBSP}% intervals.")


def _cells(metrics: Mapping[str, Metric], index: int) -> list[str]:
    """The columns of one class; an interval's bounds are lists as its metric is."""
    one = {f"{name}{end}": _at(metrics, f"{name}{end}", index) for _, name in COLUMNS for end in ("", "_low", "_high")}
    return [with_interval(one, name) for _, name in COLUMNS]


def _at(metrics: Mapping[str, Metric], name: str, index: int) -> float | None:
    values = metrics.get(name)
    return values[index] if isinstance(values, list) and index < len(values) else None
