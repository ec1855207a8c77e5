"""Table of the metrics of each class against the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from shared_models.metrics.arrays import Metric
from shared_models.pages.curves import Tested
from shared_models.pages.elements import Row, Table
from shared_models.pages.numbers import NBSP, count, with_interval

COLUMNS = (
    ("AUC", "auc_by_class"),
    ("sensitivity", "sensitivity_by_class"),
    ("PPV", "precision_by_class"),
    ("F1", "f1_by_class"),
)


def class_table(label: str, classes: Sequence[str], shown: Sequence[Tested]) -> Iterator[Table]:
    """A row for each class and group of patients, where there are metrics by class.

    Args:
        label: The target's name as text.
        classes: Their names.
        shown: The groups of patients.
    """
    rows = [
        Row(f"{name}, {one.title}", [count(_at(one.metrics, "patients_by_class", index)), *_cells(one.metrics, index)])
        for index, name in enumerate(classes)
        for one in shown
        if isinstance(one.metrics.get("patients_by_class"), list) and one.metrics.get("patients")
    ]
    if rows:
        headings = [f"Classes of {label}", "patients", *(head for head, _ in COLUMNS)]
        yield Table(headings, rows, f"Each class against the rest, all test patients; 95{NBSP}% intervals.")


def _cells(metrics: Mapping[str, Metric], index: int) -> list[str]:
    """The columns of one class; an interval's bounds are lists as its metric is."""
    one = {f"{name}{end}": _at(metrics, f"{name}{end}", index) for _, name in COLUMNS for end in ("", "_low", "_high")}
    return [with_interval(one, name) for _, name in COLUMNS]


def _at(metrics: Mapping[str, Metric], name: str, index: int) -> float | None:
    values = metrics.get(name)
    return values[index] if isinstance(values, list) and index < len(values) else None
