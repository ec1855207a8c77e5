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
from client.checks.rewritten import rewritten
from client.checks.suspicion import Suspicion, suspicion
from client.checks.two_units import two_units
from client.onboarding.vocabulary import KNOWN, known_feature

SAME = 0.99  # an area under the curve, or a correlation of ranks, that no single measurement reaches honestly
SAMPLE, NEARLY_SAME = 400, 0.9  # rows that are examined first, of which less than this rules the rest out
BY_CHANCE = 0.01
MANY = 5  # features of one suspicion, from which it is one of the table
STEPS, SAME_STEPS = 5, 0.98  # of a feature with so few different values: a class that was made of the outcome
MANY_NODES = 100  # patients
KNOWN_BECAUSE = 0.95  # area under the curve of whether a feature is known at all
_COUNTS = (KNOWN["nodes_positive"], KNOWN["nodes_examined"])


def column_warnings(columns: Sequence[FeatureColumn]) -> list[Suspicion]:
    """What looks wrong in a table's columns, each alone, with what to do about it; what many have is said once."""
    of_codes = [Suspicion(text) for one in columns for text in code_warnings(one.feature.name, one.column)]
    features: dict[str, list[str]] = {}
    rows: dict[str, set[int]] = {}
    for one in columns:
        for warning in _column_warnings(one):
            features.setdefault(warning.text, []).append(one.feature.name)
            rows.setdefault(warning.text, set()).update(warning.rows)
    return of_codes + [
        Suspicion(f"{subject} {text}", tuple(sorted(rows[text])))
        for text, names in features.items()
        for subject in ([f"each of {', '.join(names[:3])} and {len(names) - 3} more"] if len(names) > MANY else names)
    ]


def _column_warnings(one: FeatureColumn) -> list[Suspicion]:
    warnings = [*date_columns(one), *map(Suspicion, _percentages(one))]
    if one.column.codes is None and not one.feature.categories:
        warnings += [
            *map(Suspicion, (*_unit(one), *_rounded_to_tens(one), *_steps_for_counts(one), *rewritten(*one.distinct))),
            *_implausible(one),
            *_fractions(one),
            *frequent_values(one),
            *two_units(one),
            *rescaled(one),
        ]
    if len(one.known) >= FEW and not one.varies:
        warnings.append(Suspicion("is the same for every patient; check that it is the right column"))
    return warnings


def given_away(columns: Sequence[FeatureColumn], labels: Mapping[str, Values]) -> list[str]:
    """Features that give an outcome away: what is recorded because of it, or its own column.

    Args:
        columns: The features.
        labels: `(R,)` of each outcome by a name for messages: 0 and 1, or numbers; NaN where unknown.
    """
    return [
        f"{one.feature.name} alone gives {name} away ({what}); check that it was known before the outcome, and is not "
        "made of it"
        for name, label in labels.items()
        for one in _not_ruled_out(columns, label)
        if (what := _gives_away(one.values, label, len(columns)))
    ] + [text for name, label in labels.items() for text in _known_because(columns, name, label)]


def _known_because(columns: Sequence[FeatureColumn], name: str, label: Values) -> Iterator[str]:
    """Features that are known of those with the event, or of those without it, and hardly of others."""
    known = ~np.isnan(label)
    if not known.any() or not _is_binary(label[known]):
        return
    groups: dict[bytes, list[FeatureColumn]] = {}
    for one in columns:
        if FEW <= len(one.known) <= len(one.values) - FEW:
            groups.setdefault(np.isnan(one.values).tobytes(), []).append(one)
    for group in groups.values():
        there = (~np.isnan(group[0].values[known])).astype(np.float64)
        if min(there.sum(), (1 - there).sum()) < FEW or label[known].sum() in (0, known.sum()):
            continue
        apart = float(_apart_by(there[np.newaxis], label[known], binary=True)[0])
        if apart > KNOWN_BECAUSE:
            names = ", ".join(one.feature.name for one in group[:5]) + " and others" * (len(group) > 5)
            yield (
                f"whether {names} is known gives {name} away (AUC {apart:.3f}): was it recorded because of the "
                "outcome? Then take it out"
            )


