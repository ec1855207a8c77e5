"""Additive statistics as arrays: packing, checks on arrival, and addition.

A statistic is a frozen dataclass whose fields are numbers and arrays that merge by addition: splitting the patients
over sites and adding what each site counted equals counting them in one place. The functions here read the
dataclass's fields, so that a new statistic needs no code of its own to be sent, received, checked and added.

What arrives from a site is checked before it is used: a site may be mistaken, or hostile.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any, ClassVar, Protocol, Self, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

LARGEST = 1e60
"""Larger entries are refused: products of four of them must stay finite (the correlation coefficients need that).

Entries smaller than its inverse become 0 on arrival, so that quotients stay finite too."""


VECTOR = {"ndim": 1}
MATRIX = {"ndim": 2}
SIGNED = {"signed": True}
"""Metadata of a field that is not a plain non-negative number: ``events: Array = field(metadata=VECTOR)``."""
AGREED = {"agreed": True}
"""Metadata of what is the same at every site, as where bins lie: it does not travel, and only equals are added."""


class Statistic(Protocol):
    """Anything that merges by addition and is a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    def __add__(self, other: Self, /) -> Self: ...


Number = float | None
Metric = Number | list[Number]
"""As results.json holds it: a number or the points of a curve, None where undefined or withheld."""
PooledMetrics = dict[str, float | list[float]]
"""By name: a number, or the points of a curve; NaN where undefined."""


class TargetStatistic(Statistic, Protocol):
    """A statistic of a target's scores; a target kind lists those that it has.

    Attributes:
        METRICS: What `metrics` gives, by name, each in a line for docs/results.md.
    """

    METRICS: ClassVar[Mapping[str, str]]

    def metrics(self, threshold: float) -> PooledMetrics:
        """Its metrics in results.json.

        Args:
            threshold: At and above which a score counts as positive, for those that need one.
        """
        ...


@runtime_checkable
class CoarseStatistic(TargetStatistic, Protocol):
    """A statistic of which one site may send something by itself, outside a sum over sites."""

    def without_small_cells(self, least: float) -> Self:
        """It without a cell of fewer than `least` patients; zero if that leaves nothing."""
        ...


S = TypeVar("S", bound=Statistic)


def counted_fields(cls: type[Any]) -> list[dataclasses.Field[Any]]:
    """The fields of a statistic that are added up, and travel."""
    return [field for field in dataclasses.fields(cls) if not field.metadata.get("agreed")]


def require_equal_shapes(statistic: Any) -> None:
    """Refuse a statistic whose array fields disagree in shape, which numpy would silently broadcast.

    Raises:
        ValueError: naming the fields and their shapes.
    """
    arrays = [field.name for field in counted_fields(type(statistic)) if "ndim" in field.metadata]
    shapes = {name: np.shape(getattr(statistic, name)) for name in arrays}
    if len(set(shapes.values())) > 1:
        message = f"{type(statistic).__name__}: the fields must have one shape, not {shapes}"
        raise ValueError(message)


def add(first: S, second: S) -> S:
    """Add two statistics field by field.

    Raises:
        ValueError: if they are of different kinds, or were counted over different bins.
    """
    if type(first) is not type(second):
        message = f"cannot add {type(second).__name__} to {type(first).__name__}"
        raise ValueError(message)
    sums = {}
    for field in dataclasses.fields(first):
        one, other = getattr(first, field.name), getattr(second, field.name)
        agreed = field.metadata.get("agreed", False)
        if agreed and one != other:
            message = f"cannot add two of {type(first).__name__} whose {field.name} is {one} and {other}"
            raise ValueError(message)
        if np.shape(one) != np.shape(other):
            message = f"cannot add {type(first).__name__}.{field.name} of shapes {np.shape(one)} and {np.shape(other)}"
            raise ValueError(message)
        sums[field.name] = one if agreed else one + other
    return type(first)(**sums)


def total(statistics: Iterable[S]) -> S:
    """The statistic of all sites together.

    Raises:
        ValueError: if there are none, or if they do not fit together.
    """
    parts = list(statistics)
    if not parts:
        message = "there is no statistic to add up"
        raise ValueError(message)
    return reduce(add, parts)


def to_arrays(statistic: Statistic, prefix: str) -> dict[str, np.ndarray]:
    """One float64 array a field, keyed ``{prefix}.{field}``; numbers become arrays of no axes."""
    return {
        f"{prefix}.{field.name}": np.array(getattr(statistic, field.name), dtype=np.float64)
        for field in counted_fields(type(statistic))
    }


def from_arrays(cls: type[S], arrays: Mapping[str, np.ndarray], prefix: str, like: S | None = None) -> S:
    """Rebuild a statistic from what a site sent; the inverse of `to_arrays`.

    Args:
        cls: the statistic.
        arrays: may hold other keys too, which are ignored.
        prefix: the one it was sent under.
        like: a statistic whose shapes the result must have: the receiver's own choice of bins or classes.

    Raises:
        ValueError: naming the field, if it is missing, not numeric, not finite, negative where it counts, beyond
            `LARGEST`, or not of the right shape.
    """
    agreed = [] if like is None else [field.name for field in dataclasses.fields(cls) if field.metadata.get("agreed")]
    fields = {name: getattr(like, name) for name in agreed}
    for field in counted_fields(cls):
        name = f"{prefix}.{field.name}"
        if name not in arrays:
            message = f"{name} is missing from the {cls.__name__}"
            raise ValueError(message)
        ndim, signed = field.metadata.get("ndim", 0), field.metadata.get("signed", False)
        values = _checked(name, arrays[name], ndim, signed)
        if like is not None and values.shape != np.shape(getattr(like, field.name)):
            message = f"{name} has shape {values.shape}, expected {np.shape(getattr(like, field.name))}"
            raise ValueError(message)
        fields[field.name] = values if ndim else float(values)
    return cls(**fields)


def _checked(name: str, received: Any, ndim: int, signed: bool) -> Array:
    """A float64 copy of ``received``, or the reason why not."""
    values = np.asarray(received)
    if values.dtype.kind not in "iuf":
        message = f"{name} must hold real numbers, not {values.dtype}"
        raise ValueError(message)
    if values.ndim != ndim:
        message = f"{name} must have {ndim} axes, not {values.ndim}"
        raise ValueError(message)
    if not np.isfinite(values).all():
        message = f"{name} is not finite"
        raise ValueError(message)
    if values.size and values.min() < 0 and not signed:
        message = f"{name} counts, and cannot be negative"
        raise ValueError(message)
    if values.size and max(values.max(), -values.min()) > LARGEST:
        message = f"{name} is larger than {LARGEST:g}"
        raise ValueError(message)
    return np.where(np.abs(values) < 1 / LARGEST, 0.0, values).astype(np.float64)
