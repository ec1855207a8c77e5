"""Small-cell suppression of a site's own metrics, and their rounding."""

from __future__ import annotations

import math
from collections.abc import Mapping

COUNTS = ("patients", "positives", "events")
AT_THE_CUT = ("tp", "fp", "tn", "fn")
DIGITS = 2
STEP_PATIENTS = 5
"""A rate moves in steps of at least so many patients: one of them more or less seldom shows, and never for sure."""


def suppress_small_cells(metrics: Mapping[str, float], least: int) -> dict[str, float]:
    """What may leave of a site's own test metrics: NaN where a class has fewer than `least` patients.

    Shares of patients move in steps of `STEP_PATIENTS`, all else has two decimals. Counts at the cut never leave, and
    precision and F1 follow from the sensitivity and the specificity that do: else the exact ones could be worked out.

    Args:
        metrics: `site_metrics` of one target.
        least: The site's `policy.minimum_count`.
    """
    patients = metrics["patients"]
    cases = next((metrics[name] for name in ("positives", "events") if name in metrics), None)
    classes = (patients,) if cases is None else (cases, patients - cases)
    few = min(classes) < least
    kept = {name: value for name, value in metrics.items() if name not in AT_THE_CUT}
    if not few:
        kept |= _in_steps(metrics)
    return {name: _coarse(name, value, few) for name, value in kept.items()}


def _in_steps(metrics: Mapping[str, float]) -> dict[str, float]:
    """The shares of patients among the metrics of enough of them, coarse."""
    if "accuracy" in metrics:
        return {"accuracy": _step(metrics["accuracy"], metrics["patients"])}
    if "sensitivity" not in metrics:
        return {}
    positives, negatives = metrics["positives"], metrics["patients"] - metrics["positives"]
    sensitivity, specificity = (
        _step(metrics[name], size) for name, size in (("sensitivity", positives), ("specificity", negatives))
    )
    tp, fp = sensitivity * positives, (1 - specificity) * negatives
    rates = {"precision": tp / (tp + fp) if tp + fp else math.nan, "f1": 2 * tp / (tp + fp + positives)}
    return {"sensitivity": sensitivity, "specificity": specificity, **rates}


def _step(share: float, patients: float) -> float:
    """A share of patients as the nearest whole number of steps, none and all among them."""
    steps = patients // STEP_PATIENTS
    return round(share * steps) / steps


def _coarse(name: str, value: float, few: bool) -> float:
    if few and name != "patients":
        return math.nan
    return value if name in COUNTS else round(float(value), DIGITS)
