"""Conformal prediction: sets of outcomes, and intervals, that miss the right one at a rate chosen beforehand.

A new patient is compared with calibration patients of one place whose outcomes are known and on whom the network was
not trained. If the new patient is exchangeable with them, an outcome's p-value is at most alpha with probability at
most alpha where it is the right one. P-values are of each class by itself (Mondrian), so that the guarantee holds for
the rare class too. Calibration patients have weights, by which those who are followed stand for those who were lost;
the guarantee is then asymptotic.

References:
    Vovk, Gammerman & Shafer, Algorithmic Learning in a Random World. Springer (2005), 10.1007/b106715.
    Lei, G'Sell, Rinaldo, Tibshirani & Wasserman, Distribution-free predictive inference for regression. Journal of the
        American Statistical Association 113 (2018) 1094-1111, 10.1080/01621459.2017.1307116.
    Candès, Lei & Ren, Conformalized survival analysis. Journal of the Royal Statistical Society B 85 (2023) 24-45,
        10.1093/jrsssb/qkac004.
"""

import math

import numpy as np

from shared_models.metrics.arrays import Array


def p_values(strange: Array, calibration: Array, weights: Array) -> Array:
    """P-values of M patients for one class, (M,).

    Args:
        strange: (M,) how badly each fits the class: one less the probability of it.
        calibration: (N,) the same of the calibration patients of that class.
        weights: (N,) of these; the new patient weighs as much as the heaviest of them.

    Example:
        >>> p_values(np.array([0.1, 0.9]), np.array([0.2, 0.3, 0.4]), np.ones(3)).tolist()
        [1.0, 0.25]
    """
    order = np.argsort(calibration)
    at_least = np.concatenate([np.cumsum(weights[order][::-1])[::-1], [0.0]])
    own = weights.max(initial=1.0)
    heavier = at_least[np.searchsorted(calibration[order], strange, side="left")]
    return np.asarray((heavier + own) / (weights.sum() + own))


def half_width(residuals: Array, coverage: float) -> float:
    """Half of the interval about a predicted number; infinite where there are too few calibration patients.

    Args:
        residuals: (N,) absolute errors of the calibration patients.
        coverage: Share of new patients whose number lies within.
    """
    rank = math.ceil((len(residuals) + 1) * coverage - 1e-9)
    return float(np.sort(residuals)[rank - 1]) if rank <= len(residuals) else math.inf
