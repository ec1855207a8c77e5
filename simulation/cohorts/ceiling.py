"""Bayes-optimal scores of the synthetic breast MRI cohort, from exact posteriors.

Given the receptor configuration, the latents z, the measured size and the proliferation gene are jointly Gaussian.
Whatever a patient shows therefore gives each of the eight configurations an exact posterior, and within it an exact
Gaussian for what stays hidden. Averaging the recurrence risk over both is the Bayes classifier; only its AUC is a
Monte-Carlo mean over patients. MRI counts as showing its latents z exactly, so its ceilings are upper bounds.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from simulation.cohorts import population as who
from simulation.cohorts.population import Array, Population

MODALITIES = ("mri", "clinical", "genomic")

# The Gaussian variables given the configuration: z (6), then the measured size, then proliferation.
_Z, _MEASURED_SIZE, _PROLIFERATION = range(6), 6, 7
_BATCHES = 20


@dataclass(frozen=True)
class Ceiling:
    """A figure that no model betters, and the Monte-Carlo error with which we know it."""

    value: float
    standard_error: float


def bayes_auc(
    prevalence: float = 0.25,
    modalities: Collection[str] = MODALITIES,
    patients: int = 200_000,
    seed: int = 0,
) -> Ceiling:
    """The ceiling for recurrence from `modalities`, a subset of `MODALITIES`."""
    cohort = who.draw(patients, np.random.default_rng(seed))
    return posterior_auc(recurrence_risk(cohort, prevalence, modalities))


def receptor_auc(latents: Sequence[int] = _Z, patients: int = 200_000, seed: int = 0) -> dict[str, Ceiling]:
    """The ceilings for ER, PR and HER2 from the latents with these positions: all six stand for four phases.

    A single phase does not show wash-out (position 1).
    """
    cohort = who.draw(patients, np.random.default_rng(seed))
    posterior = configuration_posterior(_gaussians(cohort)[:, latents], latents)
    return receptor_ceilings(posterior)


def receptor_ceilings(posterior: Array) -> dict[str, Ceiling]:
    """The ceilings for ER, PR and HER2 where each patient's configurations have the `posterior` `(N, 8)`."""
    return {name: posterior_auc(posterior @ who.CONFIGURATIONS[:, i]) for i, name in enumerate(who.RECEPTORS)}


def ki67_error(latents: Sequence[int] = _Z, patients: int = 200_000, seed: int = 0) -> Ceiling:
    """The least mean absolute error of Ki-67, in points of its percentage, from the latents with these positions.

    It is that of the posterior median; without any latents, that of the population's median.
    """
    cohort = who.draw(patients, np.random.default_rng(seed))
    values = _gaussians(cohort)[:, latents]
    mean, covariance = _mixture()
    with_kiz = covariance[latents, _PROLIFERATION]  # proliferation is kiz plus independent noise
    gain = np.linalg.solve(covariance[np.ix_(latents, latents)], with_kiz)
    expected = who.KIZ_MEAN + (values[:, None, :] - mean[:, latents]) @ gain  # (N, 8)
    sd = float(np.sqrt(who.KIZ_SD**2 - gain @ with_kiz))
    median = _mixture_median(configuration_posterior(values, latents), expected, sd)
    errors = np.abs(cohort.ki67_percent - who.ki67_percent(median))
    return Ceiling(float(errors.mean()), float(errors.std(ddof=1) / np.sqrt(patients)))


def _mixture_median(weights: Array, means: Array, sd: float) -> Array:
    """Median `(N,)` of Gaussians with `weights` `(N, K)`, `means` `(N, K)` and one deviation, to 1e-6 by bisection."""
    low, high = means.min(axis=1) - sd, means.max(axis=1) + sd
    for _ in range(24):
        middle = (low + high) / 2
        below = (weights * ndtr((middle[:, None] - means) / sd)).sum(axis=1) < 0.5
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.asarray((low + high) / 2)


