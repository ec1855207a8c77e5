"""Permutation importance: what scores lose with a part of the input shuffled between patients, or absent.

As Breiman 2001 (10.1023/A:1010933404324) does it: each modality, and where a study asks for it each
feature of a table, is shuffled between a site's own test patients who have it. It then says nothing about them, and
looks as it did. Beside it, each modality is hidden, as if no patient had it. What is lost are pairs of patients of the
same site in the right order (`shared_models/metrics/paired.py`); of a binary target and of a time to event also the
order of all patients together, from histograms. A modality that tells the hospital and nothing else is lost in the
second and not in the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np

from shared_models.metrics.arrays import Array, TargetStatistic, add, from_arrays, to_arrays
from shared_models.metrics.binary import ScoreHistogram
from shared_models.metrics.paired import PairedPairs
from shared_models.metrics.summary import merge_small_cells
from shared_models.metrics.survival import ConcordanceTable
from shared_models.study_settings import StudySettings
from shared_models.targets import Binary, Target, TimeToEvent
from shared_models.task import Task

PREFIX = "importance"
RISK_BINS = 64
"""Of all patients' C-index: a table of all bins for each modality would be tens of megabytes."""
Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Change:
    """A change of a network's input.

    Attributes:
        modality: What is changed.
        feature: The feature of that table alone; empty for all of the modality.
        kind: `shuffled` between a site's patients who have it, or `absent` of all.
    """

    modality: str
    feature: str = ""
    kind: Literal["shuffled", "absent"] = "shuffled"


def changes(task: Task, config: StudySettings) -> tuple[Change, ...]:
    """The changes whose loss a study measures: modalities shuffled, then absent, then features shuffled.

    A single modality has none: without it there is nothing left.
    """
    several = list(task.modalities) if len(task.modalities) > 1 else []
    modalities = [Change(name) for name in several] + [Change(name, kind="absent") for name in several]
    if config.importance in ("features", "shap"):
        features = ((name, feature.name) for name, table in task.tables.items() for feature in table.features)
        return (*modalities, *(Change(name, feature) for name, feature in features))
    return tuple(modalities) if config.importance == "modalities" else ()


def pooled_changes(task: Task, config: StudySettings) -> tuple[Change, ...]:
    """Those whose loss is measured over all patients together, too: whole modalities, shuffled."""
    return tuple(change for change in changes(task, config) if not change.feature and change.kind == "shuffled")


def pooled_statistic(target: Target, scores: Array, truth: Array) -> TargetStatistic | None:
    """Histogram from which the AUC or C-index of all patients together follows; None for other targets."""
    if not isinstance(target, Binary | TimeToEvent):
        return None
    score_range = target.score_ranges[0] if target.score_ranges else None
    if isinstance(target, Binary):
        return ScoreHistogram.of(scores, truth, score_range=score_range)
    days, event = np.asarray(truth, dtype=np.float64).T
    return ConcordanceTable.of(scores, days, event, RISK_BINS, score_range)


