"""Scores in [0, 1], their labels, and the bins of their additive histograms.

The bins are the same at every site and uniform on the logit scale. A recurrence that befalls one patient in twenty gets
predictions that lie near 0.05, all in a handful of bins uniform in [0, 1]; on the logit scale they spread. The inner
edges run from sigmoid(-8) = 0.00034 to sigmoid(8) = 0.99966, and one open bin lies beyond each end.

A network may give all its patients scores between 0.50 and 0.51, where three such bins would hold them. So a study
finds on validation patients where its scores lie (`range_of`), and from then on half of the bins divide that range
evenly, wherever it is; the other half is for scores beyond it, as those of another hospital may be.

Edges are rounded to float32. The exponential differs by a last bit between processors, and rounding hides that; and a
float32 score compares the same with an edge whether or not the edge has passed through float32 on its way.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from shared_models.metrics.arrays import Array

LOGIT_LIMIT = 8.0
"""The inner edges run from sigmoid(-LOGIT_LIMIT) to sigmoid(LOGIT_LIMIT)."""
RANGE_LIMIT = 14.0
"""No range leads beyond: float32 hardly tells scores apart there."""
NARROWEST = 1e-3
"""Width of the narrowest range on the logit scale, whose bins float32 still tells apart."""
OUTSIDE = 0.01
"""Share of the scores on either side that `range_of` does not count."""
ScoreRange = tuple[float, float]
"""Where the scores of a target lie, on the logit scale."""


@lru_cache
def left_edges(bins: int, score_range: ScoreRange | None = None) -> Array:
    """The left edge of each bin, (bins,), read-only: 0, then ``bins - 1`` edges.

    These are uniform on the logit scale; where a range is known half of them are, and the others divide it evenly. With
    a multiple of four bins 0.5 is an edge either way.

    Args:
        bins: how many, the same at every site.
        score_range: where most scores lie, on the logit scale, if that is known.

    Raises:
        ValueError: below 4 bins.
    """
    if bins < 4:
        message = f"scores need at least 4 bins, not {bins}"
        raise ValueError(message)
    logits = np.linspace(-LOGIT_LIMIT, LOGIT_LIMIT, bins - 1)
    if score_range:
        wide = np.linspace(-LOGIT_LIMIT, LOGIT_LIMIT, bins // 2 - 1)
        logits = np.sort(np.concatenate([wide, np.linspace(*score_range, bins - bins // 2)]))
    edges = np.concatenate([[0.0], 1 / (1 + np.exp(-logits))]).astype(np.float32).astype(np.float64)
    edges.setflags(write=False)
    return edges


def bin_of(scores: Array, bins: int, score_range: ScoreRange | None = None) -> npt.NDArray[np.intp]:
    """The bin of each score, same shape: the last whose left edge is not above the score."""
    return np.searchsorted(left_edges(bins, score_range), scores, side="right") - 1


def bin_logits(bins: int, score_range: ScoreRange | None = None) -> Array:
    """The middle of each bin on the logit scale, (bins,); of the two open ones their edge."""
    inner = np.log((edges := left_edges(bins, score_range)[1:]) / (1 - edges))
    return np.concatenate([inner[:1], (inner[:-1] + inner[1:]) / 2, inner[-1:]])


def range_of(counts: Array, score_range: ScoreRange | None = None) -> ScoreRange | None:
    """Where scores lie, from how many are in each bin: all but 1 % on either side, and a quarter of that width beyond.

    Args:
        counts: (bins,) of patients.
        score_range: what the bins were made of.

    Returns:
        On the logit scale; the range as it was where there are no patients.

    Example:
        >>> low, high = range_of(np.bincount(bin_of(np.array([0.50, 0.505, 0.51]), 1024), minlength=1024))
        >>> round(low, 2), round(high, 2)
        (-0.01, 0.06)
    """
    if not counts.sum() > 0:
        return score_range
    inner = np.log((edges := left_edges(len(counts), score_range)[1:]) / (1 - edges))
    ends = np.concatenate([inner[:1] - 1, inner, inner[-1:] + 1])
    share = np.cumsum(counts) / counts.sum()
    first, last = np.searchsorted(share, (OUTSIDE, 1 - OUTSIDE))
    low, high = float(ends[first]), float(ends[last + 1])
    reach = max((high - low) / 4, NARROWEST / 2)
    return max(min(low - reach, RANGE_LIMIT - NARROWEST), -RANGE_LIMIT), min(
        max(high + reach, NARROWEST - RANGE_LIMIT), RANGE_LIMIT
    )


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
