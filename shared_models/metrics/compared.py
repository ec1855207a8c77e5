"""Two networks' scores of the same patients, as additive statistics: paired pairs, and joint counts of right calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from shared_models.metrics.arrays import Array, add, from_arrays, to_arrays
from shared_models.metrics.paired import PairedPairs, joined
from shared_models.targets import Binary, Target

Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True, eq=False)
class Calls:
    """Patients by whether each of two networks calls a binary target rightly. Merges by addition.

    Attributes:
        both: Patients whom both call rightly.
        only_first: Whom only the first does.
        only_second: Whom only the second does.
        neither: Whom neither does.

    Example:
        >>> Calls.of([0.9, 0.2, 0.6], [0.8, 0.7, 0.1], [1, 0, 1], (0.5, 0.5)).only_first
        2.0
    """

    both: float
    only_first: float
    only_second: float
    neither: float

    @classmethod
    def of(
        cls, first: npt.ArrayLike, second: npt.ArrayLike, truth: npt.ArrayLike, thresholds: tuple[float, float]
    ) -> Self:
        """Counts one site's patients.

        Args:
            first: (N,) scores.
            second: (N,) likewise.
            truth: (N,) 1 or 0; nan where unknown.
            thresholds: At and above which each network calls a patient positive.
        """
        known = ~np.isnan(np.asarray(truth, dtype=np.float64))
        positive = np.asarray(truth)[known] == 1
        one, other = (
            (np.asarray(scores)[known] >= threshold) == positive
            for scores, threshold in zip((first, second), thresholds, strict=True)
        )
        return cls(*(float(cell.sum()) for cell in (one & other, one & ~other, other & ~one, ~one & ~other)))

    def __add__(self, other: Self) -> Self:
        return add(self, other)

    @property
    def patients(self) -> float:
        """How many there are."""
        return self.both + self.only_first + self.only_second + self.neither

    def without_small_cells(self, least: float) -> Self:
        """All of them, or where a cell holds one to `least` - 1 patients none."""
        cells = (self.both, self.only_first, self.only_second, self.neither)
        return type(self)(0.0, 0.0, 0.0, 0.0) if any(0 < cell < least for cell in cells) else self


@dataclass(frozen=True, eq=False)
class Compared:
    """Two networks on the same patients. Merges by addition.

    Attributes:
        pairs: By target, V = 3 comparisons: the first network with the second, and each with scores that are all equal.
        calls: By binary target.
    """

    pairs: Mapping[str, PairedPairs]
    calls: Mapping[str, Calls]

    @classmethod
    def empty(cls, targets: Mapping[str, Target]) -> Self:
        """The zero of the sum, and the shapes that a site's answer must have."""
        binary = [name for name, target in targets.items() if isinstance(target, Binary)]
        return cls(dict.fromkeys(targets, PairedPairs.empty(3)), dict.fromkeys(binary, Calls(0.0, 0.0, 0.0, 0.0)))

    @classmethod
    def of(
        cls,
        targets: Mapping[str, Target],
        scores: Mapping[str, tuple[Array, Array]],
        truths: Mapping[str, Array],
        thresholds: Mapping[str, tuple[float, float]],
    ) -> Self:
        """Counts one site's patients.

        Args:
            targets: Those of both tasks.
            scores: By target, each network's, (N,) or (N, K).
            truths: By target, (N,) or (N, 2).
            thresholds: By binary target, each network's.
        """
        pairs, calls = {}, {}
        for name, target in targets.items():
            first, second = scores[name]
            equal = np.zeros_like(first)
            both = PairedPairs.of(target, first, [[second], [equal]], truths[name])
            alone = PairedPairs.of(target, second, [[equal]], truths[name])
            pairs[name] = joined((both, alone))
            if isinstance(target, Binary):
                calls[name] = Calls.of(first, second, truths[name], thresholds[name])
        return cls(pairs, calls)

    def __add__(self, other: Self) -> Self:
        return type(self)(
            {name: pairs + other.pairs[name] for name, pairs in self.pairs.items()},
            {name: calls + other.calls[name] for name, calls in self.calls.items()},
        )

    def pack(self) -> Arrays:
        """As named arrays."""
        arrays: Arrays = {}
        for name, pairs in self.pairs.items():
            arrays |= to_arrays(pairs, f"{name}.pairs")
        for name, calls in self.calls.items():
            arrays |= to_arrays(calls, f"{name}.calls")
        return arrays

    @classmethod
    def unpack(cls, arrays: Mapping[str, np.ndarray[Any, Any]], targets: Mapping[str, Target]) -> Self:
        """The inverse of `pack`.

        Raises:
            ValueError: If an array is missing, of another shape, negative where it counts, or not finite.
        """
        like = cls.empty(targets)
        return cls(
            {name: from_arrays(PairedPairs, arrays, f"{name}.pairs", like=zero) for name, zero in like.pairs.items()},
            {name: from_arrays(Calls, arrays, f"{name}.calls", like=zero) for name, zero in like.calls.items()},
        )

    def without_small_cells(self, least: float) -> Self:
        """What one site may send of it by itself."""
        return type(self)(
            {name: pairs.without_small_cells(least) for name, pairs in self.pairs.items()},
            {name: calls.without_small_cells(least) for name, calls in self.calls.items()},
        )
