"""Suspicions of a table of genes as a whole: patients whose genes are on another scale than the others'."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.stats import rankdata

from client.checks.feature_column import FEW, FeatureColumn, Values
from client.checks.rescaled import MAX_LOGARITHM, is_gene
from client.checks.suspicion import Suspicion, suspicion
from client.checks.two_groups import two_groups

MIN_GENES, MAX_GENES = 5, 24
HALF = 0.5  # of a patient's genes must be known
COPIES = 5.0  # from the lowest to the highest: mutations are 0 and 1, copy numbers -2 to 2
TWICE_LOGGED = 4.7  # log2(1 + x) of logarithms up to 25
SKEWED, MOST = 1.1, 0.8  # mean by median of what is not logged, and the share of the genes
MOST_PAIRS, TOGETHER = 0.9, 0.3  # of all pairs of genes, and their correlation; genes of one cluster are few of them
HALF_BELL = (1.15, 1.55)  # mean by deviation: 1.32 of a bell's half, 1 of an exponential distribution
LOW_TENTH = 0.3  # the lowest tenth by the median: .19 of a bell's half
FAR, LEAST_FAR = 10.0, 0.4  # deviations of a patient's height, and of the genes' medians


def expression_warnings(columns: Sequence[FeatureColumn]) -> list[Suspicion]:
    """What looks wrong in a table's genes together, each with what to do about it.

    Each gene is divided by its own median; a patient's height is the median over the genes, which no few genes of a
    subtype can move. Two groups of patients by their heights, as of two logarithms, are one suspicion.

    Args:
        columns: The features of one table.
    """
    genes = [
        one
        for one in columns
        if is_gene(one) and not one.feature.categories and len(one.known) and one.known[len(one.known) // 10] > 0
    ]  # centred ones are below 0 in half of the patients: their median is no unit
    few = genes[:: max(1, len(genes) // MAX_GENES)]
    if len(genes) < MIN_GENES:
        return []
    return [*map(Suspicion, (*_not_as_measured(genes), *_rise_together(few), *_without_signs(genes))), *_apart(few)]


def _not_as_measured(genes: Sequence[FeatureColumn]) -> Iterator[str]:
    """Whole numbers where logarithms have decimals, ranks, and logarithms of logarithms."""
    low, high = min(one.known[0] for one in genes), max(one.known[-1] for one in genes)
    whole = [one.feature.name for one in genes if not (one.known[:FEW] % 1).any() and not (one.known % 1).any()]
    ranks = [one.feature.name for one in genes if _is_rank(one)]
    if len(ranks) > HALF * len(genes):
        yield f"{_some(ranks)} the numbers from 1 on, each once: ranks at this site alone; give what was measured"
    elif len(whole) > HALF * len(genes) and high - low > COPIES and high < MAX_LOGARITHM:
        yield f"{_some(whole)} whole numbers alone, up to {high:g}: rounded logarithms, or counts? Give all decimals"
    if low >= 0 and high < TWICE_LOGGED and np.median([one.median for one in genes]) > HALF * high:
        yield (
            f"all {len(genes)} genes lie between {low:.2g} and {high:.2g}, most of them high: logarithms of "
            "logarithms? Check `transform`, and what the file holds"
        )

    if len(genes) < MAX_GENES or low < 0 or high > MAX_LOGARITHM:
        return
    skewed = sum(one.known.mean() > SKEWED * one.median for one in genes)
    if skewed > MOST * len(genes):
        yield (
            f"{skewed} of {len(genes)} genes have many low and few high values, as before a logarithm is taken: if the "
            "study means logarithms, set `transform`"
        )


def _rise_together(genes: Sequence[FeatureColumn]) -> Iterator[str]:
    """Genes all of which are high in the same patients, as where samples of more reads were not brought to one size."""
    values = np.stack([one.values for one in genes], axis=1)
    values = values[~np.isnan(values).any(axis=1)]
    if len(genes) < MAX_GENES or len(values) < 2 * FEW or (np.ptp(values, axis=0) == 0).any():
        return
    pairs = np.corrcoef(rankdata(values, axis=0), rowvar=False)[np.triu_indices(len(genes), 1)]
    if np.quantile(pairs, 1 - MOST_PAIRS) > TOGETHER:
        yield (
            f"nine in ten pairs of {len(genes)} genes rise together from patient to patient (correlations of ranks "
            f"above {TOGETHER:g}): were samples with more reads scaled to one size? Normalise before the logarithm"
        )


def _without_signs(genes: Sequence[FeatureColumn]) -> Iterator[str]:
    """Genes that are dense just above 0 and never below, each as the half of a bell: minus signs were lost."""
    halves = sum(
        HALF_BELL[0] < one.known.mean() / max(float(one.known.std()), 1e-12) < HALF_BELL[1]
        and one.known[0] > 0
        and one.known[len(one.known) // 10] < LOW_TENTH * one.median
        for one in genes
    )
    if len(genes) >= MAX_GENES and halves > MOST * len(genes):
        yield (
            f"{halves} of {len(genes)} genes are distributed as the half of a bell above 0, as log ratios without "
            "their minus signs; check that the file has these"
        )


def _is_rank(one: FeatureColumn) -> bool:
    size = len(one.known)
    return (
        size >= 2 * FEW
        and one.known[0] == 1
        and one.known[-1] == size
        and float(one.known.sum()) == size * (size + 1) / 2
    )


def _some(names: Sequence[str]) -> str:
    return f"{', '.join(names[:3])}{f' and {len(names) - 3} other genes' if len(names) > 3 else ''} hold"


def _apart(genes: Sequence[FeatureColumn]) -> list[Suspicion]:
    """Patients all of whose genes are on another scale than the others'."""
    relative = np.stack([one.values / one.median for one in genes], axis=1)
    enough = (~np.isnan(relative)).mean(axis=1) >= HALF
    if enough.sum() < FEW:
        return []
    heights = np.full(len(relative), np.nan)
    middle = np.nanmedian if np.isnan(relative[enough]).any() else np.median  # five times as fast
    heights[enough] = middle(relative[enough], axis=1)
    groups = two_groups(np.sort(heights[enough]))
    if groups is None:
        return _far_from_all(genes[0], heights)
    few = heights > groups.limit if groups.few_are_high else heights < groups.limit
    text = (
        f"all genes lie at about {groups.low:.2g} and {groups.high:.2g} of their median in two groups of patients, as "
        f"of two scales or logarithms: check {genes[0].rows(few)}"
    )
    return [suspicion(text, few)]


def _far_from_all(first: FeatureColumn, heights: Values) -> list[Suspicion]:
    """Single patients, as samples that failed and were filled with 0, or were not logged."""
    middle = float(np.nanmedian(heights))
    spread = float(np.nanmedian(np.abs(heights - middle)))
    far = np.abs(heights - middle) > max(FAR * spread, LEAST_FAR)
    if not far.any():
        return []
    where = f"all genes lie far from the other patients' in {first.rows(far)}"
    text = f"{where}: did the sample fail, or is it on another scale?"
    return [suspicion(text, far)]
