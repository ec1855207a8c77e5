"""A value that is far from what all the others have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np

Key = TypeVar("Key", int, tuple[str, tuple[float, ...], tuple[int, ...]])

MIN_OTHERS = 4
SPREADS = 3.0  # of the logarithms of all the others, from lowest to highest


def odd_ones(values: Mapping[Key, float], factor: float) -> set[Key]:
    """Keys whose value is at least `factor` times as large or small as the others', and far beyond their spread.

    Of values that spread none is odd, and beside a value that is odd no other is: it would be one of a second group.

    Args:
        values: Of each; those that are not above 0 are unknown.
        factor: Above 1.
    """
    known = sorted((float(np.log(value)), key) for key, value in values.items() if value > 0)
    if len(known) <= MIN_OTHERS:
        return set()
    logs = np.array([value for value, _ in known])
    odd = set()
    for (value, key), others in ((known[0], logs[1:]), (known[-1], logs[:-1])):
        if abs(value - others.mean()) > max(float(np.log(factor)), SPREADS * float(others[-1] - others[0])):
            odd.add(key)
    return odd
