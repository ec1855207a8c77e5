"""Suspicions of single values of a column: those that may mean unknown, and one that is far too frequent."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from client.checks.feature_column import FEW, FeatureColumn, Values
from client.checks.suspicion import Suspicion, suspicion
from client.onboarding.vocabulary import KNOWN, known_feature, words

ZERO_APART = 2.0  # deviations between a 0 and the least other value, where a 0 is hardly measured
LEAST, SHARE, TIMES = 5, 0.05, 3  # patients with the most frequent value, of all patients, and of the next value's
GAP = 0.2  # of the range of all other values, between them and a frequent one at their end
NEIGHBOURS = 5  # different values on either side of one that stands out
CODE_SHARE = 0.01  # of all patients, who have a value that programs of statistics use for unknown
_CODE = re.compile(r"([789])\1+|99[0-9]")  # 77, 888, 9999, and a registry's 990 to 998
_NODE_CODES = (90.0, 95.0, 96.0, 97.0, 98.0, 99.0)  # of American registries: not examined, not counted, unknown
_NEGATIVE_SENTINELS = (-1.0, -7.0, -8.0, -9.0, -77.0, -88.0, -99.0, -777.0, -888.0, -999.0, -9999.0, -99999.0)
_SHARES = frozenset({"percent", "percentage", "pct", "prozent"})
_NEVER_ZERO = frozenset({"volume", "size", "diameter", "area", "weight", "age", "mm", "mm2", "mm3", "cm", "cm2", "cm3"})


def frequent_values(one: FeatureColumn) -> Iterator[Suspicion]:
    """Values of a column of numbers that may mean that nothing is known."""
    placeholders = list(dict.fromkeys(_placeholders(one)))
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


def spikes(values: Values, counts: NDArray[np.int64]) -> Iterator[float]:
    """Values that several times as many patients have as any value about them, and that no rounding explains.

    Multiples of five are frequent where a person reads a scale, and the lowest where most have little of
    something; 99 and 777 are codes for unknown, 29.33 a mean that was filled in; a frequent highest value is a limit.

    Args:
        values: `(K,)`, different and ascending.
        counts: `(K,)`, how many patients have each.
    """
    total = counts.sum()
    for at in np.flatnonzero(counts >= max(LEAST, CODE_SHARE * total)).tolist() if len(values) > FEW else ():
        around = np.delete(counts[max(at - NEIGHBOURS, 0) : at + NEIGHBOURS + 1], min(at, NEIGHBOURS))
        if counts[at] <= TIMES * around.max():
            continue
        text, often = f"{abs(values[at]):.10g}", counts[at] >= SHARE * total
        if _CODE.fullmatch(text) or (often and at and (at == len(values) - 1 or text[-1] not in "05")):
            yield float(values[at])


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
    if known_feature(one.feature.name) in (KNOWN["nodes_positive"], KNOWN["nodes_examined"]):
        yield from (value for value in _NODE_CODES if value in known)
    if known[0] != 0 or known[1] == 0 or len(known) <= FEW:
        return
    if known[1] > ZERO_APART * float(one.written[one.written > 0].std()):
        yield 0.0


def _too_frequent(one: FeatureColumn) -> Iterator[float]:
    """A value of many different ones that several times as many patients have as any other; 0 only of what has none."""
    values, counts = one.distinct
    if len(values) <= FEW or counts.max() < max(LEAST, CODE_SHARE * counts.sum()):
        return
    frequent = counts >= max(LEAST, SHARE * counts.sum())
    named = set(words(one.feature.name))
    thing = known_feature(one.feature.name)
    no_zero = (thing and thing.is_amount) or named & _NEVER_ZERO
    most, next_most = np.argsort(counts)[[-1, -2]]
    far = [0] * int(values[1] - values[0] > GAP * (values[-1] - values[1]))
    far += [len(values) - 1] * int(values[-1] - values[-2] > GAP * (values[-2] - values[0]))
    suspects = [int(most)] * int(counts[most] > TIMES * counts[next_most]) + far
    often = [float(values[at]) for at in dict.fromkeys(suspects) if frequent[at] and (values[at] != 0 or no_zero)]
    whole = 100.0 if named & _SHARES or "%" in one.column.column else math.nan  # all cells
    yield from dict.fromkeys([*often, *(value for value in spikes(values, counts) if value not in (0, whole))])
