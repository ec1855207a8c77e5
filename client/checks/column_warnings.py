"""Suspicions of a feature's column as a whole, each with its cure: units, placeholders, constants, the outcome."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from scipy.stats import rankdata

from client.checks.codes import code_warnings
from client.checks.date_columns import date_columns
from client.checks.feature_column import FEW, FeatureColumn, Values
from client.checks.frequent_values import frequent_values
from client.checks.rescaled import rescaled
from client.checks.two_units import two_units
from client.onboarding.vocabulary import known_feature

SAME = 0.99  # an area under the curve, or a correlation of ranks, that no single measurement reaches honestly
SAMPLE, NEARLY_SAME = 400, 0.9  # rows that are examined first, of which less than this rules the rest out
BY_CHANCE = 0.01


def column_warnings(columns: Sequence[FeatureColumn]) -> list[str]:
    """What looks wrong in a table's columns, each alone, with what to do about it."""
    return [text for one in columns for text in (*code_warnings(one.feature.name, one.column), *_column_warnings(one))]


def _column_warnings(one: FeatureColumn) -> list[str]:
    warnings = [*date_columns(one), *_percentages(one)]
    if one.column.codes is None and not one.feature.categories:
        warnings += [
            *_unit(one),
            *_implausible(one),
            *frequent_values(one),
            *two_units(one),
            *rescaled(one),
        ]
    if len(one.known) >= FEW and np.ptp(one.known) == 0:
        warnings.append("is the same for every patient; check that it is the right column")
    return [f"{one.feature.name} {text}" for text in warnings]


def outcome_warnings(columns: Sequence[FeatureColumn], labels: Mapping[str, Values]) -> list[str]:
    """Features that give an outcome away: what is recorded because of it, or its own column.

    Args:
        columns: The features.
        labels: `(R,)` of each outcome by a name for messages: 0 and 1, or numbers; NaN where unknown.
    """
    return [
        f"{one.feature.name} alone gives {name} away ({what}); check that it was known before the outcome, and is not "
        "made of it"
        for name, label in labels.items()
        for one in columns
        if (what := _gives_away(one.values, label, len(columns)))
    ]


def _gives_away(values: Values, label: Values, tried: int) -> str:
    known = ~np.isnan(values) & ~np.isnan(label)
    values, label = values[known], label[known]
    if len(label) < FEW or np.ptp(values) == 0 or np.ptp(label) == 0:
        return ""
    few = slice(None, None, max(1, len(label) // SAMPLE))
    binary = bool(((label == 0) | (label == 1)).all())
    if _apart_by(values[few], label[few], binary) < NEARLY_SAME:
        return ""
    if binary:
        positive = int(label.sum())
        rare = min(positive, len(label) - positive, 20)  # of more, the orders are beyond counting
        if 2 * tried > BY_CHANCE * math.comb(len(label), rare):  # a perfect order may be chance
            return ""
    apart = _apart_by(values, label, binary)
    return f"{'AUC' if binary else 'correlation of ranks'} {apart:.3f}" if apart > SAME else ""


def _apart_by(values: Values, label: Values, binary: bool) -> float:
    """The area under the curve of values for a label of 0 and 1, else their correlation of ranks, from 0 to 1.

    Where the label does not vary, 1: nothing is ruled out.
    """
    if np.ptp(label) == 0 or np.ptp(values) == 0:
        return 1.0
    ranks = rankdata(values)
    if not binary:
        return abs(float(np.corrcoef(ranks, rankdata(label))[0, 1]))
    positive = int(label.sum())
    area = float(ranks[label == 1].sum() - positive * (positive + 1) / 2) / (positive * (len(label) - positive))
    return max(area, 1 - area)


def _unit(one: FeatureColumn) -> Iterator[str]:
    thing = known_feature(one.feature.name)
    usual = thing.median if thing else None
    if usual and len(one.known) >= FEW and not usual[0] <= np.median(one.known) <= usual[1]:
        yield f"has a median that is not between {usual[0]:g} and {usual[1]:g}; check its unit, and `scale`"


def _implausible(one: FeatureColumn) -> Iterator[str]:
    thing = known_feature(one.feature.name)
    if thing and thing.plausible and one.column.range is None:
        low, high = thing.plausible
        outside = (one.values < low) | (one.values > high)
        if outside.any():
            where = f"outside {low:g} to {high:g} in {one.rows(outside)}"
            yield f"lies {where}; correct the cells, or set `range: [{low:g}, {high:g}]` to take such values as missing"


def _percentages(one: FeatureColumn) -> Iterator[str]:
    first = next(filter(None, one.cells.texts), "")  # all of a column have the sign, or none
    if first.endswith("%") and one.column.codes is None and not one.feature.categories:
        yield "is in percent: 20 % is read as 20, and not as 0.2"