@dataclass(frozen=True, eq=False)
class Importance:
    """What is lost by V changes at a site, or at several together. Merges by addition.

    Attributes:
        patients: `(V,)` patients whose input it changes: who have it, and of what is absent something else.
        pairs: By target, V comparisons of the network's scores with those after a change.
        pooled: By target, histograms of the network's scores, and of those after each of `pooled_changes`; none of
            targets without.
        explained: By target, of a study with `importance = "shap"`: `(1 + V,)` how many patients were explained, and
            the sum over them of each feature's absolute Shapley value, in steps that hide one of them; 0 of changes
            that are of no feature.
    """

    patients: Array
    pairs: Mapping[str, PairedPairs]
    pooled: Mapping[str, tuple[TargetStatistic, ...]]
    explained: Mapping[str, Array] = field(default_factory=dict)

    @classmethod
    def empty(cls, task: Task, config: StudySettings, merged: bool = False) -> Self:
        """The zero of the sum, and the shapes that a site's answer must have.

        Args:
            task: The study's.
            config: Its settings.
            merged: Whether of merged cells, as sites send them outside of secure aggregation.
        """
        count, tables = len(changes(task, config)), 1 + len(pooled_changes(task, config))
        pooled = {}
        for name, target in task.targets.items():
            truth = np.zeros((0, 2)) if isinstance(target, TimeToEvent) else np.zeros(0)
            empty = pooled_statistic(target, np.zeros(0), truth)
            if empty is not None and tables > 1:
                pooled[name] = (_merged(target, empty, 1) if merged else empty,) * tables
        explained = dict.fromkeys(task.targets, np.zeros(1 + count)) if config.importance == "shap" else {}
        return cls(np.zeros(count), dict.fromkeys(task.targets, PairedPairs.empty(count)), pooled, explained)

    def pack(self) -> Arrays:
        """As named arrays; none where nothing is changed."""
        if not len(self.patients):
            return {}
        arrays: Arrays = {f"{PREFIX}.patients": self.patients}
        for name, pairs in self.pairs.items():
            arrays |= to_arrays(pairs, f"{PREFIX}.{name}")
        for name, tables in self.pooled.items():
            for index, table in enumerate(tables):
                arrays |= to_arrays(table, f"{PREFIX}.{name}.pooled.{index}")
        return arrays | {f"{PREFIX}.{name}.explained": sums for name, sums in self.explained.items()}

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, np.ndarray[Any, Any]], task: Task, config: StudySettings, merged: bool = False
    ) -> Self:
        """The inverse of `pack` for one study.

        Raises:
            ValueError: If an array is missing, of another shape, negative where it counts, or not finite.
        """
        zero = cls.empty(task, config, merged)
        if not len(zero.patients):
            return zero
        return cls(
            _sums(arrays, f"{PREFIX}.patients", zero.patients),
            {
                name: from_arrays(PairedPairs, arrays, f"{PREFIX}.{name}", like=like)
                for name, like in zero.pairs.items()
            },
            {
                name: tuple(
                    from_arrays(type(like), arrays, f"{PREFIX}.{name}.pooled.{index}", like=like)
                    for index, like in enumerate(likes)
                )
                for name, likes in zero.pooled.items()
            },
            {name: _sums(arrays, f"{PREFIX}.{name}.explained", like) for name, like in zero.explained.items()},
        )

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.patients + other.patients,
            {name: pairs + other.pairs[name] for name, pairs in self.pairs.items()},
            {
                name: tuple(add(one, another) for one, another in zip(tables, other.pooled[name], strict=True))
                for name, tables in self.pooled.items()
            },
            {name: sums + other.explained[name] for name, sums in self.explained.items()},
        )

    def without_small_cells(self, task: Task, least: float) -> Self:
        """What one site may send of it by itself: pairs in steps that hide one patient, histograms of merged cells.

        Nothing of a change that fewer than `least` patients have: beside the scores without it, it would be about them.
        """
        few = self.patients < least
        pairs = {name: counted.without_small_cells(least) for name, counted in self.pairs.items()}
        pooled = {
            name: (first, *(first if small else table for table, small in zip(after, few, strict=False)))
            for name, (first, *after) in self.pooled.items()  # those of the first changes
        }
        return type(self)(
            np.where(few, 0.0, self.patients),
            {name: counted.without(few) for name, counted in pairs.items()},
            {
                name: tuple(_merged(task.targets[name], table, least) for table in tables)
                for name, tables in pooled.items()
            },
            {
                name: np.where(np.append(False, few) | (sums[0] < least), 0.0, _in_two_digits(sums))
                for name, sums in self.explained.items()
            },
        )


def _merged(target: Target, statistic: TargetStatistic, least: float) -> TargetStatistic:
    return merge_small_cells(target, {PREFIX: statistic}, int(least))[PREFIX]


def _sums(arrays: Mapping[str, np.ndarray[Any, Any]], name: str, like: Array) -> Array:
    """Counts or sums of a shape, none of them negative.

    Raises:
        ValueError: If they are not.
    """
    sums = np.asarray(arrays.get(name, np.empty(0)), dtype=np.float64)
    if sums.shape != like.shape or not np.isfinite(sums).all() or (sums < 0).any():
        msg = f"{name} is missing, or holds no {len(like)} counts or sums"
        raise ValueError(msg)
    return sums


def _in_two_digits(sums: Array) -> Array:
    """Patients, and sums over them rounded so that their means have two significant digits."""
    mean = sums[1:] / max(sums[0], 1.0)
    digits = 10.0 ** (np.floor(np.log10(np.maximum(mean, 1e-300))) - 1)
    return np.append(sums[0], np.where(mean > 1e-9, np.rint(mean / digits) * digits, 0.0) * sums[0])
