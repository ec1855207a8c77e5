"""Suspicions of a table of genes as a whole: patients whose genes are on another scale than the others'."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from client.checks.feature_column import FeatureColumn
from client.checks.rescaled import is_gene
from client.checks.suspicion import Suspicion, suspicion
from client.checks.two_groups import two_groups

MIN_GENES, MAX_GENES = 5, 24
HALF = 0.5  # of a patient's genes must be known


def expression_warnings(columns: Sequence[FeatureColumn]) -> list[Suspicion]:
    """Whether a table's patients fall in two groups by the height of all of their genes, as of two logarithms.

    Each gene is divided by its own median; a patient's height is the median over the genes, which no few genes of a
    subtype can move.

    Args:
        columns: The features of one table.
    """
    genes = [
        one for one in columns if is_gene(one) and not one.feature.categories and len(one.known) and one.median > 0
    ]
    if len(genes) < MIN_GENES:
        return []
    genes = genes[:: max(1, len(genes) // MAX_GENES)]
    relative = np.stack([one.values / one.median for one in genes], axis=1)
    enough = (~np.isnan(relative)).mean(axis=1) >= HALF
    heights = np.full(len(relative), np.nan)
    heights[enough] = np.nanmedian(relative[enough], axis=1)
    groups = two_groups(np.sort(heights[enough]))
    if groups is None:
        return []
    few = heights > groups.limit if groups.few_are_high else heights < groups.limit
    text = (
        f"all genes lie at about {groups.low:.2g} and {groups.high:.2g} of their median in two groups of patients, as "
        f"of two scales or logarithms: check {genes[0].rows(few)}"
    )
    return [suspicion(text, few)]
