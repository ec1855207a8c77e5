"""Statistics frozen before round 1, as named arrays: features, ComBat's references, class weights, class counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from shared_models.combat import Reference
from shared_models.features import FeatureStatistics
from shared_models.messages.arrays import Arrays
from shared_models.metrics.arrays import from_arrays, to_arrays
from shared_models.study_settings import StudySettings
from shared_models.task import Task

FEATURES, HARMONISATION, CLASS_WEIGHTS, COUNTS = "features", "harmonisation", "class-weights", "counts"
MAX_CLASS_WEIGHT = 1e6


@dataclass(frozen=True)
class StudyStatistics:
    """Sums over all sites' training patients and what is made of them, the same in every message after `prepare`.

    Attributes:
        features: Of each tabular modality, for z-scores; of harmonised tables those after it.
        references: What each harmonised table is adjusted to.
        class_weights: Weights of the classes in the loss by target; none where classes weigh alike.
        counts: Class counts by target, by which a site compares its outcomes with the others'; only of a secure sum.
    """

    features: Mapping[str, FeatureStatistics]
    references: Mapping[str, Reference] = field(default_factory=dict)
    class_weights: Mapping[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    counts: Mapping[str, np.ndarray[Any, Any]] = field(default_factory=dict)

    def pack(self) -> Arrays:
        """As named arrays, for a request and for a checkpoint."""
        arrays = pack_features(self.features)
        for table, reference in self.references.items():
            arrays |= {f"{HARMONISATION}.{table}.mean": reference.mean}
            arrays |= {f"{HARMONISATION}.{table}.variance": reference.variance}
        arrays |= {f"{CLASS_WEIGHTS}.{target}": weights for target, weights in self.class_weights.items()}
        return arrays | {f"{COUNTS}.{target}": counts for target, counts in self.counts.items()}

    @classmethod
    def unpack(cls, arrays: Mapping[str, np.ndarray[Any, Any]], task: Task, config: StudySettings) -> Self:
        """The inverse of `pack` for one study.

        Raises:
            ValueError: If an array is missing or unknown, of another shape, negative where it counts, or not finite.
        """
        features = unpack_features(arrays, task)
        references = {name: _reference(arrays, name, task) for name in config.harmonised_tables}
        class_weights = _class_weights(arrays, task) if config.class_weights == "balanced" else {}
        statistics = cls(features, references, class_weights, _counts(arrays, task))
        if unknown := sorted(set(arrays) - set(statistics.pack())):
            msg = f"the study's statistics hold what this study has none of: {unknown[0]}"
            raise ValueError(msg)
        return statistics


def pack_features(statistics: Mapping[str, FeatureStatistics]) -> Arrays:
    """Feature statistics of each tabular modality as named arrays."""
    arrays: Arrays = {}
    for table, sums in statistics.items():
        arrays |= to_arrays(sums, f"{FEATURES}.{table}")
    return arrays


def unpack_features(arrays: Mapping[str, np.ndarray[Any, Any]], task: Task) -> dict[str, FeatureStatistics]:
    """The inverse of `pack_features` for the tables of `task`.

    Raises:
        ValueError: If an array is missing, of another shape, negative where it counts, or not finite.
    """
    return {
        name: from_arrays(FeatureStatistics, arrays, f"{FEATURES}.{name}", like=no_sums(len(table.columns)))
        for name, table in task.tables.items()
    }


def no_sums(columns: int) -> FeatureStatistics:
    """Feature statistics of no patients."""
    return FeatureStatistics.of(np.empty((0, columns)))


def _reference(arrays: Mapping[str, np.ndarray[Any, Any]], table: str, task: Task) -> Reference:
    names, shape = [f"{HARMONISATION}.{table}.{part}" for part in ("mean", "variance")], task.tables[table].shape
    mean, variance = (_of_shape(arrays, name, shape) for name in names)
    if (variance < 0).any():
        msg = f"{names[1]} is negative"
        raise ValueError(msg)
    return Reference(mean, variance)


def _class_weights(arrays: Mapping[str, np.ndarray[Any, Any]], task: Task) -> Arrays:
    from shared_models.targets import Binary, Categorical

    weights: Arrays = {}
    for target, kind in task.targets.items():
        if isinstance(kind, Binary | Categorical):
            name = f"{CLASS_WEIGHTS}.{target}"
            weights[target] = _of_shape(arrays, name, kind.counts(np.zeros(0)).shape)
            if (weights[target] < 0).any() or (weights[target] > MAX_CLASS_WEIGHT).any():
                msg = f"{name} is not between 0 and {MAX_CLASS_WEIGHT:g}"
                raise ValueError(msg)
    return weights


def _counts(arrays: Mapping[str, np.ndarray[Any, Any]], task: Task) -> Arrays:
    """The class counts that there are; a center without secure aggregation sends none."""
    from shared_models.targets import TimeToEvent

    nobody = {name: np.zeros((0, 2) if isinstance(kind, TimeToEvent) else 0) for name, kind in task.targets.items()}
    return {
        target: _of_shape(arrays, name, kind.counts(nobody[target]).shape)
        for target, kind in task.targets.items()
        if (name := f"{COUNTS}.{target}") in arrays
    }


def _of_shape(arrays: Mapping[str, np.ndarray[Any, Any]], name: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    array = arrays.get(name)
    if array is None or array.shape != shape or array.dtype.kind != "f" or not np.isfinite(array).all():
        actual = "missing" if array is None else f"{array.dtype}{array.shape}"
        msg = f"{name} is {actual}, expected finite numbers {shape}"
        raise ValueError(msg)
    return array
