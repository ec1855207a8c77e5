"""Description of patients from additive counts: outcomes by part of the split, who was left out, and characteristics.

A site counts its own patients; the counts of all sites add up to those of all patients. Each count that one site may
withhold is beside a 1 where it is told, so that a sum also says how many sites tell it, and a cell that was
withheld is never taken for a 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared_models.features import FeatureStatistics
from shared_models.metrics.arrays import Array, from_arrays, to_arrays
from shared_models.metrics.censoring import at_horizon
from shared_models.targets import Binary, Categorical, Target, TimeToEvent
from shared_models.task import Task

PARTS = ("train", "validation", "test")
DESCRIBED_PARTS = ("train", "test")
"""The groups of patients whose characteristics are given: whom the network learned from, and whom it was tested on."""
LEFT_OUT = ("no_known_outcome", "no_modality")
PREFIX = "patients"
Arrays = dict[str, np.ndarray[Any, Any]]


def outcome_names(target: Target) -> tuple[str, ...]:
    """What is known of a patient's outcome, each patient being one of them; the last is that nothing is."""
    match target:
        case Binary():
            return "without", "with", "unknown"
        case Categorical():
            return (*target.classes, "unknown")
        case TimeToEvent():
            return "event", "free", "censored", "unknown"
        case _:
            return "known", "unknown"


def count_outcomes(target: Target, truth: NDArray[np.floating[Any]]) -> Array:
    """Patients by outcome, in the order of `outcome_names`.

    Args:
        target: The target.
        truth: `(N,)`, or `(N, 2)` for a time to event; NaN where unknown.
    """
    unknown = is_unknown(truth)
    known = truth[~unknown]
    match target:
        case Binary() | Categorical():
            counts = [(known == index).sum() for index in range(len(outcome_names(target)) - 1)]
        case TimeToEvent():
            outcome = at_horizon(known[:, 0].astype(np.float64), known[:, 1] == 1, target.horizon_days)
            counts = [outcome.event.sum(), outcome.free.sum()]
            counts.append(len(known) - sum(counts))
        case _:
            counts = [len(known)]
    return np.array([*counts, unknown.sum()], dtype=np.float64)


def is_unknown(truth: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Whose outcome is not known, `(N,)`, of truths `(N,)` or `(N, 2)`."""
    missing = np.isnan(truth)
    return missing.any(axis=1) if missing.ndim > 1 else missing


@dataclass(frozen=True, eq=False)
class Description:
    """Patients of one site, or of several together.

    Attributes:
        outcomes: By target and part of the split, `(1 + outcomes,)`: sites that tell, then patients by `outcome_names`.
        left_out: By reason, `(2,)`: sites that tell, then patients who are in no part of the split for it.
        excluded: By modality, `(2,)`: sites that tell, then patients whose files of it cannot be used.
        tables: By part and table, sums over the patients who have the table, of its columns before z-scores.
    """

    outcomes: Mapping[str, Mapping[str, Array]]
    left_out: Mapping[str, Array]
    excluded: Mapping[str, Array]
    tables: Mapping[str, Mapping[str, FeatureStatistics]]

    @classmethod
    def empty(cls, task: Task) -> Description:
        """The zero of the sum, and the shapes that a site's answer must have."""
        counts = {name: np.zeros(1 + len(outcome_names(target))) for name, target in task.targets.items()}
        empty = {name: FeatureStatistics.of(np.empty((0, len(table.columns)))) for name, table in task.tables.items()}
        return cls(
            outcomes={name: dict.fromkeys(PARTS, zero) for name, zero in counts.items()},
            left_out=dict.fromkeys(LEFT_OUT, np.zeros(2)),
            excluded=dict.fromkeys(task.modalities, np.zeros(2)),
            tables={part: dict(empty) for part in DESCRIBED_PARTS},
        )

    def pack(self) -> Arrays:
        """As named arrays."""
        arrays: Arrays = {f"{PREFIX}.left_out.{why}": counts for why, counts in self.left_out.items()}
        arrays |= {f"{PREFIX}.excluded.{modality}": counts for modality, counts in self.excluded.items()}
        for target, parts in self.outcomes.items():
            arrays |= {f"{PREFIX}.outcomes.{target}.{part}": counts for part, counts in parts.items()}
        for part, tables in self.tables.items():
            for table, sums in tables.items():
                arrays |= to_arrays(sums, f"{PREFIX}.{part}.{table}")
        return arrays

    @classmethod
    def unpack(cls, arrays: Mapping[str, np.ndarray[Any, Any]], task: Task) -> Description:
        """The inverse of `pack` for the targets, modalities and tables of `task`.

        Raises:
            ValueError: If an array is missing, of another shape, negative where it counts, or not finite.
        """
        zero = cls.empty(task)

        def read(name: str, like: Array) -> Array:
            values = np.asarray(arrays.get(f"{PREFIX}.{name}", np.empty(0)), dtype=np.float64)
            if values.shape != like.shape or not np.isfinite(values).all() or (values < 0).any():
                msg = f"{PREFIX}.{name} is missing, or holds no {len(like)} counts"
                raise ValueError(msg)
            return values

        return cls(
            outcomes={
                target: {part: read(f"outcomes.{target}.{part}", like) for part, like in parts.items()}
                for target, parts in zero.outcomes.items()
            },
            left_out={why: read(f"left_out.{why}", like) for why, like in zero.left_out.items()},
            excluded={name: read(f"excluded.{name}", like) for name, like in zero.excluded.items()},
            tables={
                part: {
                    name: from_arrays(FeatureStatistics, arrays, f"{PREFIX}.{part}.{name}", like=like)
                    for name, like in tables.items()
                }
                for part, tables in zero.tables.items()
            },
        )

    def __add__(self, other: Description) -> Description:
        return Description(
            outcomes={
                target: {part: counts + other.outcomes[target][part] for part, counts in parts.items()}
                for target, parts in self.outcomes.items()
            },
            left_out={why: counts + other.left_out[why] for why, counts in self.left_out.items()},
            excluded={name: counts + other.excluded[name] for name, counts in self.excluded.items()},
            tables={
                part: {name: sums + other.tables[part][name] for name, sums in tables.items()}
                for part, tables in self.tables.items()
            },
        )


def one_site_counts(counts: Array) -> Array:
    """One site's counts, with the number of sites that they are of before them."""
    return np.concatenate([[1.0], np.asarray(counts, dtype=np.float64)])


def withheld_if_small(counts: Array, least: float) -> Array:
    """A site's counts if each is 0 or at least `least`; else none of them, so that none follows from the others.

    Args:
        counts: `(1 + K,)`, a 1 before them where they are sent.
        least: Fewest patients of a cell.
    """
    few = (counts[1:] > 0) & (counts[1:] < least)
    return np.zeros_like(counts) if few.any() else counts
