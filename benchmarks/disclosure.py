"""Benchmark of disclosure control: AUC and C-index with and without it, pooled and within sites.

Synthetic hospitals of equal size: 30 % have a binary outcome, scores overlap to an AUC of .80; times to event follow a
proportional hazard, censored within eleven years. Cells hold ten patients, the default of `policy.minimum_count`.

    python benchmarks/disclosure.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from shared_models.metrics.arrays import total
from shared_models.metrics.binary import ScoreHistogram, auc
from shared_models.metrics.concordance import concordance
from shared_models.metrics.merged_cells import merge_concordance, merge_histogram
from shared_models.metrics.summary import target_score
from shared_models.metrics.survival import RISK_BINS, ConcordanceTable
from shared_models.metrics.within_site import WithinSiteAuc, WithinSiteConcordance, WithinSitePairs
from shared_models.targets import TimeToEvent

LEAST = 10
REPEATS = 30
COHORTS = ((2, 30), (2, 60), (5, 60), (3, 150), (3, 300), (3, 1000), (5, 3000))


def main() -> None:
    """Prints the table."""
    print(
        "| hospitals x test patients | metric | of rows | bins: off, certificate "
        "| merged: patients, off by cells alone, off as told, certificate | within sites: of rows, off, half interval |"
    )
    print("|---|---|---|---|---|---|")
    for sites, patients in COHORTS:
        for name, one in (("AUC", binary), ("C-index", time_to_event)):
            draws = np.array([one(np.random.default_rng(seed), sites, patients) for seed in range(REPEATS)])
            exact, off, bound, sent, cells_off, merged_off, merged_bound, *pairs = np.nanmean(draws, axis=0)
            fine = f"{off:.4f}, ±{bound:.4f}"
            merged = f"{sent:.0%}, {cells_off:.3f}, {merged_off:.3f}, ±{min(merged_bound, 1):.2f}"
            within = f"{pairs[0]:.3f}, {pairs[1]:.3f}, ±{pairs[2]:.2f}"
            print(f"| {sites} x {patients} | {name} | {exact:.3f} | {fine} | {merged} | {within} |")


def binary(rng: np.random.Generator, sites: int, patients: int) -> tuple[float, ...]:
    """AUC of the rows; distance and certificate of bins; of merged ones the share of patients, distances, certificate.

    Then within sites: AUC of the rows, distance of what leaves, and half the width of its interval.
    """
    rows = []
    for _ in range(sites):
        truth = (rng.uniform(size=patients) < 0.3).astype(float)
        rows.append((_sigmoid(rng.normal(-1, 1, patients) + 1.2 * truth), truth))
    scores, truth = (np.concatenate(parts) for parts in zip(*rows, strict=True))
    histograms = [ScoreHistogram.of(*site) for site in rows]
    pairs = [WithinSiteAuc.of(*site) for site in rows]
    pooled = _compared(auc(scores, truth), histograms, pairs, lambda one: merge_histogram(one, LEAST))
    return *pooled, *_within(pairs)


def time_to_event(rng: np.random.Generator, sites: int, patients: int) -> tuple[float, ...]:
    """The same of the C-index."""
    rows = []
    for _ in range(sites):
        risk = _sigmoid(rng.normal(-1, 1, patients))
        days, seen = rng.exponential(9000 * np.exp(-3 * (risk - 0.3))) + 1, rng.uniform(400, 4000, patients)
        rows.append((risk, np.minimum(days, seen), (days < seen).astype(float)))
    exact = concordance(*(np.concatenate(parts) for parts in zip(*rows, strict=True)))
    tables = [ConcordanceTable.of(*site, bins=RISK_BINS) for site in rows]
    pairs = [WithinSiteConcordance.of(risk, np.stack(truth, axis=1)) for risk, *truth in rows]
    pooled = _compared(exact, tables, pairs, lambda one: merge_concordance(one, TimeToEvent().edges_days, LEAST))
    return *pooled, *_within(pairs)


def _compared(
    exact: float, summaries: list[Any], pairs: Sequence[WithinSitePairs], merge: Callable[[Any], Any]
) -> tuple[float, ...]:
    fine, merged = total(summaries), total(map(merge, summaries))
    off = [abs(target_score({"": one}) - exact) for one in (fine, merged)]
    righted = merged.righted(total(one.without_small_cells(LEAST) for one in pairs).share())
    name = next(iter(righted), "")
    shown = (abs(righted[name] - exact), righted[f"{name}_bound"]) if righted else (off[1], _bound(merged))
    return exact, off[0], _bound(fine), merged.n / fine.n, off[1], *shown


def _within(sites: Sequence[WithinSitePairs]) -> tuple[float, ...]:
    exact, sent = total(sites).share(), total(site.without_small_cells(LEAST) for site in sites).interval()
    return exact, abs(sent.value - exact), (sent.high - sent.low) / 2


def _bound(summary: Any) -> float:
    return summary.auc_bound() if isinstance(summary, ScoreHistogram) else summary.bound()


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


if __name__ == "__main__":
    main()