def recurrence_risk(cohort: Population, prevalence: float, modalities: Collection[str]) -> Array:
    """P(recurrence | what `modalities` show) `(N,)`, exact up to quadrature."""
    if unknown := set(modalities) - set(MODALITIES):
        message = f"unknown modalities {', '.join(sorted(unknown))}; choose from {', '.join(MODALITIES)}"
        raise ValueError(message)
    mri, clinical, genomic = (name in modalities for name in MODALITIES)
    shown = [
        *(range(6) if mri else ()),
        *((_MEASURED_SIZE,) if clinical else ()),
        *((_PROLIFERATION,) if genomic else ()),
    ]
    values = _gaussians(cohort)[:, shown]
    residual = cohort.expression[:, None, :] - who.GENE_SHIFT  # (N, 8, 4)
    log_evidence = -0.5 * (residual**2).sum(axis=2) if genomic else np.zeros(residual.shape[:2])
    if clinical:
        log_evidence = np.where(cohort.configuration[:, None] == np.arange(8), log_evidence, -np.inf)
    posterior = configuration_posterior(values, shown, log_evidence)

    logit, variance = _latent_part(values, shown)
    logit += who.intercept(prevalence) + who.TRIPLE_NEGATIVE_WEIGHT * (np.arange(8) == who.TRIPLE_NEGATIVE)
    if clinical:
        logit += who.AGE_WEIGHT * cohort.age[:, None]
    if genomic:
        logit += who.GENOMIC_WEIGHT * (residual @ who.GENOMIC_SCORE)
    sd = np.sqrt(variance + (not clinical) * who.AGE_WEIGHT**2 + (not genomic) * who.GENOMIC_WEIGHT**2)
    node = cohort.node[:, None] if clinical else np.full((1, 1), who.NODE_PREVALENCE)
    risk = node * who.expected_risk(logit + who.NODE_WEIGHT, sd) + (1 - node) * who.expected_risk(logit, sd)
    return np.asarray((posterior * risk).sum(axis=1))


def configuration_posterior(
    values: Array, shown: Sequence[int], log_evidence: Array | float = 0.0, noise_variance: float = 0.0
) -> Array:
    """P(configuration | values) `(N, 8)`.

    Args:
        values: `(N, S)` the Gaussian variables at the positions `shown`.
        shown: The S positions.
        log_evidence: `(N, 8)` log-likelihood of each configuration from everything else.
        noise_variance: Of independent noise on each of the values.
    """
    mean, covariance = _mixture()
    difference = values[:, None, :] - mean[:, shown]
    precision = np.linalg.inv(covariance[np.ix_(shown, shown)] + noise_variance * np.eye(len(shown)))
    log_density = -0.5 * np.einsum("nki,ij,nkj->nk", difference, precision, difference, optimize=True)
    log_posterior = np.log(who.configuration_probabilities()) + log_density + log_evidence
    posterior = np.exp(log_posterior - log_posterior.max(axis=1, keepdims=True))
    return np.asarray(posterior / posterior.sum(axis=1, keepdims=True))


def expected_auc(score: Array, probability: Array) -> float:
    """The AUC of `score` `(N,)` where each patient is positive with its `probability` `(N,)`; ties count 1/2.

    It is E[positive i ranks above negative j], without the noise of drawing who is positive.
    """
    _, tied = np.unique(score, return_inverse=True)
    positive, negative = np.bincount(tied, probability), np.bincount(tied, 1 - probability)
    below = np.cumsum(negative) - negative / 2
    return float(positive @ below / (positive.sum() * negative.sum()))


def posterior_auc(probability: Array) -> Ceiling:
    """The AUC of the Bayes classifier, whose score for each patient is its `probability` `(N,)` of being positive."""
    # The AUC of the Bayes score is the score's own property: it is a probability, and calibrated.
    parts = [expected_auc(part, part) for part in np.array_split(probability, _BATCHES)]
    error = np.std(parts, ddof=1) / np.sqrt(_BATCHES)
    return Ceiling(expected_auc(probability, probability), float(error))


def _gaussians(cohort: Population) -> Array:
    return np.column_stack([cohort.z, cohort.measured_size, cohort.proliferation])


def _mixture() -> tuple[Array, Array]:
    """Means `(8, 8)` by configuration and covariance `(8, 8)` of the Gaussian variables.

    Each is a multiple of kiz plus noise; the measured size is the size latent, again with noise.
    """
    latents = who.latent_means()
    mean = np.column_stack([latents, latents[:, who.SIZE], who.KIZ_MEAN])
    on_kiz = np.append(who.LOADINGS[:, 3], [who.LOADINGS[who.SIZE, 3], 1.0])
    noise = np.diag([1.0] * 6 + [1.0 + who.SIZE_ERROR**2, who.PROLIFERATION_ERROR**2])
    noise[_MEASURED_SIZE, who.SIZE] = noise[who.SIZE, _MEASURED_SIZE] = 1.0
    return mean, who.KIZ_SD**2 * np.outer(on_kiz, on_kiz) + noise


def _latent_part(values: Array, shown: Sequence[int]) -> tuple[Array, float]:
    """Mean `(N, 8)` and variance of the latents' part of the logit, given each configuration and what is shown."""
    mean, covariance = _mixture()
    weights = np.append(who.LATENT_WEIGHTS, [0.0, 0.0])
    gain = np.linalg.solve(covariance[np.ix_(shown, shown)], covariance[shown] @ weights)  # (S,)
    expected = (mean[:, :6] - who.LATENT_CENTRE) @ who.LATENT_WEIGHTS + (values[:, None, :] - mean[:, shown]) @ gain
    variance = weights @ covariance @ weights - gain @ covariance[shown] @ weights
    return expected, max(float(variance), 0.0)
