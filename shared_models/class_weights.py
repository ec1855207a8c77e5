"""Class weights of a target's loss, from the training patients of all sites."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shared_models.targets import Binary, Categorical, Target


def balanced_weights(target: Target, counts: NDArray[np.float64]) -> NDArray[np.float32] | None:
    """Weights `(classes,)` by which all classes weigh the same and the mean over patients stays 1.

    None for targets without classes. A class without patients weighs nothing.

    Args:
        target: The target.
        counts: Training patients of each class at all sites, from `target.counts`.
    """
    if not isinstance(target, Binary | Categorical):
        return None
    there = counts > 0
    weights = np.where(there, counts.sum() / np.maximum(counts, 1.0) / max(there.sum(), 1), 0.0)
    return weights.astype(np.float32)
