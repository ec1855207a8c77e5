"""Bands of the curves, by simulated coverage, and where cells are merged."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from shared_models.metrics.binary import ScoreHistogram
from shared_models.metrics.curves import GRID, Classes, curves
from shared_models.metrics.merged_cells import merge_histogram
from shared_models.metrics.score_metrics import score_metrics

STUDIES = 150


def sample(rng: np.random.Generator, patients: int, share: float, apart: float) -> ScoreHistogram:
    """Two normal distributions, whose curves are known."""
    labels = (rng.uniform(size=patients) < share).astype(float)
    return ScoreHistogram.of(norm.cdf((rng.normal(0, 1, patients) + apart * (labels - 0.5)) / 2), labels)


def truth(share: float, apart: float) -> dict[str, np.ndarray]:
    recall = GRID[1:]
    false = norm.sf(norm.isf(recall) + apart)
    return {
        "roc_true_positive_rate": norm.sf(norm.isf(GRID) - apart),
        "pr_precision": share * recall / (share * recall + (1 - share) * false),
    }


@pytest.mark.parametrize(("patients", "share", "apart"), [(100, 0.3, 1.0), (400, 0.1, 2.0), (300, 0.5, 0.0)])
def test_bands_cover_the_true_curves(patients: int, share: float, apart: float) -> None:
    rng, right = np.random.default_rng(0), truth(share, apart)
    covered: dict[str, list[np.ndarray]] = {name: [] for name in right}
    for _ in range(STUDIES):
        one = sample(rng, patients, share, apart)
        points = curves(Classes(one.positives, one.negatives, one.n_positive, one.n_negative))
        for name, values in right.items():
            low, high = np.array(points[f"{name}_low"]), np.array(points[f"{name}_high"])
            covered[name].append((low - 1e-9 <= values) & (values <= high + 1e-9))
    for name, each in covered.items():
        by_point = np.mean(each, axis=0)
        assert by_point.mean() > 0.94, name
        assert by_point.min() > 0.86, (name, by_point)  # 0.95 less what 150 studies leave to chance, and few patients
        assert by_point[len(by_point) // 4 : -5].mean() < 0.995, name  # not by being as wide as can be


def test_bands_of_merged_cells_hold_the_curves_of_the_rows() -> None:
    rng = np.random.default_rng(1)
    sites = [sample(rng, 150, 0.3, 1.0) for _ in range(4)]
    rows = score_metrics(sites[0] + sites[1] + sites[2] + sites[3], 0.5)
    cells = [merge_histogram(site, 10) for site in sites]
    merged = score_metrics(cells[0] + cells[1] + cells[2] + cells[3], 0.5)
    for name in ("roc_true_positive_rate", "pr_precision"):
        low, high, exact = (np.array(one) for one in (merged[f"{name}_low"], merged[f"{name}_high"], rows[name]))
        assert (low <= exact + 1e-9).all(), name
        assert (exact <= high + 1e-9).all(), name
        narrow = np.array(rows[f"{name}_high"]) - np.array(rows[f"{name}_low"])
        assert (high - low).mean() > narrow.mean(), name
