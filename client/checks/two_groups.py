"""Two groups of numbers that are farther apart than the halves of any one distribution."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from client.checks.feature_column import FEW, Values

DEVIATIONS = 3.8  # between the groups; the halves of values that spread evenly are 3.5 apart, of a bell's 2.7
MIN_SHARE = 0.05  # of the values, in the smaller group
LEAST = 3


@dataclass(frozen=True)
class TwoGroups:
    """The best split of some numbers in two.

    Attributes:
        low: The mean of the lower group.
        high: The mean of the upper group.
        limit: Half way between the two values next to the split.
        few_are_high: Whether the upper group is the smaller one.
        valley: Values about the limit, as a share of those about the mean of the group that has fewer there; a tail has
            no valley.
    """

    low: float
    high: float
    limit: float
    few_are_high: bool
    valley: float


def two_groups(values: Values) -> TwoGroups | None:
    """The split that leaves least variance within, or None where the groups are not clearly apart.

    Args:
        values: `(N,)`, ascending, all known.
    """
    least = max(LEAST, math.ceil(MIN_SHARE * len(values)))
    if len(values) < 2 * FEW:
        return None
    sizes = np.arange(1, len(values))
    low = np.cumsum(values)[:-1] / sizes
    high = (values.sum() - low * sizes) / (len(values) - sizes)
    between = sizes * (len(values) - sizes) * (high - low) ** 2 / len(values) ** 2
    at = int(np.where((sizes >= least) & (len(values) - sizes >= least), between, 0.0).argmax())
    within = math.sqrt(max(values.var() - between[at], 1e-12))
    if high[at] - low[at] <= DEVIATIONS * within:
        return None
    limit = float(values[at] + values[at + 1]) / 2
    width = (high[at] - low[at]) / 6
    below, between_them, above = (int((np.abs(values - place) < width).sum()) for place in (low[at], limit, high[at]))
    valley = between_them / max(min(below, above), 1)
    return TwoGroups(float(low[at]), float(high[at]), limit, at + 1 > len(values) / 2, valley)
