"""Labels with noise: the ceiling is chosen, and exact.

A coin that is shown, and flipped in the label with probability 1 - c, has a best AUC of c: (1 - e)^2 + e (1 - e) with
e = 1 - c. A standard normal number shown with correlation sin(pi (c - 1/2)) to the label's has a best concordance of c
(Kendall's tau of a bivariate normal).
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from simulation.cohorts.ceiling import Ceiling
from simulation.phantoms.waves import Array

_CASES = 200_000


def coin_probability(shown: bool, ceiling: float) -> float:
    """P(label is 1) of a coin that is shown."""
    return ceiling if shown else 1 - ceiling


def noisy_coin(rng: np.random.Generator, shown: bool, ceiling: float) -> int:
    """The label 0 or 1 of a coin that is shown, with a best AUC of `ceiling`."""
    return int(rng.random() < coin_probability(shown, ceiling))


def noisy_number(rng: np.random.Generator, shown: float, ceiling: float) -> float:
    """A standard normal number whose best concordance with the one shown is `ceiling`."""
    correlation = np.sin(np.pi * (ceiling - 0.5))
    return float(correlation * shown + np.sqrt(1 - correlation**2) * rng.normal())


def ki67_percent(number: Array | float) -> Array:
    """Ki-67, in percent, of a standard normal number: a quarter on average, more than a half in one of twelve."""
    return np.asarray(100 * expit(-1.25 + 0.9 * np.asarray(number)))


def ki67_error(ceiling: float, seed: int = 0) -> Ceiling:
    """The least mean absolute error of Ki-67, in points of its percentage: that of the median given what is shown."""
    rng = np.random.default_rng(seed)
    correlation = np.sin(np.pi * (ceiling - 0.5))
    shown = rng.normal(size=_CASES)
    label = correlation * shown + np.sqrt(1 - correlation**2) * rng.normal(size=_CASES)
    errors = np.abs(ki67_percent(label) - ki67_percent(correlation * shown))  # a rising map keeps the median
    return Ceiling(float(errors.mean()), float(errors.std(ddof=1) / np.sqrt(_CASES)))
