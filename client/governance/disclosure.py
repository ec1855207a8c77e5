"""Disclosure control of what one site sends outside a secure sum: no cell of it holds fewer patients than allowed.

Scores, counts of outcomes and sums of features leave as `policy.minimum_count` lets them: small cells are merged with
their neighbours, what cannot be merged is not sent. How many patients there are, in each part and with each modality,
leaves as it is; a site's own metrics are the concern of `small_cells`. Inside a secure sum over three sites or more
nothing is merged: the center sees no site's cells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shared_models.features import Feature, FeatureStatistics
from shared_models.messages import RESULTS, pack_arrays, unpack_arrays, unpack_statistics
from shared_models.metrics.arrays import Array, from_arrays, to_arrays
from shared_models.metrics.merged_cells import group_small_classes, merged_cells
from shared_models.metrics.summary import empty_summary, merge_small_cells
from shared_models.targets import Regression, Target, TimeToEvent

if TYPE_CHECKING:
    from flwr.app import RecordDict

    from shared_models.messages import Arrays
    from shared_models.task import Task

PARTS = ("validation", "test")


def limit_disclosure(content: RecordDict, task: Task, least: int) -> None:
    """Merges or leaves out the small cells of a reply's results.

    Args:
        content: A handler's reply; changed in place.
        task: The study's.
        least: The site's `policy.minimum_count`.
    """
    if content.array_records.get(RESULTS):
        results = unpack_arrays(content.array_records[RESULTS])
        content[RESULTS] = pack_arrays(results_without_small_cells(results, task, least))


def results_without_small_cells(results: Arrays, task: Task, least: int) -> Arrays:
    """The statistics of a reply as they may leave, by name; scores as statistics of merged cells."""
    sent: Arrays = {}
    for name, target in task.targets.items():
        zero = empty_summary(target)
        for prefix in (f"{part}.{name}" for part in PARTS):
            if any(key.startswith(f"{prefix}.") for key in results):
                summary = from_arrays(type(zero), results, prefix, like=zero)
                sent |= to_arrays(merge_small_cells(target, summary, least), prefix)
        if (key := f"counts.{name}") in results:
            sent[key] = counts_without_small_cells(target, results[key], least)
    if any(key.startswith("features.") for key in results):
        for name, statistics in unpack_statistics(results, task).items():
            features = task.tables[name].features
            sent |= to_arrays(features_without_small_cells(features, statistics, least), f"features.{name}")
    return sent


def counts_without_small_cells(target: Target, counts: Array, least: int) -> Array:
    """Training patients by outcome, as `target.counts` gave them; the total stays exact, or nothing is told."""
    if isinstance(target, Regression):  # patients, and a sum over them
        return counts if counts[0] >= least else np.zeros_like(counts)
    if isinstance(target, TimeToEvent):
        return _intervals_without_small_cells(counts, least)
    return group_small_classes(counts, least)


def _intervals_without_small_cells(counts: Array, least: int) -> Array:
    """`(2, K)` who survived and who failed in each interval: neither failures nor those lost in one are few."""
    survived, failed = counts
    there = survived[0] + failed[0]
    lost = np.append(np.maximum(survived[:-1] - survived[1:] - failed[1:], 0.0), survived[-1])
    if any(0 < part.sum() < least for part in (failed, lost)):
        return np.zeros_like(counts)
    failed, lost = _merged(failed, least), _merged(lost, least)
    before = np.concatenate([[0.0], np.cumsum(lost)[:-1]])
    return np.stack([there - np.cumsum(failed) - before, failed])


def _merged(counts: Array, least: int) -> Array:
    merged = np.zeros_like(counts)
    for cell in merged_cells(counts, least):
        merged[cell.middle] += cell.patients
    return merged


def features_without_small_cells(
    features: tuple[Feature, ...], statistics: FeatureStatistics, least: int
) -> FeatureStatistics:
    """Sums of a table's columns: none of a feature that fewer than `least` have, no rare category alone."""
    known, total, squares = statistics.known.copy(), statistics.total.copy(), statistics.squares.copy()
    start = 0
    for feature in features:
        columns = slice(start, start := start + len(feature.columns))
        if known[columns].max(initial=0.0) < least:
            known[columns] = total[columns] = squares[columns] = 0.0
        elif feature.categories:  # a sum of ones is a count
            total[columns] = squares[columns] = group_small_classes(total[columns], least)
    return FeatureStatistics(statistics.patients if statistics.patients >= least else 0.0, known, total, squares)
