"""Distributions of the synthetic mammography cohort, and its Bayes-optimal AUC of relapse.

Relapse is Bernoulli with a risk that size, shape, margin and subtype fix, so the true risk is the Bayes classifier.
A hospital's two views show these nearly, so the ceiling is an upper bound. Kendall's taus (tau-b, 10.2307/2332226)
are those of the whole population: the normals behind it are summed over, not drawn.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit
from scipy.stats import multivariate_normal, norm

from simulation.cohorts.ceiling import Ceiling, posterior_auc
from simulation.cohorts.mammography import cohort as who
from simulation.cohorts.mammography.cohort import Array

# The size latent as a grid: midpoints of equally probable intervals.
_SIZES: Array = norm.ppf((np.arange(2000) + 0.5) / 2000)


def relapse_auc(patients: int = 500_000, seed: int = 0) -> Ceiling:
    """The ceiling for relapse."""
    return posterior_auc(who.draw(patients, np.random.default_rng(seed)).risk)


def shape_and_margin() -> Array:
    """P(shape, margin) `(4, 4)`: rectangles of a bivariate normal."""
    normal = multivariate_normal([0, 0], [[1, who.CORRELATION], [who.CORRELATION, 1]])
    edges = [np.clip(np.concatenate([[-9], who.cut_points(name), [9]]), -9, 9) for name in ("shape", "margin")]
    below = np.array([[normal.cdf([a, b]) for b in edges[1]] for a in edges[0]])
    return np.diff(np.diff(below, axis=0), axis=1)


def prevalence() -> float:
    """The share of patients that relapse."""
    return float(_relapse_by("subtype")[:, 1].sum())


def kendall_taus() -> dict[str, float]:
    """The three correlations by which the paper describes its cohort."""
    return {
        "size and relapse": kendall_tau(_relapse_by("size")),
        "subtype and relapse": kendall_tau(_relapse_by("subtype")),
        "shape and margin": kendall_tau(shape_and_margin()),
    }


def kendall_tau(joint: Array) -> float:
    """Kendall's tau-b of two ordered variables with the joint probabilities `(I, J)`."""
    rows, columns = (np.sign(np.subtract.outer(range(size), range(size))) for size in joint.shape)
    untied = [1 - (joint.sum(axis=axis) ** 2).sum() for axis in (0, 1)]
    return float((joint * (rows @ joint @ columns.T)).sum() / np.sqrt(untied[0] * untied[1]))


def _relapse_by(name: str) -> Array:
    """P(value, relapse) `(I, 2)` for the size latent's intervals or the four subtypes."""
    described = who.SHAPE_WEIGHT * (np.arange(4) >= 1)[:, None] + who.MARGIN_WEIGHT * (np.arange(4) >= 2)
    subtypes = np.array(who.SHARES["subtype"])
    logit = who.INTERCEPT + np.add.outer(who.SIZE_WEIGHT * _SIZES, who.SUBTYPE_WEIGHTS)
    risk = np.einsum("zsab,ab->zs", expit(logit[..., None, None] + described), shape_and_margin())
    joint = np.stack([1 - risk, risk], axis=2) * subtypes[:, None] / len(_SIZES)  # (sizes, 4, 2)
    return np.asarray(joint.sum(axis=1 if name == "size" else 0))
