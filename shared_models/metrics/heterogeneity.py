"""Heterogeneity of a metric between sites: random-effects mean, variance between sites, and prediction interval.

Each site's value is taken as drawn from a distribution over hospitals. Its mean says how the network does at an average
one, its prediction interval where the value of a new one is to be expected.

References:
    Viechtbauer, Bias and efficiency of meta-analytic variance estimators in the random-effects model. Journal of
        Educational and Behavioral Statistics 30 (2005) 261-293: REML.
    Knapp & Hartung, Improved tests for a random effects meta-regression. Statistics in Medicine 22 (2003) 2693-2710.
    Röver, Knapp & Friede, Hartung-Knapp-Sidik-Jonkman approach and its modification for random-effects meta-analysis
        with few studies. BMC Medical Research Methodology 15 (2015) 99: never narrower than sampling allows.
    IntHout, Ioannidis, Rovers & Goeman, Plea for routinely presenting prediction intervals in meta-analysis. BMJ Open 6
        (2016) e010247.
    Snell, Ensor, Debray, Moons & Riley, Meta-analysis of prediction model performance across multiple studies: which
        scale? Statistical Methods in Medical Research 27 (2018) 3505-3522: the logit, for a C-index.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from shared_models.metrics.interval import Interval, normal_quantile

MIN_SITES = 3
"""For a mean."""
MIN_SITES_TO_PREDICT = 5
"""For a prediction interval: its width rests on the variance between sites, which a few do not show."""
_ITERATIONS = 1000
_NEAREST_TO_1 = 0.005
"""A share that a site tells with two decimals is no nearer to 0 or 1."""


@dataclass(frozen=True)
class RandomEffects:
    """Random-effects summary of the sites' values.

    Attributes:
        mean: Over hospitals.
        mean_low: Lower bound of its interval.
        mean_high: Upper bound.
        tau2: Variance between hospitals.
        i2: Share of the variance of the sites' values that is between hospitals.
        prediction_low: Lower bound of the interval of a new hospital's value; nan of fewer than five sites.
        prediction_high: Upper bound.
    """

    mean: float
    mean_low: float
    mean_high: float
    tau2: float
    i2: float
    prediction_low: float
    prediction_high: float


def random_effects(values: npt.ArrayLike, standard_errors: npt.ArrayLike, level: float = 0.95) -> RandomEffects:
    """The summary by restricted maximum likelihood, with Hartung's and Knapp's interval, modified.

    Their variance of the mean is the spread of the sites' values, which is by chance small of a few, and zero of sites
    that agree. It is not taken for less than what the standard errors leave open.

    Args:
        values: (sites,) of three or more sites.
        standard_errors: (sites,) positive.
        level: coverage of both intervals.

    Raises:
        ValueError: for fewer than three sites, or standard errors that are not positive.
    """
    from scipy.stats import t

    y, variance = np.asarray(values, dtype=np.float64), np.asarray(standard_errors, dtype=np.float64) ** 2
    if len(y) < MIN_SITES or not (variance > 0).all():
        message = f"a mean over sites needs {MIN_SITES} or more, with positive standard errors, not {len(y)}"
        raise ValueError(message)
    tau2 = _restricted_likelihood(y, variance)
    weights = 1 / (variance + tau2)
    mean = float(weights @ y / weights.sum())
    of_mean = max(float(weights @ (y - mean) ** 2 / (len(y) - 1)), 1.0) / float(weights.sum())
    half = t.ppf((1 + level) / 2, len(y) - 1) * math.sqrt(of_mean)
    exact = 1 / variance
    typical = (len(y) - 1) * exact.sum() / (exact.sum() ** 2 - (exact**2).sum())
    new = math.nan
    if len(y) >= MIN_SITES_TO_PREDICT:
        new = t.ppf((1 + level) / 2, len(y) - 2) * math.sqrt(tau2 + of_mean)
    return RandomEffects(mean, mean - half, mean + half, tau2, tau2 / (tau2 + typical), mean - new, mean + new)


def random_effects_of_shares(intervals: Sequence[Interval], level: float = 0.95) -> RandomEffects:
    """The summary of AUCs or C-indices with their intervals: on the logit scale, and `tau2` stays on it."""
    bounds = np.array([[one.value, one.low, one.high] for one in intervals])
    value, low, high = np.log((shares := np.clip(bounds, _NEAREST_TO_1, 1 - _NEAREST_TO_1)) / (1 - shares)).T
    errors = np.maximum((high - low) / (2 * normal_quantile(level)), 0.01)
    summary = random_effects(value, errors, level)
    logits = (summary.mean, summary.mean_low, summary.mean_high, summary.prediction_low, summary.prediction_high)
    names = ("mean", "mean_low", "mean_high", "prediction_low", "prediction_high")
    return replace(summary, **{name: 1 / (1 + math.exp(-logit)) for name, logit in zip(names, logits, strict=True)})


def _restricted_likelihood(values: npt.NDArray[np.float64], variance: npt.NDArray[np.float64]) -> float:
    """The variance between sites, by Fisher scoring."""
    tau2 = max(float(values.var(ddof=1) - variance.mean()), 0.0)
    for _ in range(_ITERATIONS):
        weights = 1 / (variance + tau2)
        mean = weights @ values / weights.sum()
        step = (weights**2 @ ((values - mean) ** 2 - variance)) / (weights**2).sum() + 1 / weights.sum()
        before, tau2 = tau2, max(float(step), 0.0)
        if abs(tau2 - before) <= 1e-10 * (1 + tau2):
            break
    return tau2
