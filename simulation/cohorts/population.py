"""Synthetic patients: receptors, Ki-67, latents of the tumour, genes, and the risk of recurrence.

Everything is Gaussian given the receptors, so that `ceiling` can compute exact posteriors. Eight (ER, PR, HER2)
configurations have their probabilities and each its Gaussian logit(Ki67); six latents are z = A labels + N(0, I).
Recurrence within five years is Bernoulli with

    logit = intercept + .50 size + .40 heterogeneity + .30 wash-in                  (centred latents)
                      + .45 triple-negative + .55 node-positive                     (0 or 1)
                      + .55 genomic - .15 age                                       (standard normal)

The genomic score is the unit-norm combination (HER2 - BRCA1 - ESR1 - PGR) / 2 of what each gene's expression has
beyond its receptor's level, so that no single gene shows it. Node-positive are 44 %: there both published
intercepts, -3.119 and -1.713, give their prevalences, 9.5 % and 25 %. The clinical size is measured with an
error (.7 of a latent's unit, 24 % in mm): a radiologist's calliper knows less than the volume does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit

Array = NDArray[np.float64]

LATENTS = ("wash_in", "wash_out", "rim", "heterogeneity", "size", "spiculation")
SIZE = LATENTS.index("size")
RECEPTORS = ("er", "pr", "her2")
GENES = ("HER2", "BRCA1", "ESR1", "PGR", "PROLIFERATION")

CONFIGURATIONS = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 0, 1], [0, 0, 1], [0, 1, 1], [0, 0, 0], [0, 1, 0]])
TRIPLE_NEGATIVE = 6
_WEIGHTS = np.array([0.52, 0.11, 0.075, 0.04, 0.065, 0.01, 0.165, 0.015])

# logit(Ki67) by configuration, and the scale on which it enters the latents: kiz = (logit(Ki67) + 1.2) / .9.
_KI67_LOGIT = np.array([-1.9, -1.3, -1.1, -0.9, -0.7, -0.7, -0.1, -0.3])
KIZ_MEAN = (_KI67_LOGIT + 1.2) / 0.9
KIZ_SD = 0.7 / 0.9

LOADINGS = np.array(  # A (6, 4): latents by ER, PR, HER2, kiz
    [
        [-0.55, -0.25, 0.45, 0.25],
        [-0.75, -0.45, 0.35, 0.20],
        [-0.80, -0.30, -0.35, 0.15],
        [-0.30, -0.15, 0.55, 0.30],
        [-0.35, -0.10, 0.35, 0.30],
        [0.45, 0.15, -0.25, -0.10],
    ]
)

LATENT_WEIGHTS = np.array([0.30, 0.0, 0.0, 0.40, 0.50, 0.0])
TRIPLE_NEGATIVE_WEIGHT = 0.45
NODE_WEIGHT = 0.55
GENOMIC_WEIGHT = 0.55
AGE_WEIGHT = -0.15
NODE_PREVALENCE = 0.44

SIZE_ERROR = 0.7
PROLIFERATION_ERROR = 1.5
GENOMIC_SCORE = np.array([0.5, -0.5, -0.5, -0.5])  # of HER2, BRCA1, ESR1, PGR
# By how many standard deviations a positive receptor raises the four genes: rows ER, PR, HER2.
_RECEPTOR_ON_GENES = np.array([[0.0, 0.0, 2.5, 0.0], [0.0, 0.0, 0.0, 2.0], [2.5, 0.0, 0.0, 0.0]])
GENE_SHIFT: Array = CONFIGURATIONS @ _RECEPTOR_ON_GENES

AGE_MEAN, AGE_SD = 56.0, 11.0
DIAMETER_MM, SIZE_ON_LOG_DIAMETER = 18.0, 0.35


def configuration_probabilities(her2_factor: float = 1.0) -> Array:
    """Probabilities `(8,)` of the configurations; `her2_factor` multiplies the HER2-positive share."""
    weights = _WEIGHTS / _WEIGHTS.sum()
    positive = CONFIGURATIONS[:, 2] == 1
    share = weights[positive].sum()
    factor = np.where(positive, her2_factor, (1 - her2_factor * share) / (1 - share))
    return np.asarray(weights * factor)


def latent_means() -> Array:
    """Mean latents `(8, 6)` of each configuration."""
    return np.asarray(np.column_stack([CONFIGURATIONS, KIZ_MEAN]) @ LOADINGS.T)


def ki67_percent(kiz: Array) -> Array:
    """Ki-67 as a percentage of nuclei, from its value on the latents' scale."""
    return np.asarray(100 * expit(0.9 * kiz - 1.2))


