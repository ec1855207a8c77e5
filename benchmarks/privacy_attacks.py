"""Scores of membership attacks: ROC, true positive rates, and a lower confidence bound on epsilon.

The bound is that of Steinke, Nasr & Jagielski, Privacy auditing with one (1) training run (2023, arXiv:2305.08846).
Each of m canaries, patients made up for the audit, is in the training part or not by the toss of a coin. Whoever sees
what leaves the site guesses for some of them. Under (epsilon, delta)-differential privacy the number of right guesses
is hardly more than that of randomised response; more of them refutes the epsilon.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binom, norm

from shared_models.metrics.interval import Interval

Scores = NDArray[np.float64]
Members = NDArray[np.bool_]

CONFIDENCE = 0.95
SHARES = (0.05, 0.2, 1.0)  # of the canaries that are guessed at, the surest first; chosen before any audit
MAX_EPSILON = 500.0


def p_value(canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """The chance of so many correct guesses or more, at most, under (epsilon, delta)-differential privacy.

    Corollary 5.4, as in appendix D: beta + 2 m delta max_i P[v > Binomial >= v - i] / i.
    """
    accuracy = 1.0 / (1.0 + np.exp(-epsilon))
    beta = binom.sf(correct - 1, guesses, accuracy)
    steps = np.arange(1, correct + 1)
    just_below = np.cumsum(binom.pmf(correct - steps, guesses, accuracy))
    alpha = np.max(just_below / steps, initial=0.0)
    return float(min(1.0, beta + 2 * canaries * delta * alpha))


def epsilon_lower_bound(canaries: int, guesses: int, correct: int, delta: float, level: float = CONFIDENCE) -> float:
    """The largest epsilon that the guesses refute; 0 where they refute none.

    Args:
        canaries: How many could have been in, each with probability 1/2.
        guesses: For how many of them a guess was made.
        correct: How many of these were right.
        delta: Of the guarantee.
        level: How sure the bound is.
    """

    def excess(epsilon: float) -> float:
        return p_value(canaries, guesses, correct, epsilon, delta) - (1 - level)

    if excess(0.0) >= 0:
        return 0.0
    return MAX_EPSILON if excess(MAX_EPSILON) < 0 else float(brentq(excess, 0.0, MAX_EPSILON, xtol=1e-6))


def empirical_epsilon(scores: Scores, members: Members, delta: float, level: float = CONFIDENCE) -> float:
    """The lower bound from scores that are the higher, the likelier a canary was in.

    The highest of a share are guessed to be in and as many of the lowest to be out. Several shares are tried, and the
    level is corrected for that (Bonferroni).

    Args:
        scores: Of any shape.
        members: Who was in; of the same shape.
        delta: Of the guarantee.
        level: How sure the bound is.
    """
    inside = members.ravel()[np.argsort(scores, axis=None, kind="stable")]
    bounds = []
    for share in SHARES:
        each = int(share * len(inside)) // 2
        correct = np.count_nonzero(inside[len(inside) - each :]) + np.count_nonzero(~inside[:each])
        bounds.append(epsilon_lower_bound(len(inside), 2 * each, correct, delta, 1 - (1 - level) / len(SHARES)))
    return max(bounds)


def true_positive_rate(scores: Scores, members: Members, false_positive_rate: float) -> float:
    """The share of members found where at most this share of others is taken for members (Carlini 2022)."""
    others = np.sort(scores[~members])[::-1]
    threshold = others[int(false_positive_rate * len(others))]
    return float(np.mean(scores[members] > threshold))


def over_targets(statistic: Callable[[Scores, Members], float], scores: Scores, members: Members) -> Interval:
    """A statistic of T attacked models' `(T, P)` scores, all together, with a 95 % bootstrap interval over models."""
    chance = np.random.default_rng(0)
    draws = chance.integers(len(scores), size=(300, len(scores)))
    statistics = [statistic(scores[draw].ravel(), members[draw].ravel()) for draw in draws]
    low, high = np.quantile(statistics, [0.025, 0.975])
    return Interval(statistic(scores.ravel(), members.ravel()), float(low), float(high))


def likelihood_ratios(observed: Scores, shadow: Scores, inside: Members) -> Scores:
    """The online attack of Carlini 2022 (arXiv:2112.03570), with one variance for all patients: few shadow models.

    Args:
        observed: Confidences `(T, P)` of P patients by T attacked models; see `confidence`.
        shadow: Confidences `(S, P)` by models of the attacker's own.
        inside: Whom each of those was trained on, `(S, P)`.

    Returns:
        `(T, P)` log likelihood ratios of having been in.
    """
    ratios = np.zeros_like(observed)
    for sign, group in ((1, inside), (-1, ~inside)):
        mean = np.nanmean(np.where(group, shadow, np.nan), axis=0)
        deviation = np.sqrt(np.mean((shadow - mean)[group] ** 2))
        ratios += sign * norm.logpdf(observed, mean, deviation)
    return ratios


def confidence(losses: Scores) -> Scores:
    """The logit of the likelihood that a model gives the truth, nearly Gaussian over models (Carlini 2022, eq. 3)."""
    bounded = np.clip(losses, 1e-7, None)
    return np.asarray(-bounded - np.log(-np.expm1(-bounded)))
