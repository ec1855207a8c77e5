"""A value that is far from what all the others have in common."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeVar

import numpy as np

Key = TypeVar("Key", bound=Hashable)

MIN_OTHERS = 4
SPREADS = 3.0  # of the logarithms of all the others, from lowest to highest


def odd_ones(values: Mapping[Key, float], factor: float) -> set[Key]:
    """Keys whose value is at least `factor` times as large or small as the others', and far beyond their spread.

    Args:
        values: Of each; those that are not above 0 are unknown.
        factor: Above 1.
    """
    known = {key: float(np.log(value)) for key, value in values.items() if value > 0}
    odd: set[Key] = set()
    for key, value in known.items():
        others = np.array([other for its, other in known.items() if its != key])
        if len(others) < MIN_OTHERS:
            return set()
        if abs(value - others.mean()) > max(float(np.log(factor)), SPREADS * float(np.ptp(others))):
            odd.add(key)
    return odd