LATENT_CENTRE: Array = configuration_probabilities() @ latent_means()


@dataclass(frozen=True)
class Population:
    """N patients.

    Attributes:
        configuration: `(N,)` row of `CONFIGURATIONS`.
        kiz: `(N,)` Ki-67 on the latents' scale.
        z: `(N, 6)` the tumour's latents.
        measured_size: `(N,)` the size latent as the clinic measures it.
        node: `(N,)` 1 for positive lymph nodes.
        age: `(N,)` standardised.
        expression: `(N, 4)` HER2, BRCA1, ESR1, PGR in standard deviations about the receptor-negative mean.
        proliferation: `(N,)` Ki-67 as expression shows it.
    """

    configuration: NDArray[np.int64]
    kiz: Array
    z: Array
    measured_size: Array
    node: Array
    age: Array
    expression: Array
    proliferation: Array

    @property
    def receptors(self) -> NDArray[np.int64]:
        """`(N, 3)` ER, PR, HER2."""
        return np.asarray(CONFIGURATIONS[self.configuration])

    @property
    def ki67_percent(self) -> Array:
        """`(N,)` share of Ki-67 positive nuclei."""
        return ki67_percent(self.kiz)

    @property
    def genomic_score(self) -> Array:
        """`(N,)` standard normal."""
        return np.asarray((self.expression - GENE_SHIFT[self.configuration]) @ GENOMIC_SCORE)

    @property
    def risk(self) -> Array:
        """`(N,)` the logit of recurrence without its intercept."""
        tables = NODE_WEIGHT * self.node + GENOMIC_WEIGHT * self.genomic_score + AGE_WEIGHT * self.age
        negative = TRIPLE_NEGATIVE_WEIGHT * (self.configuration == TRIPLE_NEGATIVE)
        return np.asarray((self.z - LATENT_CENTRE) @ LATENT_WEIGHTS + negative + tables)


def draw(patients: int, rng: np.random.Generator, her2_factor: float = 1.0) -> Population:
    """Draws patients; `her2_factor` multiplies the share of HER2-positive ones."""
    configuration = rng.choice(len(CONFIGURATIONS), patients, p=configuration_probabilities(her2_factor))
    kiz = KIZ_MEAN[configuration] + KIZ_SD * rng.standard_normal(patients)
    z = np.column_stack([CONFIGURATIONS[configuration], kiz]) @ LOADINGS.T + rng.standard_normal((patients, 6))
    return Population(
        configuration,
        kiz,
        z,
        measured_size=z[:, SIZE] + SIZE_ERROR * rng.standard_normal(patients),
        node=(rng.random(patients) < NODE_PREVALENCE).astype(np.float64),
        age=rng.standard_normal(patients),
        expression=GENE_SHIFT[configuration] + rng.standard_normal((patients, 4)),
        proliferation=kiz + PROLIFERATION_ERROR * rng.standard_normal(patients),
    )


def expected_risk(logit: Array, sd: Array | float) -> Array:
    """E expit(logit + sd N(0, 1)) by Gauss-Hermite quadrature, exact to 1e-6 for sd below 2."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(16)
    spread = np.asarray(sd)[..., None] * nodes
    return np.asarray(expit(logit[..., None] + spread) @ (weights / weights.sum()))


@cache
def intercept(prevalence: float) -> float:
    """The intercept at which a share `prevalence` of the reference population recurs: -1.719 for .25."""
    probabilities = configuration_probabilities()
    covariance = np.eye(6) + KIZ_SD**2 * np.outer(LOADINGS[:, 3], LOADINGS[:, 3])
    sd = np.sqrt(LATENT_WEIGHTS @ covariance @ LATENT_WEIGHTS + GENOMIC_WEIGHT**2 + AGE_WEIGHT**2)
    logit = (latent_means() - LATENT_CENTRE) @ LATENT_WEIGHTS
    logit[TRIPLE_NEGATIVE] += TRIPLE_NEGATIVE_WEIGHT

    def excess(constant: float) -> float:
        negative, positive = (expected_risk(constant + logit + node * NODE_WEIGHT, sd) for node in (0, 1))
        return float(probabilities @ ((1 - NODE_PREVALENCE) * negative + NODE_PREVALENCE * positive)) - prevalence

    return float(brentq(excess, -30.0, 30.0))
