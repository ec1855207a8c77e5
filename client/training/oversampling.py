"""Oversampling of the minority class in a site's training tables: SMOTE and its variants.

Chawla 2002 (10.1613/jair.953): a synthetic patient lies between a patient and one of their nearest neighbours of the
same class; of a category it takes the neighbours' most frequent one (SMOTENC). Only training patients are used:
oversampling before the split would put a patient's likeness into the test part.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from client.cohort.load import Cohort
from shared_models.features import Feature, FeatureStatistics
from shared_models.task import Table, Task

log = logging.getLogger("client")
NEIGHBOURS = 5


def oversample(cohort: Cohort, task: Task, statistics: Mapping[str, FeatureStatistics], seed: int) -> Cohort:
    """The cohort with synthetic patients in its training part until both classes of the first target are as many.

    Args:
        cohort: The site's; of several rows of a patient the first counts.
        task: Tables only, its first target binary.
        statistics: The study's, for what is missing.
        seed: Of the neighbours.
    """
    target = next(iter(task.targets))
    train = cohort.parts["train"]
    labels = cohort.truths[target][train]
    real = train[cohort.present[cohort.first[train]].all(axis=1) & ~np.isnan(labels)]
    labels = cohort.truths[target][real]
    counts = np.bincount(labels.astype(int), minlength=2)
    if counts.min() < 2 or counts[0] == counts[1]:
        log.info("no synthetic patients: the classes have %d and %d patients", *counts)
        return cohort
    features = [feature for table in task.tables.values() for feature in table.features]
    values = np.hstack(
        [
            _compact(table, cohort.inputs[name][cohort.first[real]], statistics[name])
            for name, table in task.tables.items()
        ]
    )
    made = _synthesise(values, labels.astype(int), features, min(NEIGHBOURS, int(counts.min()) - 1), seed)
    return _with(cohort, task, statistics, made, target, float(np.argmin(counts)))


def _synthesise(
    values: NDArray[np.float64], labels: NDArray[np.int64], features: list[Feature], neighbours: int, seed: int
) -> NDArray[np.float64]:
    """`(S, F)` new rows of the rarer class."""
    from imblearn.over_sampling import SMOTE, SMOTEN, SMOTENC

    categorical = [index for index, feature in enumerate(features) if feature.categories]
    if not categorical:
        sampler = SMOTE(k_neighbors=neighbours, random_state=seed)
    elif len(categorical) == len(features):
        sampler = SMOTEN(k_neighbors=neighbours, random_state=seed)
    else:
        sampler = SMOTENC(categorical_features=categorical, k_neighbors=neighbours, random_state=seed)
    return np.asarray(sampler.fit_resample(values, labels)[0][len(values) :], dtype=np.float64)


def _compact(table: Table, columns: NDArray[np.float32], statistics: FeatureStatistics) -> NDArray[np.float64]:
    """`(N, F)`: a number as a z-score, 0 where missing; a category as its index, one more where missing."""
    z = np.nan_to_num((columns - statistics.mean) / statistics.deviation)
    compact, start = [], 0
    for feature in table.features:
        width = len(feature.columns)
        part = columns[:, start : start + width]
        index = np.where(np.isnan(part).any(axis=1), width, np.nan_to_num(part).argmax(axis=1))
        compact.append(index.astype(np.float64) if feature.categories else z[:, start].astype(np.float64))
        start += width
    return np.stack(compact, axis=1)


def _columns(table: Table, compact: NDArray[np.float64], statistics: FeatureStatistics) -> NDArray[np.float32]:
    """The inverse of `_compact`, `(S, C)`."""
    columns: list[NDArray[np.float64]] = []
    start = 0
    for feature, values in zip(table.features, compact.T, strict=True):
        width = len(feature.columns)
        if feature.categories:
            one_hot = (values[:, None] == np.arange(width)).astype(np.float64)
            one_hot[values == width] = np.nan
            columns.append(one_hot)
        else:
            columns.append((values * statistics.deviation[start] + statistics.mean[start])[:, None])
        start += width
    return np.concatenate(columns, axis=1).astype(np.float32)


def _with(
    cohort: Cohort,
    task: Task,
    statistics: Mapping[str, FeatureStatistics],
    made: NDArray[np.float64],
    target: str,
    label: float,
) -> Cohort:
    """The cohort with S training patients more."""
    count = len(made)
    inputs, start = {}, 0
    for name, table in task.tables.items():
        part = made[:, start : start + len(table.features)]
        inputs[name] = np.concatenate([cohort.inputs[name], _columns(table, part, statistics[name])])
        start += len(table.features)
    patients = len(cohort.patients) + np.arange(count)
    rows = cohort.first[-1] + np.arange(1, count + 1)
    truths = {
        name: np.concatenate([truth, np.full((count, *truth.shape[1:]), label if name == target else np.nan)])
        for name, truth in cohort.truths.items()
    }
    return replace(
        cohort,
        patients=(*cohort.patients, *(f"synthetic {number}" for number in range(count))),
        first=np.concatenate([cohort.first, rows]),
        sampling_weight=np.concatenate([cohort.sampling_weight, np.ones(count)]),
        inputs=inputs,
        present=np.concatenate([cohort.present, np.ones((count, cohort.present.shape[1]), dtype=bool)]),
        truths={name: truth.astype(np.float32) for name, truth in truths.items()},
        parts={**cohort.parts, "train": np.concatenate([cohort.parts["train"], patients])},
    )
