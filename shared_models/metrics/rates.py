"""Intervals of what a confusion table and a histogram of scores give, from counts or from sums of weights.

With weights, as at the horizon of a time to event, a sum of weights W whose squares sum to Q stands for W^2 / Q
patients (Kish). Every interval is by formula, so that the same counts always have the same one;
`tests/shared_models/metrics/test_rates.py` simulates how often they cover.

References:
    Wilson, Probable inference, the law of succession, and statistical inference. Journal of the American Statistical
        Association 22 (1927) 209-212.
    Zou & Donner, Construction of confidence limits about effect measures: a general approach. Statistics in Medicine 27
        (2008) 1693-1702: the bounds of a sum from those of its parts.
    Boyd, Eng & Page, Area under the precision-recall curve: point estimates and confidence intervals. ECML PKDD (2013)
        451-466: the logit interval.
    Debray et al., A guide to systematic review and meta-analysis of prediction model performance. BMJ 356 (2017) i6460:
        the ratio of expected and observed on the log scale.
"""

import math
from collections.abc import Mapping

import numpy as np

from shared_models.metrics.arrays import Array
from shared_models.metrics.confusion_counts import ConfusionCounts
from shared_models.metrics.interval import Interval, logit_interval, normal_quantile

LEVEL = 0.95


def bounds(descriptions: Mapping[str, str], how: Mapping[str, str]) -> dict[str, str]:
    """Descriptions of metrics, with those of the bounds of each that has an interval.

    Args:
        descriptions: By name.
        how: By name, how its 95 % interval is made.
    """
    texts: dict[str, str] = {}
    for name, text in descriptions.items():
        texts[name] = text
        if name in how:
            texts[f"{name}_low"] = f"lower bound of its 95 % interval ({how[name]})"
            texts[f"{name}_high"] = "upper bound"
    return texts


def named(name: str, interval: Interval) -> dict[str, float]:
    """The bounds of a metric, by name."""
    return {f"{name}_low": interval.low, f"{name}_high": interval.high}


def wilson(share: float, patients: float, level: float = LEVEL) -> Interval:
    """Wilson's interval of a share of so many patients, who need not be whole; nan of none."""
    low, high = wilson_bounds(np.array([share]), np.array([patients]), level)
    return Interval(share, float(low[0]), float(high[0]))


def wilson_bounds(shares: Array, patients: Array | float, level: float = LEVEL) -> tuple[Array, Array]:
    """Wilson's bounds of several shares.

    Args:
        shares: (N,).
        patients: (N,) or one number for all, which need not be whole.
        level: coverage.

    Returns:
        Lower and upper bounds, (N,) each; nan where there are no patients.
    """
    of = np.where(np.asarray(patients, dtype=np.float64) > 0, patients, np.nan)
    z2 = normal_quantile(level) ** 2
    middle = (shares + z2 / (2 * of)) / (1 + z2 / of)
    half = np.sqrt(z2 * (shares * (1 - shares) / of + z2 / (4 * of**2))) / (1 + z2 / of)
    return np.maximum(middle - half, 0.0), np.minimum(middle + half, 1.0)


def effective(weights: float, squares: float) -> float:
    """How many patients of equal weight a sum of weights stands for."""
    return weights**2 / squares if squares > 0 else 0.0


def rate_bounds(counts: ConfusionCounts, squares: ConfusionCounts) -> dict[str, float]:
    """The bounds of each rate at a threshold, by name.

    F1 follows from the share of true positives among all who are positive or called so, J, as 2 J / (1 + J), so that
    its bounds are those of J. MCC has the delta method's on Fisher's scale, nan where it is -1 or 1.

    Args:
        counts: Patients, or sums of their weights.
        squares: Sums of the squared weights; the patients themselves where they have none.
    """

    def share(cells: str, of: str) -> Interval:
        part, whole = (sum(getattr(counts, cell) for cell in group.split()) for group in (cells, of))
        patients = effective(whole, sum(getattr(squares, cell) for cell in of.split()))
        return wilson(part / whole if whole > 0 else math.nan, patients)

    sensitivity, specificity = share("tp", "tp fn"), share("tn", "fp tn")
    jaccard = share("tp", "tp fp fn")
    intervals = {
        "f1": Interval(counts.f1, *(2 * end / (1 + end) for end in (jaccard.low, jaccard.high))),
        "sensitivity": sensitivity,
        "specificity": specificity,
        "precision": share("tp", "tp fp"),
        "npv": share("tn", "tn fn"),
        "flagged": share("tp fp", "tp fp tn fn"),
        "accuracy": share("tp tn", "tp fp tn fn"),
        "balanced_accuracy": _mean(sensitivity, specificity),
        "mcc": _mcc(counts, squares),
    }
    return {name: end for metric, interval in intervals.items() for name, end in named(metric, interval).items()}


