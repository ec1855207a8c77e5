"""Calibration in the large, slope and intercept, from counts of scores in bins.

A logistic regression of the outcome on the logit of the score: its slope is 1 and its intercept 0 where probabilities
are right; a slope below 1 says that they are too extreme. A score counts as the middle of its bin on the logit scale,
so that the counts of all sites are all it needs.

References:
    Cox, Two further applications of a model for binary regression. Biometrika 45 (1958) 562-565.
    Van Calster, McLernon, van Smeden, Wynants & Steyerberg, Calibration: the Achilles heel of predictive analytics. BMC
        Medicine 17 (2019) 230.
"""

import math
from collections.abc import Mapping
from typing import Final

import numpy as np

from shared_models.metrics.arrays import Array
from shared_models.metrics.interval import Interval, normal_quantile
from shared_models.metrics.rates import LEVEL, bounds
from shared_models.metrics.scores import ScoreRange, bin_logits

METRICS: Final[Mapping[str, str]] = bounds(
    {
        "calibration_in_the_large": "what to add to the logit of each probability for as many outcomes as there are",
        "calibration_slope": "slope of a logistic regression of the outcome on the logit; below 1: too extreme",
        "calibration_intercept": "its intercept",
    },
    dict.fromkeys(("calibration_in_the_large", "calibration_slope", "calibration_intercept"), "Wald, sandwich"),
)
_ITERATIONS = 50
_MAX_STEP = 5.0


def recalibration(
    positives: Array,
    negatives: Array,
    squares: tuple[Array, Array] | None = None,
    score_range: ScoreRange | None = None,
) -> dict[str, float]:
    """The three numbers with their bounds, by name; nan without both classes.

    The slope is nan too where one threshold parts the classes.

    Args:
        positives: (bins,) counts or weights of those with the outcome.
        negatives: (bins,) of those without.
        squares: sums of the squared weights of both; the counts themselves if left out.
        score_range: what the bins were made of.
    """
    if not (positives.sum() > 0 and negatives.sum() > 0):
        return dict.fromkeys(METRICS, math.nan)
    logit, squares = bin_logits(len(positives), score_range), squares or (positives, negatives)
    ones = np.ones((len(logit), 1))
    (large,) = _logistic(ones, positives, negatives, logit, squares)
    (of_positives, of_negatives) = (np.flatnonzero(counts) for counts in (positives, negatives))
    overlap = of_positives[0] < of_negatives[-1] and of_negatives[0] < of_positives[-1]
    intercept = slope = Interval(math.nan, math.nan, math.nan)
    if overlap:
        design = np.column_stack([ones, logit])
        intercept, slope = _logistic(design, positives, negatives, np.zeros_like(logit), squares)
    numbers = [(each.value, each.low, each.high) for each in (large, slope, intercept)]
    return dict(zip(METRICS, (number for three in numbers for number in three), strict=True))


def logistic_recalibration(logits: Array, positives: Array, negatives: Array) -> tuple[Interval, Interval]:
    """Intercept and slope of a logistic regression of the outcome on the logit, of rows; nan where classes part.

    Args:
        logits: (N,) of the predicted probabilities.
        positives: (N,) the weight of a row with the outcome, 0 of one without.
        negatives: (N,) the weight of a row without it, 0 of one with.
    """
    design = np.column_stack([np.ones(len(logits)), logits])
    squares = (positives**2, negatives**2)
    intercept, slope = _logistic(design, positives, negatives, np.zeros(len(logits)), squares)
    return intercept, slope


def _logistic(
    design: Array, positives: Array, negatives: Array, offset: Array, squares: tuple[Array, Array]
) -> list[Interval]:
    """Coefficients by Newton's method with step halving; nan where they grow without bound.

    Their intervals are Wald's, of the sandwich variance, which the weights' squares enter.
    """
    beta, total = np.zeros(design.shape[1]), positives + negatives

    def likelihood(beta: Array) -> float:
        linear = offset + design @ beta
        return -float(positives @ np.logaddexp(0, -linear) + negatives @ np.logaddexp(0, linear))

    for _ in range(_ITERATIONS):
        probability = 1 / (1 + np.exp(-np.clip(offset + design @ beta, -700, 700)))
        score = design.T @ (positives - total * probability)
        information = (design * (total * probability * (1 - probability))[:, None]).T @ design
        try:
            inverse = np.linalg.inv(information)
        except np.linalg.LinAlgError:
            break
        step = np.clip(inverse @ score, -_MAX_STEP, _MAX_STEP)
        while np.abs(step).max() > 1e-9 and likelihood(beta + step) < likelihood(beta):
            step = step / 2
        beta = beta + step
        if np.abs(step).max() < 1e-8:
            meat = (design * (squares[0] * (1 - probability) ** 2 + squares[1] * probability**2)[:, None]).T @ design
            half = normal_quantile(LEVEL) * np.sqrt(np.diag(inverse @ meat @ inverse))
            return [Interval(*map(float, (b, b - h, b + h))) for b, h in zip(beta, half, strict=True)]
    return [Interval(math.nan, math.nan, math.nan)] * design.shape[1]
