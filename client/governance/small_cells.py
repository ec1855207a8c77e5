"""Small-cell suppression of a site's own metrics, and their rounding."""

from __future__ import annotations

import math
from collections.abc import Mapping

COUNTS = ("patients", "positives", "events")
AT_THE_CUT = ("tp", "fp", "tn", "fn")
DIGITS = 2


def suppress_small_cells(metrics: Mapping[str, float], least: int) -> dict[str, float]:
    """What may leave of a site's own test metrics: two decimals, NaN where a class has fewer than `least` patients.

    Counts at the cut never leave: with them, sensitivity and specificity would be what rounding was to hide.

    Args:
        metrics: `measures.site_metrics` of one target.
        least: The site's `policy.minimum_count`.
    """
    patients = metrics["patients"]
    cases = next((metrics[name] for name in ("positives", "events") if name in metrics), None)
    classes = (patients,) if cases is None else (cases, patients - cases)
    few = min(classes) < least
    kept = {name: value for name, value in metrics.items() if name not in AT_THE_CUT}
    return {name: _coarse(name, value, few) for name, value in kept.items()}


def _coarse(name: str, value: float, few: bool) -> float:
    if few and name != "patients":
        return math.nan
    return value if name in COUNTS else round(float(value), DIGITS)