def _mean(one: Interval, other: Interval) -> Interval:
    below = math.hypot(one.value - one.low, other.value - other.low) / 2
    above = math.hypot(one.high - one.value, other.high - other.value) / 2
    value = (one.value + other.value) / 2
    return Interval(value, value - below, value + above)


def _mcc(counts: ConfusionCounts, squares: ConfusionCounts) -> Interval:
    value = counts.mcc
    if math.isnan(value) or abs(value) > 1 - 1e-12:
        return Interval(value, math.nan, math.nan)
    names = ("tp", "fp", "tn", "fn")
    cells, step = np.array([getattr(counts, name) for name in names]), 1e-6 * counts.n
    slopes = []
    for unit in np.eye(4):
        high, low = ConfusionCounts(*(cells + step * unit)).mcc, ConfusionCounts(*(cells + 1e-9 * counts.n * unit)).mcc
        slopes.append((high - low) / (step - 1e-9 * counts.n))
    variance = float(np.array([getattr(squares, name) for name in names]) @ np.square(slopes))
    middle, half = math.atanh(value), normal_quantile(LEVEL) * math.sqrt(variance) / (1 - value**2)
    return Interval(value, math.tanh(middle - half), math.tanh(middle + half))


def average_precision_interval(value: float, positives: float) -> Interval:
    """Boyd's interval on the logit scale.

    Args:
        value: average precision.
        positives: how many, or the patients that their weights stand for.
    """
    variance = value * (1 - value) / positives if positives > 0 else math.nan
    return logit_interval(value, variance, positives, LEVEL)


def mean_interval(values: tuple[Array, Array], weights: tuple[Array, Array], squares: tuple[Array, Array]) -> Interval:
    """Wald's interval of the mean of what each patient contributes.

    Args:
        values: what a positive and a negative of each bin contributes, (bins,) each.
        weights: sums of weights of the positives and of the negatives, (bins,) each.
        squares: of their squares.
    """
    total = float(sum(part.sum() for part in weights))
    patients = effective(total, float(sum(part.sum() for part in squares)))
    if patients < 2:
        return Interval(math.nan, math.nan, math.nan)
    mean = sum(float(part @ value) for part, value in zip(weights, values, strict=True)) / total
    spread = sum(float(part @ (value - mean) ** 2) for part, value in zip(squares, values, strict=True))
    half = normal_quantile(LEVEL) * math.sqrt(spread / total**2 * patients / (patients - 1))
    return Interval(mean, mean - half, mean + half)


def brier_interval(scores: Array, weights: tuple[Array, Array], squares: tuple[Array, Array]) -> Interval:
    """Of the mean squared error, on the logit scale; each patient's score is that of their bin.

    Args:
        scores: (bins,).
        weights: as for `mean_interval`.
        squares: likewise.
    """
    mean = mean_interval(((1 - scores) ** 2, scores**2), weights, squares)
    variance = ((mean.high - mean.low) / 2 / normal_quantile(LEVEL)) ** 2
    patients = effective(sum(float(part.sum()) for part in weights), sum(float(part.sum()) for part in squares))
    return logit_interval(mean.value, variance, patients, LEVEL)


def expected_observed_interval(ratio: float, observed: float, patients: float) -> Interval:
    """Of expected over observed outcomes, on the log scale, what is expected taken as given.

    Args:
        ratio: of expected and observed outcomes.
        observed: share of patients with the outcome.
        patients: how many there are, or their weights stand for.
    """
    if not (ratio > 0 and observed > 0 and patients > 0):
        return Interval(ratio, math.nan, math.nan)
    factor = math.exp(normal_quantile(LEVEL) * math.sqrt((1 - observed) / (patients * observed)))
    return Interval(ratio, ratio / factor, ratio * factor)
