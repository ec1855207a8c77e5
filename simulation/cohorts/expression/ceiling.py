"""Bayes-optimal AUC of Basal or Her2 against Luminal in the synthetic expression cohort.

The 50 genes say of the four factors what their weighted least-squares estimate says: it is Gaussian about the factors
with covariance (kappa^2 L'L)^-1, L being the loadings. Given the subtype that estimate is Gaussian, and so are the
tissue's latents, independently: the subtype's posterior is exact. Tiles count as showing the tissue's latents exactly,
so the ceilings with histology are upper bounds.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from simulation.cohorts.ceiling import Ceiling, posterior_auc
from simulation.cohorts.expression import cohort as who
from simulation.cohorts.expression.cohort import Array, Population
from simulation.cohorts.expression.dialects import SUBTYPES

MODALITIES = ("expression", "histology")
POSITIVE = tuple(SUBTYPES.index(name) for name in ("Her2", "Basal"))


def subtype_auc(
    modalities: Collection[str] = MODALITIES, kappa: float = who.KAPPA, patients: int = 200_000, seed: int = 0
) -> Ceiling:
    """The ceiling for Basal or Her2 from `modalities`, a subset of `MODALITIES`."""
    cohort = who.draw(patients, np.random.default_rng(seed), kappa=kappa)
    return posterior_auc(subtype_posterior(cohort, modalities, kappa)[:, POSITIVE].sum(axis=1))


def subtype_posterior(cohort: Population, modalities: Collection[str], kappa: float = who.KAPPA) -> Array:
    """P(subtype | what `modalities` show) `(N, 4)`."""
    log = np.tile(np.log(who.subtype_shares()), (len(cohort.subtype), 1))
    if "expression" in modalities and kappa > 0:
        precision = kappa**2 * who.LOADINGS.T @ who.LOADINGS
        estimate = kappa * cohort.genes @ who.LOADINGS @ np.linalg.inv(precision)
        log += _log_density(estimate, who.FACTOR_MEANS, np.eye(len(precision)) + np.linalg.inv(precision))
    if "histology" in modalities:
        log += _log_density(cohort.tissue, who.TISSUE_MEANS, np.eye(2))
    posterior = np.exp(log - log.max(axis=1, keepdims=True))
    return np.asarray(posterior / posterior.sum(axis=1, keepdims=True))


def _log_density(values: Array, means: Array, covariance: Array) -> Array:
    """The logarithm `(N, K)`, but for a constant, of Gaussian densities with `means` `(K, D)` at `values` `(N, D)`."""
    difference = values[:, None, :] - means
    return np.asarray(-0.5 * np.einsum("nki,ij,nkj->nk", difference, np.linalg.inv(covariance), difference))
