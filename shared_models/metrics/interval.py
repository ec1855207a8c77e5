"""An estimate with its confidence interval."""

import math
from dataclasses import dataclass
from statistics import NormalDist


@dataclass(frozen=True)
class Interval:
    """An estimate and the bounds of its confidence interval; nan where the data do not determine them.

    Example:
        >>> str(Interval(0.8411, 0.7902, 0.8814))
        '0.84 (0.79-0.88)'
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "n/a"
        if math.isnan(self.low) or math.isnan(self.high):
            return f"{self.value:.2f} (n/a)"
        return f"{self.value:.2f} ({self.low:.2f}-{self.high:.2f})"

    def widened(self, by: float) -> "Interval":
        """The interval of a share, with ``by`` added to both sides inside [0, 1]: adds a certificate to it."""
        return Interval(self.value, max(self.low - by, 0.0), min(self.high + by, 1.0))


def normal_quantile(level: float) -> float:
    """The z with which value +- z standard errors covers ``level``: 1.96 for 0.95.

    Raises:
        ValueError: if ``level`` is not strictly between 0 and 1.
    """
    if not 0 < level < 1:
        message = f"the level of an interval lies between 0 and 1, not {level}"
        raise ValueError(message)
    return NormalDist().inv_cdf(0.5 + level / 2)


def logit_interval(value: float, variance: float, pairs: float, level: float) -> Interval:
    """Interval of an AUC or a C-index on the logit scale, which keeps it inside [0, 1] and covers better than Wald's.

    The delta method divides the standard error by value (1 - value), as in Pepe, The Statistical Evaluation of Medical
    Tests (2003), section 5.2. Where the estimated variance vanishes, that is under perfect separation or when all
    scores are equal, it says nothing: `exact_interval` answers instead, so that the interval never has zero width.

    Args:
        value: estimate in [0, 1].
        variance: estimated variance of ``value``.
        pairs: number of independent pairs in the data, for the fallback.
        level: coverage.
    """
    z = normal_quantile(level)
    if math.isnan(value) or math.isnan(variance):
        return Interval(value, math.nan, math.nan)
    spread = value * (1 - value)
    if spread < 1e-12 or variance < 1e-12 * spread:
        return exact_interval(value, pairs, level)
    centre, half = math.log(value / (1 - value)), z * math.sqrt(variance) / spread
    return Interval(value, _expit(centre - half), _expit(centre + half))


def log_interval(value: float, variance: float, level: float = 0.95) -> Interval:
    """Interval of a positive number on the log scale; nan where the variance is.

    Args:
        value: estimate.
        variance: of its logarithm.
        level: coverage.
    """
    if not (value > 0 and variance >= 0):
        return Interval(value, math.nan, math.nan)
    factor = math.exp(normal_quantile(level) * math.sqrt(variance))
    return Interval(value, value / factor, value * factor)


def exact_interval(value: float, pairs: float, level: float) -> Interval:
    """Clopper-Pearson interval of a share seen over ``pairs`` independent pairs (Biometrika 26, 1934).

    Perfect separation of m positives from n negatives implies that each of k = min(m, n) disjoint pairs is concordant.
    Those are independent, each concordant with probability AUC, so that P(perfect) <= AUC^k whatever the distributions:
    the lower bound (alpha/2)^(1/k) is exact, if cautious.

    Args:
        value: share in [0, 1].
        pairs: positive; need not be whole.
        level: coverage.
    """
    from scipy.special import betaincinv

    tail = (1 - level) / 2
    concordant = min(max(value, 0.0), 1.0) * pairs
    discordant = pairs - concordant
    low = 0.0 if concordant <= 0 else float(betaincinv(concordant, discordant + 1, tail))
    high = 1.0 if discordant <= 0 else float(betaincinv(concordant + 1, discordant, 1 - tail))
    return Interval(value, low, high)


def _expit(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0
