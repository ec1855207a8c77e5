"""Metrics as results.json holds them: six decimals, null where undefined."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from shared_models.metrics.arrays import Metric, Number


def rounded(metrics: Mapping[str, float | list[float]]) -> dict[str, Metric]:
    """Numbers and curves."""
    return {
        name: [finite(point) for point in value] if isinstance(value, list) else finite(value)
        for name, value in metrics.items()
    }


def rounded_numbers(metrics: Mapping[str, float]) -> dict[str, Number]:
    """Numbers alone, as a site tells them of itself."""
    return {name: finite(value) for name, value in metrics.items()}


def finite(value: Any) -> Number:
    """A number; None where it is undefined."""
    return round(float(value), 6) if isinstance(value, int | float) and math.isfinite(value) else None
