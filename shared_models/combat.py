"""Federated ComBat: location and scale batch effects estimated from sums, and removed.

ComBat (Johnson 2007, 10.1093/biostatistics/kxj037; for images Fortin 2018, 10.1016/j.neuroimage.2017.11.024) takes a
value at site i as `mean + deviation * (gamma_i + sqrt(delta_i) * noise)`. Gamma and delta of each column are drawn
towards what the site's other columns say, the more so the fewer patients it has (empirical Bayes, parametric priors).
All of it follows from the number, sum and sum of squares of each column (Chen 2022, 10.1016/j.neuroimage.2021.118822),
which every training site sends before round 1; nothing more leaves a site.

There are no covariates, so what makes one site's patients differ from another's goes with the scanner's effect: a
site of larger tumours loses that they are larger. Where rows are lesions or views, each counts as one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared_models.features import FeatureStatistics, FloatArray
from shared_models.metrics.arrays import total
from shared_models.study_settings import StudySettings

Vector = NDArray[np.float64]

# Real radiomics of ten patients and more take up to ten steps, of two patients 84; a bound holds whatever arrives.
MAX_STEPS = 1_000
PRECISION = 1e-12


@dataclass(frozen=True, eq=False)
class Reference:
    """What every site's columns are adjusted to; frozen from round 1 on.

    Attributes:
        mean: `(C,)` mean over all sites' training rows.
        variance: `(C,)` variance within sites; 0 for a column that is left as it is: one of 0 and 1 only, as those of
            categories are, or one that never varies within a site.
    """

    mean: Vector
    variance: Vector


@dataclass(frozen=True, eq=False)
class Adjustment:
    """What takes a site's effect from its columns: `factor * value + offset`, both `(C,)`."""

    factor: Vector
    offset: Vector

    def columns(self, values: FloatArray) -> Vector:
        """Values `(N, C)` without the effect."""
        return self.factor * np.asarray(values, dtype=np.float64) + self.offset

    def statistics(self, of: FeatureStatistics) -> FeatureStatistics:
        """What `FeatureStatistics.of` would find in the adjusted rows, from what it found in the rows themselves."""
        squares = self.factor**2 * of.squares + 2 * self.factor * self.offset * of.total + self.offset**2 * of.known
        return FeatureStatistics(of.patients, of.known, self.factor * of.total + self.offset * of.known, squares)


def references(sites: Sequence[Mapping[str, FeatureStatistics]], config: StudySettings) -> dict[str, Reference]:
    """The reference of each table that the study harmonises, from its training sites' sums by table."""
    return {name: reference([site[name] for site in sites]) for name in config.harmonised_tables}


def reference(sites: Sequence[FeatureStatistics]) -> Reference:
    """Mean over all sites, and variance within them (Johnson 2007, equation 2, without covariates)."""
    pooled = total(sites)
    within = np.sum([site.known * site.variance for site in sites], axis=0) / np.maximum(pooled.known, 1.0)
    yes_no = pooled.total == pooled.squares  # x = x² for 0 and 1 alone, and whole numbers add up exactly
    return Reference(pooled.mean, np.where(yes_no, 0.0, within))


def adjustment(own: FeatureStatistics, reference: Reference) -> Adjustment:
    """A site's own, from the sums over its training rows alone.

    A column that the site does not know keeps its values; one that does not vary there keeps its spread.
    """
    factor, offset = np.ones_like(reference.mean), np.zeros_like(reference.mean)
    to_adjust = (reference.variance > 0) & (own.known > 0)
    mean, deviation = reference.mean[to_adjust], np.sqrt(reference.variance[to_adjust])
    gamma, delta = _shrunk(
        own.known[to_adjust], (own.mean[to_adjust] - mean) / deviation, own.variance[to_adjust] / deviation**2
    )
    factor[to_adjust] = 1 / np.sqrt(delta)
    offset[to_adjust] = mean - factor[to_adjust] * (mean + deviation * gamma)
    return Adjustment(factor, offset)


def _shrunk(known: Vector, means: Vector, variances: Vector) -> tuple[Vector, Vector]:
    """Gamma and delta `(C,)` of a site's z-scores, with normal and inverse gamma priors over its columns.

    Johnson 2007, equations 3.1: each is the other's conditional posterior mean, iterated until both converge. With
    one column there is no prior, and none of delta where fewer than two columns vary.

    Args:
        known: `(C,)` rows.
        means: `(C,)` of the z-scores.
        variances: `(C,)` of the z-scores, divided by `known`.
    """
    varies = variances > 0  # of one patient, none does
    delta_hat = np.where(varies, variances * known / np.maximum(known - 1, 1), 1.0)
    gamma, delta = means, delta_hat
    if len(means) < 2:
        return gamma, delta
    centre, width = means.mean(), means.var(ddof=1)
    level, spread = (delta_hat[varies].mean(), delta_hat[varies].var(ddof=1)) if varies.sum() > 1 else (1.0, np.inf)
    for _ in range(MAX_STEPS):
        before = gamma, delta
        gamma = (known * width * means + delta * centre) / (known * width + delta)
        if np.isfinite(spread):
            squares = known * (variances + (means - gamma) ** 2)
            # the inverse gamma's `a = 2 + level²/spread` and `b = level + level³/spread`, multiplied by `spread`
            posterior = spread * (squares / 2 + level) + level**3
            delta = np.where(varies, posterior / (spread * (known / 2 + 1) + level**2), 1.0)
        if np.allclose((gamma, delta), before, rtol=PRECISION, atol=PRECISION):
            break
    return gamma, delta