def _not_ruled_out(columns: Sequence[FeatureColumn], label: Values) -> list[FeatureColumn]:
    """Those that order a sample of the patients nearly as the label does: columns known of the same ones at once."""
    groups: dict[bytes, list[int]] = {}
    for index, one in enumerate(columns):
        groups.setdefault(np.isnan(one.values).tobytes(), []).append(index)
    left: list[int] = []
    for group in groups.values():
        known = np.flatnonzero(~np.isnan(columns[group[0]].values) & ~np.isnan(label))
        if len(known) >= FEW:
            few = known[:: max(1, len(known) // SAMPLE)]
            sample = np.stack([columns[index].values[few] for index in group])
            apart = _apart_by(sample, label[few], _is_binary(label[known]))
            left += np.array(group)[apart >= NEARLY_SAME].tolist()
    return [columns[index] for index in sorted(left)]


def _gives_away(values: Values, label: Values, tried: int) -> str:
    known = ~np.isnan(values) & ~np.isnan(label)
    values, label = values[known], label[known]
    if np.ptp(values) == 0 or np.ptp(label) == 0:
        return ""
    binary = _is_binary(label)
    if binary:
        positive = int(label.sum())
        rare = min(positive, len(label) - positive, 20)  # of more, the orders are beyond counting
        if 2 * tried > BY_CHANCE * math.comb(len(label), rare):  # a perfect order may be chance
            return ""
    apart = float(_apart_by(values[np.newaxis], label, binary)[0])
    limit = SAME_STEPS if binary and len(np.unique(values)) <= STEPS else SAME
    return f"{'AUC' if binary else 'correlation of ranks'} {apart:.3f}" if apart > limit else ""


def _is_binary(label: Values) -> bool:
    return bool(((label == 0) | (label == 1)).all())


def _apart_by(values: Values, label: Values, binary: bool) -> Values:
    """`(C,)`: how well the C rows of values order a label, from 0 to 1; 1 where either does not vary: it says nothing.

    Args:
        values: `(C, N)`, all known.
        label: `(N,)`.
        binary: Whether it is 0 and 1, for the area under the curve; else the correlation of ranks.
    """
    if np.ptp(label) == 0:
        return np.ones(len(values))
    ranks = rankdata(values, axis=1)
    if binary:
        positive = int(label.sum())
        over = ranks[:, label == 1].sum(axis=1) - positive * (positive + 1) / 2
        areas = over / (positive * (len(label) - positive))
        apart = np.maximum(areas, 1 - areas)
    else:
        centred, of_label = (one - (one.shape[-1] + 1) / 2 for one in (ranks, rankdata(label)))
        both = np.sqrt((centred**2).sum(axis=1) * (of_label**2).sum())
        apart = np.abs(centred @ of_label) / np.where(both > 0, both, 1.0)
    return np.where(np.ptp(values, axis=1) == 0, 1.0, apart)


def _unit(one: FeatureColumn) -> Iterator[str]:
    thing = known_feature(one.feature.name)
    usual = thing.median if thing else None
    if usual and len(one.known) >= FEW and not usual[0] <= one.median <= usual[1]:
        yield f"has a median that is not between {usual[0]:g} and {usual[1]:g}; check its unit, and `scale`"


def _rounded_to_tens(one: FeatureColumn) -> Iterator[str]:
    """A measured amount of which every value is a multiple of ten, as of ages in decades and sizes in whole cm."""
    thing = known_feature(one.feature.name)
    distinct, _ = one.distinct
    tens = len(one.known) >= 2 * FEW and len(distinct) > 3 and bool((distinct % 10 == 0).all())
    if thing and thing.is_amount and tens:
        yield "has only multiples of 10, as if it was rounded; give it as it was measured"


def _steps_for_counts(one: FeatureColumn) -> Iterator[str]:
    """The steps of a stage in place of a number of nodes: among so many patients some have more than three."""
    steps = one.distinct[0].tolist()
    counted = known_feature(one.feature.name) is KNOWN["nodes_positive"] and len(one.known) >= MANY_NODES
    if counted and steps == [0, 1, 2, 3][-len(steps) :]:
        yield "is nowhere above 3: steps of the N stage in place of numbers of nodes? Give the numbers"


def _implausible(one: FeatureColumn) -> Iterator[Suspicion]:
    thing = known_feature(one.feature.name)
    if thing and thing.plausible and one.column.range is None:
        low, high = thing.plausible
        outside = (one.values < low) | (one.values > high)
        if outside.any():
            where = f"outside {low:g} to {high:g} in {one.rows(outside)}"
            cure = f"correct the cells, or set `range: [{low:g}, {high:g}]` to take such values as missing"
            yield suspicion(f"lies {where}; {cure}", outside)


def _fractions(one: FeatureColumn) -> Iterator[Suspicion]:
    """Fractions among counts and steps: a share in place of a number, a mean of two readers, another column."""
    thing = known_feature(one.feature.name)
    if thing and (thing.ordinal or thing in _COUNTS) and (broken := one.values % 1 > 0).any():
        yield suspicion(f"is no whole number in {one.rows(broken)}; check the column and its `scale`", broken)


def _percentages(one: FeatureColumn) -> Iterator[str]:
    first = next(filter(None, one.cells.texts), "")  # all of a column have the sign, or none
    if first.endswith("%") and one.column.codes is None and not one.feature.categories:
        yield "is in percent: 20 % is read as 20, and not as 0.2"
