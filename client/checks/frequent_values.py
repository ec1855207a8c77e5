"""Suspicions of single values of a column: those that may mean unknown, and one that is far too frequent."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from client.checks.feature_column import FEW, FeatureColumn
from client.checks.suspicion import Suspicion, suspicion
from client.onboarding.vocabulary import known_feature, words

ZERO_APART = 2.0  # deviations between a 0 and the least other value, where a 0 is hardly measured
LEAST, SHARE, TIMES = 5, 0.05, 3  # patients with the most frequent value, of all patients, and of the next value's
GAP = 0.2  # of the range of all other values, between them and a frequent one at their end
_NEGATIVE_SENTINELS = (-1.0, -7.0, -8.0, -9.0, -77.0, -88.0, -99.0, -777.0, -888.0, -999.0, -9999.0, -99999.0)
_NEVER_ZERO = frozenset({"volume", "size", "diameter", "area", "weight", "age", "mm", "mm2", "mm3", "cm", "cm2", "cm3"})


def frequent_values(one: FeatureColumn) -> Iterator[Suspicion]:
    """Values of a column of numbers that may mean that nothing is known."""
    placeholders = list(_placeholders(one))
    for value in placeholders:
        there = one.written == value
        text = f"is {value:g} in {one.rows(there)}; if that means unknown, add `missing: [{value:g}]` to the column"
        yield suspicion(text, there)
    for value in _too_frequent(one):
        if value not in placeholders:
            there = one.written == value
            text = (
                f"is {value:g} in {one.rows(there)}, far more often than any other value: unknown, filled in, or a "
                f"limit of what was measured? If unknown, add `missing: [{value:g}]` to the column"
            )
            yield suspicion(text, there)


def _placeholders(one: FeatureColumn) -> Iterator[float]:
    """9999 above all others, -1 or -99 where nothing else is negative, a 0 far below all others."""
    known, _ = one.distinct
    if len(known) < 3:
        return
    highest, rest = known[-1], known[:-1]
    apart = highest - rest[-1] > (rest[-1] - rest[0]) / 2 or highest >= 999
    if apart and highest > 9 and highest.is_integer() and set(str(int(highest))) == {"9"}:
        yield float(highest)
    if known[0] in _NEGATIVE_SENTINELS and known[1] >= 0:
        yield float(known[0])
    if known[0] == 0 and len(known) > FEW and known[1] > ZERO_APART * float(one.written[one.written > 0].std()):
        yield 0.0


def _too_frequent(one: FeatureColumn) -> Iterator[float]:
    """A value of many different ones that several times as many patients have as any other; 0 only of what has none."""
    values, counts = one.distinct
    frequent = counts >= max(LEAST, SHARE * counts.sum())
    if len(values) <= FEW or not frequent.any():
        return
    thing = known_feature(one.feature.name)
    no_zero = (thing and thing.median) or set(words(one.feature.name)) & _NEVER_ZERO
    most, next_most = np.argsort(counts)[[-1, -2]]
    far = [0] * int(values[1] - values[0] > GAP * (values[-1] - values[1]))
    far += [len(values) - 1] * int(values[-1] - values[-2] > GAP * (values[-2] - values[0]))
    suspects = [int(most)] * int(counts[most] > TIMES * counts[next_most]) + far
    yield from (float(values[at]) for at in dict.fromkeys(suspects) if frequent[at] and (values[at] != 0 or no_zero))
