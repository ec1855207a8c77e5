"""Kinds of fields in a message: how each is written into Flower's records, and checked on arrival.

Plain values are in one record, `values`, a named one as `FIELD/NAME`; the arrays of a field are a record of its name.
What arrives was written by another party: it is bounded in number, length and size, and finite, before it is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from shared_models.features import FeatureStatistics
from shared_models.messages.arrays import Arrays
from shared_models.messages.parts import MAX_NAME, MAX_NAMES, Parts, refuse, shown
from shared_models.metrics.arrays import from_arrays, to_arrays

MAX_PATIENTS = 10_000_000
MAX_ROUND = 10_000
MAX_WEIGHT = 1e6
"""Of a network's weight: far above any that trains. A deep network can overflow below it, so that private training must
clip what is not finite by itself."""
MAX_WHOLE = 2.0**53
"""Of a whole number in an array: up to it, sums in float64 are exact."""
MAX_SUM = 1e60
"""Of a sum or a count: products of four of them are finite (`shared_models/metrics/arrays.py`)."""


class Kind(Protocol):
    """How a field travels."""

    @property
    def empty(self) -> Any:
        """What stands for it where only a sum over sites shows it."""

    def write(self, name: str, value: Any, parts: Parts) -> None:
        """Puts the field's value into a message's parts."""

    def read(self, name: str, parts: Parts) -> Any:
        """Takes it out, checked.

        Raises:
            ValueError: If it is missing, or not what it should be.
        """


@dataclass(frozen=True)
class Plain:
    """One plain value; `check(name, value)` gives it in its own type, or says why it is refused."""

    check: Callable[[str, Any], Any]
    empty: Any

    def write(self, name: str, value: Any, parts: Parts) -> None:
        """See `Kind`."""
        parts.values[name] = self.check(name, value)

    def read(self, name: str, parts: Parts) -> Any:
        """See `Kind`."""
        return self.check(name, parts.take(name))


@dataclass(frozen=True)
class Named:
    """Plain values by name; `deep` ones by two: a target's name and a metric's."""

    of: Plain
    deep: bool = False
    empty: Any = field(default_factory=dict)

    def write(self, name: str, value: Mapping[str, Any], parts: Parts) -> None:
        """See `Kind`."""
        for key, item in value.items():
            if self.deep:
                self.__class__(self.of).write(f"{name}/{key}", item, parts)
            else:
                self.of.write(f"{name}/{key}", item, parts)

    def read(self, name: str, parts: Parts) -> dict[str, Any]:
        """See `Kind`."""
        values = {key: self.of.check(f"{name}/{key}", item) for key, item in parts.take_named(name).items()}
        if not self.deep:
            return values
        deep: dict[str, dict[str, Any]] = {}
        for key, item in values.items():
            first, _, second = key.rpartition("/")
            deep.setdefault(first, {})[second] = item
        return deep


@dataclass(frozen=True)
class Tensors:
    """Named arrays of numbers, finite, and fractions at most `largest` in size; a counter of batches may be larger."""

    largest: float
    empty: Any = field(default_factory=dict)

    def write(self, name: str, value: Mapping[str, np.ndarray[Any, Any]], parts: Parts) -> None:
        """See `Kind`."""
        parts.arrays[name] = dict(value)

    def read(self, name: str, parts: Parts) -> Arrays:
        """See `Kind`."""
        arrays = parts.take_arrays(name)
        for key, array in arrays.items():
            if array.dtype.kind not in "fiub":
                refuse(f"{key} of {name} holds no numbers, but {array.dtype}")
            if not np.isfinite(array).all():
                refuse(f"{key} of {name} holds NaN or infinity")
            largest = self.largest if array.dtype.kind == "f" else MAX_WHOLE
            if array.size and max(float(array.max()), -float(array.min())) > largest:
                refuse(f"{key} of {name} holds a number beyond {largest:g}")
        return arrays


@dataclass(frozen=True)
class TableSums:
    """Feature statistics by table."""

    empty: Any = field(default_factory=dict)

    def write(self, name: str, value: Mapping[str, FeatureStatistics], parts: Parts) -> None:
        """See `Kind`."""
        parts.arrays[name] = {
            key: array for table, sums in value.items() for key, array in to_arrays(sums, table).items()
        }

    def read(self, name: str, parts: Parts) -> dict[str, FeatureStatistics]:
        """See `Kind`."""
        arrays = parts.take_arrays(name)
        tables = dict.fromkeys(key.rpartition(".")[0] for key in arrays)
        return {table: from_arrays(FeatureStatistics, arrays, table) for table in tables}


def whole(least: int, most: int) -> Plain:
    """A whole number."""

    def check(name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or not least <= value <= most:
            refuse(f"{name} is {shown(value)}, expected a whole number from {least} to {most}")
        return int(value)

    return Plain(check, 0)


def number(least: float, most: float, *, nan: bool = False) -> Plain:
    """A number; where `nan` says that it may be undefined, NaN stands for that and for infinity."""

    def check(name: str, value: Any) -> float:
        good = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if good and nan and not math.isfinite(value):
            return math.nan
        if not good or not least <= value <= most:
            refuse(f"{name} is {shown(value)}, expected a number from {least:g} to {most:g}")
        return float(value)

    return Plain(check, math.nan)


def flag() -> Plain:
    """Yes or no."""

    def check(name: str, value: Any) -> bool:
        return value if isinstance(value, bool) else refuse(f"{name} is {shown(value)}, expected true or false")

    return Plain(check, False)


def text(most: int) -> Plain:
    """Text of at most so many letters."""

    def check(name: str, value: Any) -> str:
        if not isinstance(value, str) or len(value) > most:
            refuse(f"{name} is {shown(value)}, expected text of at most {most:,} letters")
        return str(value)

    return Plain(check, "")


def data(most: int) -> Plain:
    """At most so many bytes."""

    def check(name: str, value: Any) -> bytes:
        if not isinstance(value, bytes) or len(value) > most:
            refuse(f"{name} is no {most:,} bytes or less")
        return bytes(value)

    return Plain(check, b"")


def names() -> Plain:
    """A list of names."""

    def check(name: str, value: Any) -> list[str]:
        if not isinstance(value, list | tuple) or len(value) > MAX_NAMES:
            refuse(f"{name} is {shown(value)}, expected a list of names")
        return [text(MAX_NAME).check(name, item) for item in value]

    return Plain(check, ())
