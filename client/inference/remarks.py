"""Warnings about single patients: a modality or a feature is missing, or a value lies outside the training range.

The range is that of the study's sums: no patient's value is known of them, so a number is outside it where it is
`FAR` standard deviations or more from the mean of the training patients, and a category where no training patient had
it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from client.cohort.load import Cohort
from shared_models.features import Feature, FeatureStatistics
from shared_models.task import Table
from shared_models.trained_model import TrainedModel

Array = np.ndarray[Any, Any]
FAR = 4.0
NO_INPUT = "none of the modalities: no prediction"


def remarks_of(cohort: Cohort, model: TrainedModel) -> list[list[str]]:
    """Of each of N patients, what a reader of the prediction must know; empty where there is nothing."""
    modalities = list(model.task.modalities.items())
    remarks: list[list[str]] = [[] for _ in cohort.patients]
    for index, (name, kind) in enumerate(modalities):
        by_row = _of_table(cohort, name, index, kind, model) if isinstance(kind, Table) else {}
        for patient in range(len(cohort.patients)):
            rows = range(cohort.first[patient], cohort.first[patient + 1])
            if not cohort.present[rows.start : rows.stop, index].any():
                remarks[patient].append(f"lacks {name}")
            remarks[patient] += dict.fromkeys(remark for row in rows for remark in by_row.get(row, ()))
            exams = cohort.exams.get(name, {})
            remarks[patient] += dict.fromkeys(
                f"{name}: {remark}" for row in rows if row in exams for remark in exams[row].remarks
            )
    for patient in range(len(cohort.patients)):
        if not cohort.present[cohort.first[patient] : cohort.first[patient + 1]].any():
            remarks[patient] = [NO_INPUT]
    for exclusion in cohort.excluded:
        remarks[cohort.patients.index(exclusion.patient)].append(f"{exclusion.modality}: its files cannot be used")
    return remarks


def _of_table(cohort: Cohort, name: str, index: int, table: Table, model: TrainedModel) -> dict[int, list[str]]:
    values, statistics = np.asarray(cohort.inputs[name]), model.statistics.features[name]
    there = np.flatnonzero(cohort.present[:, index])
    remarks: dict[int, list[str]] = {int(row): [] for row in there}
    start = 0
    for feature in table.features:
        columns = slice(start, start := start + len(feature.columns))
        for row, remark in _of_feature(feature, values[there, columns], statistics, columns):
            remarks[int(there[row])].append(f"{name}: {remark}")
    return remarks


def _of_feature(
    feature: Feature, values: Array, statistics: FeatureStatistics, columns: slice
) -> Iterator[tuple[int, str]]:
    """Remarks on a feature's `values` `(R, columns)`, each with its row."""
    missing = np.isnan(values).any(axis=1)
    yield from ((int(row), f"no {feature.name}") for row in np.flatnonzero(missing))
    known, total = statistics.known[columns], statistics.total[columns]
    if known.max(initial=0.0) == 0:
        yield from ((int(row), f"{feature.name} was known of no training patient") for row in np.flatnonzero(~missing))
    elif feature.categories:
        for row, category in zip(*np.nonzero((values == 1) & (total == 0)), strict=True):
            yield int(row), f"{feature.name} {feature.categories[category]} was had by no training patient"
    elif total[0] != statistics.squares[columns][0]:  # not a number that is 0 or 1, which is far from its mean if rare
        z = (values[:, 0] - statistics.mean[columns]) / statistics.deviation[columns]
        for row in np.flatnonzero(np.abs(z) >= FAR):
            side = "above" if z[row] > 0 else "below"
            yield (
                int(row),
                f"{feature.name} is {abs(z[row]):.1f} standard deviations {side} the training patients' mean",
            )
