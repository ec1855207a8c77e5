"""Conformal sets and intervals of a finished network's predictions, calibrated at the site."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from client.inference.known_outcomes import KnownOutcomes, class_names
from shared_models.metrics.conformal import half_width, p_values
from shared_models.targets import Categorical, Target

Array = np.ndarray[Any, Any]
Columns = dict[str, list[str]]


def conformal_columns(target: Target, known: KnownOutcomes, coverage: float) -> Callable[[Array], Columns]:
    """What adds to predictions `(P,)` or `(P, K)` the outcomes that are not ruled out, or an interval.

    Args:
        target: The target.
        known: Patients whose outcome is known, on whom the network was not trained.
        coverage: Share of patients, of each class, whose outcome is in the set.
    """
    names = class_names(target)
    if not names:
        width = half_width(np.abs(known.scores - known.outcome), coverage)
        return lambda scores: {
            "low": [f"{s - width:.6g}" for s in scores],
            "high": [f"{s + width:.6g}" for s in scores],
        }

    def sets(scores: Array) -> Columns:
        alpha = 1 - coverage + 1e-9
        inside = np.stack([_p_values(target, known, scores, index) > alpha for index in range(len(names))], 1)
        return {"set": ["|".join(n for n, there in zip(names, row, strict=True) if there) or "none" for row in inside]}

    return sets


def _p_values(target: Target, known: KnownOutcomes, scores: Array, index: int) -> Array:
    own = known.of(known.outcome == index)
    return p_values(_strange(target, scores, index), _strange(target, own.scores, index), own.weights)


def _strange(target: Target, scores: Array, index: int) -> Array:
    """How badly patients fit a class: one less its probability."""
    if isinstance(target, Categorical):
        return np.asarray(1 - scores[:, index])
    return scores if index == 0 else 1 - scores


def smallest_class(coverage: float) -> int:
    """How many patients a class needs before it can be ruled out for anybody.

    >>> smallest_class(0.9), smallest_class(0.95)
    (9, 19)
    """
    return int(np.ceil(1 / (1 - coverage) - 1e-9)) - 1
