"""Phantom of `relapse_mammogram`: the five columns of a finding, independent of each other.

Kinds: `linear` (the sum of three columns), `interaction` (the exclusive or of two), and `threshold` (middling sizes
relapse, small and large ones do not).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from scipy.special import expit

from simulation.cohorts.ceiling import Ceiling, posterior_auc
from simulation.phantoms.labels import coin_probability
from simulation.phantoms.patients import Arrays, table_inputs, task_table

TARGET = "relapse"
CATEGORIES = {
    "shape": ("oval", "round_or_irregular", "asymmetric", "distorted"),
    "margin": ("circumscribed", "obscured_or_microlobulated", "ill_defined", "spiculated"),
    "density": ("fatty", "scattered", "heterogeneous", "extremely_dense"),
    "subtype": ("luminal_a", "luminal_b", "her2", "triple_negative"),
}
_MEDIAN_MM, _LOG_SD = 18.0, 0.45
_QUARTILES_MM = (_MEDIAN_MM * np.exp(-0.6745 * _LOG_SD), _MEDIAN_MM * np.exp(0.6745 * _LOG_SD))
_CASES = 200_000
Row = Mapping[str, float | str]


def _linear(row: Row, ceiling: float) -> float:
    """A logistic regression; its ceiling is that of its own slopes, whatever was asked for."""
    del ceiling
    size = np.log(float(row["size_mm"]) / _MEDIAN_MM) / _LOG_SD
    grades = [CATEGORIES[name].index(str(row[name])) - 1.5 for name in ("margin", "subtype")]
    return float(expit(0.9 * size + 0.8 * grades[0] + 0.8 * grades[1]))


def _interaction(row: Row, ceiling: float) -> float:
    margin = row["margin"] in ("ill_defined", "spiculated")
    return coin_probability(margin ^ (row["subtype"] in ("her2", "triple_negative")), ceiling)


def _threshold(row: Row, ceiling: float) -> float:
    low, high = _QUARTILES_MM
    return coin_probability(low < float(row["size_mm"]) < high, ceiling)


# P(relapse) of a row.
KINDS: Mapping[str, Callable[[Row, float], float]] = {
    "linear": _linear,
    "interaction": _interaction,
    "threshold": _threshold,
}


def draw_row(rng: np.random.Generator) -> dict[str, float | str]:
    """A finding."""
    size = _MEDIAN_MM * np.exp(_LOG_SD * rng.normal())
    return {"size_mm": float(size), **{name: values[rng.integers(len(values))] for name, values in CATEGORIES.items()}}


def draw_arrays(kind: str, patients: int, seed: int, ceiling: float = 0.8) -> Arrays:
    """Patients' findings, `mammography (N, width)`, and whether they relapse."""
    rng = np.random.default_rng(seed)
    rows = [draw_row(rng) for _ in range(patients)]
    risks = np.array([KINDS[kind](row, ceiling) for row in rows])
    relapse = (rng.random(patients) < risks).astype(np.float32)
    table = task_table("relapse_mammogram", "mammography")
    return Arrays({"mammography": table_inputs(table, rows)}, {TARGET: relapse}, np.arange(patients))


def best_auc(kind: str, ceiling: float = 0.8, seed: int = 0, patients: int = _CASES) -> Ceiling:
    """The best AUC, of the true risks of as many findings."""
    rng = np.random.default_rng(seed)
    return posterior_auc(np.array([KINDS[kind](draw_row(rng), ceiling) for _ in range(patients)]))
