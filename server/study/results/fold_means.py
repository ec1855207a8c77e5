"""Means of metrics over folds and repeats."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from shared_models.metrics.arrays import Metric, Number

Metrics = Mapping[str, Metric]


def mean_metrics(groups: Iterable[Metrics]) -> dict[str, Metric]:
    """Each metric's mean over repeats or folds, of those where it is defined; so of its interval's bounds."""
    all_of = [*groups]
    return {key: _mean_of([metrics.get(key) for metrics in all_of]) for key in all_of[0]} if all_of else {}


def _mean_of(values: Sequence[Metric]) -> Metric:
    curves = [value for value in values if isinstance(value, list)]
    if curves:
        same = all(len(curve) == len(curves[0]) for curve in curves)
        return [mean_number(points) for points in zip(*curves, strict=True)] if same else curves[0]
    return mean_number([value for value in values if not isinstance(value, list)])


def mean_number(values: Sequence[Number]) -> Number:
    """Of those that are known; None where none is."""
    known = [value for value in values if value is not None]
    return round(math.fsum(known) / len(known), 6) if known else None
