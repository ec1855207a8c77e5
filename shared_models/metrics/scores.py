"""Scores in [0, 1], their labels, and the bins of their additive histograms.

The bins are the same at every site and uniform on the logit scale. A recurrence that befalls one patient in twenty gets
predictions that lie near 0.05, all in a handful of bins uniform in [0, 1]; on the logit scale they spread. The inner
edges run from sigmoid(-8) = 0.00034 to sigmoid(8) = 0.99966, and one open bin lies beyond each end.

Edges are rounded to float32. The exponential differs by a last bit between processors, and rounding hides that; and a
float32 score compares the same with an edge whether or not the edge has passed through float32 on its way.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from shared_models.metrics.arrays import Array

LOGIT_LIMIT = 8.0
"""The inner edges run from sigmoid(-LOGIT_LIMIT) to sigmoid(LOGIT_LIMIT)."""


@lru_cache
def left_edges(bins: int) -> Array:
    """The left edge of each bin, (bins,), read-only: 0, then ``bins - 1`` edges uniform on the logit scale.

    With an even number of bins 0.5 is an edge.

    Raises:
        ValueError: below 4 bins.
    """
    if bins < 4:
        message = f"scores need at least 4 bins, not {bins}"
        raise ValueError(message)
    inner = 1 / (1 + np.exp(-np.linspace(-LOGIT_LIMIT, LOGIT_LIMIT, bins - 1)))
    edges = np.concatenate([[0.0], inner]).astype(np.float32).astype(np.float64)
    edges.setflags(write=False)
    return edges


def bin_of(scores: Array, bins: int) -> npt.NDArray[np.intp]:
    """The bin of each score, same shape: the last whose left edge is not above the score."""
    return np.searchsorted(left_edges(bins), scores, side="right") - 1


def finite(values: npt.ArrayLike, name: str) -> Array:
    """``values`` as one float64 axis, (N,).

    Raises:
        ValueError: naming ``name``, if they have not one axis or are not all finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        message = f"{name} must have one axis, not shape {array.shape}"
        raise ValueError(message)
    if not np.isfinite(array).all():
        message = f"{name} holds {np.count_nonzero(~np.isfinite(array))} of {array.size} values that are not finite"
        raise ValueError(message)
    return array


def probabilities(values: npt.ArrayLike, name: str) -> Array:
    """``values`` as one float64 axis, (N,).

    Raises:
        ValueError: if one lies outside [0, 1] or is not finite.
    """
    array = finite(values, name)
    if array.size and (array.min() < 0 or array.max() > 1):
        message = f"{name} must lie in [0, 1], not in [{array.min():g}, {array.max():g}]"
        raise ValueError(message)
    return array


def labelled(scores: Array, labels: npt.ArrayLike) -> tuple[Array, npt.NDArray[np.bool_]]:
    """The patients whose label is known.

    Args:
        scores: (N,).
        labels: (N,) of 0, 1, or nan for unknown.

    Returns:
        Their scores, (M,), and whether they are positive, (M,).

    Raises:
        ValueError: for any other label, or if the lengths differ.
    """
    truth = np.asarray(labels, dtype=np.float64)
    if truth.shape != scores.shape:
        message = f"there are labels of shape {truth.shape} for scores of shape {scores.shape}"
        raise ValueError(message)
    known = ~np.isnan(truth)
    if not np.isin(truth[known], (0.0, 1.0)).all():
        message = "labels must be 0, 1, or nan for unknown"
        raise ValueError(message)
    return scores[known], truth[known] == 1
