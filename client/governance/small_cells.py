"""Small-cell suppression of a site's own metrics, and their rounding."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from shared_models.metrics.delong import hanley_mcneil_variance
from shared_models.metrics.interval import logit_interval
from shared_models.metrics.rates import named, wilson

COUNTS = ("patients", "positives", "events")
AT_THE_HORIZON = ("events_by_horizon", "free_at_horizon", "censored_before_horizon")
AT_THE_CUT = ("tp", "fp", "tn", "fn")
OF_ALL_TIMES = (*COUNTS, "c_index", "c_index_low", "c_index_high")
ONE_DECIMAL = ("macro_", "r2")
ERRORS_OF_A_NUMBER = ("mae", "rmse")
DIGITS = 2
MIN_STEPS = 4
"""Of a share of pairs: with fewer it says nothing."""
STEP_PATIENTS = 5
"""A rate moves in steps of at least so many patients: one of them more or less seldom shows, and never for sure."""


def suppress_small_cells(metrics: Mapping[str, float], least: int) -> dict[str, float]:
    """What may leave of a site's own test metrics: NaN where a class has fewer than `least` patients.

    Shares of patients move in steps of `STEP_PATIENTS`, with Wilson's interval of these, and shares of pairs in steps
    of as many pairs as there are patients: a network that scores all patients alike but one would else have her outcome
    as the side of 1/2 on which the AUC is. Means over classes and R squared have one decimal, errors of a number two
    digits, whatever its unit, all else two decimals.
    Counts at the decision threshold never leave, and precision and F1 follow from the sensitivity and the specificity
    that do: else the exact ones could be worked out.

    Args:
        metrics: `site_metrics` of one target.
        least: The site's `policy.minimum_count`.
    """
    few = dict.fromkeys(metrics, _few(metrics, least)) | dict.fromkeys(_few_at_horizon(metrics, least), True)
    released = {name: value for name, value in metrics.items() if name not in AT_THE_CUT} | _pairs_in_steps(metrics)
    if not any(few[name] for name in metrics if name not in AT_THE_HORIZON):
        released |= _in_steps(metrics)
    return {name: _coarse(name, value, few.get(name, False)) for name, value in released.items()}


def _few(metrics: Mapping[str, float], least: int) -> bool:
    """Whether one of the classes is small."""
    patients = metrics["patients"]
    cases = next((metrics[name] for name in ("positives", "events") if name in metrics), None)
    return min((patients,) if cases is None else (cases, patients - cases)) < least


def _few_at_horizon(metrics: Mapping[str, float], least: int) -> Iterator[str]:
    """What is withheld of a time to event because few patients have one of the outcomes at its horizon."""
    if not set(AT_THE_HORIZON) <= set(metrics):
        return
    by_then, free, censored = (metrics[name] for name in AT_THE_HORIZON)
    late = metrics["events"] - by_then
    if any(0 < count < least for count in (by_then, late, free - late, censored)):
        yield from AT_THE_HORIZON
    if min(by_then, free) < least:
        yield from (name for name in metrics if name not in OF_ALL_TIMES and name not in AT_THE_HORIZON)


def _in_steps(metrics: Mapping[str, float]) -> dict[str, float]:
    """The shares of patients among the metrics of enough of them, coarse."""
    if "accuracy" in metrics:
        accuracy = _step(metrics["accuracy"], metrics["patients"])
        return {"accuracy": accuracy, **named("accuracy", wilson(accuracy, metrics["patients"]))}
    if "sensitivity" not in metrics:
        return {}
    with_it = next(metrics[name] for name in ("positives", "events_by_horizon") if name in metrics)
    without = metrics["free_at_horizon"] if "free_at_horizon" in metrics else metrics["patients"] - with_it
    sensitivity, specificity = _step(metrics["sensitivity"], with_it), _step(metrics["specificity"], without)
    positives, negatives = metrics["tp"] + metrics["fn"], metrics["fp"] + metrics["tn"]
    tp, fp = sensitivity * positives, (1 - specificity) * negatives
    rates = {"precision": tp / (tp + fp) if tp + fp else math.nan, "f1": 2 * tp / (tp + fp + positives)}
    bounds = named("sensitivity", wilson(sensitivity, with_it)) | named("specificity", wilson(specificity, without))
    return {"sensitivity": sensitivity, "specificity": specificity, **rates, **bounds}


def _pairs_in_steps(metrics: Mapping[str, float]) -> dict[str, float]:
    """AUC and C-index, with the interval that they and the numbers of patients have by themselves."""
    coarse: dict[str, float] = {}
    for name, (cases, others, comparable) in _pairs(metrics).items():
        steps = comparable // max(metrics["patients"], 1)
        if min(cases, others) < 1 or steps < MIN_STEPS or math.isnan(metrics[name]):
            coarse |= dict.fromkeys((name, f"{name}_low", f"{name}_high"), math.nan)
            continue
        value = 0.5 + min(max(round((metrics[name] - 0.5) * steps) / steps, -0.5), 0.5)
        variance = hanley_mcneil_variance(value, cases, others) + 1 / 12 / steps**2
        coarse |= {name: value, **named(name, logit_interval(value, variance, min(cases, others), 0.95))}
    return coarse


def _pairs(metrics: Mapping[str, float]) -> dict[str, tuple[float, float, float]]:
    """Cases, others and comparable pairs; of a C-index no fewer pairs than these, which the other counts tell.

    Those with the event by the horizon and those free of it then are comparable. Two events are only if their days
    differ, and where times are whole years many do not.
    """
    if "positives" in metrics:
        cases, others = metrics["positives"], metrics["patients"] - metrics["positives"]
        return {"auc": (cases, others, cases * others)}
    if "events_by_horizon" not in metrics:
        return {}
    cases, others = metrics["events_by_horizon"], metrics["free_at_horizon"]
    events, pairs = metrics["events"], cases * others
    return {"auc": (cases, others, pairs), "c_index": (events, metrics["patients"] - events, pairs)}


def _step(share: float, patients: float) -> float:
    """A share of patients as the nearest whole number of steps, none and all among them."""
    steps = patients // STEP_PATIENTS
    return round(share * steps) / steps


def _coarse(name: str, value: float, few: bool) -> float:
    if few and name != "patients":
        return math.nan
    if name in (*COUNTS, *AT_THE_HORIZON) or not math.isfinite(value):
        return value
    if name.startswith(ERRORS_OF_A_NUMBER):
        return float(f"{value:.{DIGITS}g}")
    return round(float(value), 1 if name.startswith(ONE_DECIMAL) else DIGITS)
