"""Suspicions of two units in one column: a gap between its values, two ways of writing, two groups ten times apart."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from client.checks.feature_column import FEW, FeatureColumn
from client.checks.suspicion import Suspicion, suspicion
from client.checks.two_groups import two_groups
from client.onboarding.vocabulary import known_feature, words

GROUPS_APART, ONE_APART = 4.0, 10.0  # factors between two groups of values, and between a few values and the rest
WRITING_APART = 30.0  # factor between the medians of numbers with decimals and without
WHOLE = 1e-9
TENFOLD = (6.0, 16.0)  # between the means of two groups


def two_units(one: FeatureColumn) -> Iterator[Suspicion]:
    """What says that a column of numbers may be in two units."""
    yield from _apart(one) or list(_two_ways_of_writing(one)) or _tenfold(one)


def _apart(one: FeatureColumn) -> list[Suspicion]:
    """Values in two groups a factor apart, as of two units in one column."""
    known = one.known[np.searchsorted(one.known, 0.0, side="right") :]
    if len(known) < FEW or len(known) < len(one.known) / 2 or known[0] == known[-1]:
        return []
    if (known[1:] < GROUPS_APART * known[:-1]).all():  # logarithms cost more, and no step is so large
        return []
    logarithms = np.log10(known)
    steps = logarithms[1:] - logarithms[:-1]
    at = int(steps.argmax())
    low, high = known[: at + 1], known[at + 1 :]
    few, many = sorted((low, high), key=len)
    group = len(few) >= max(3, len(known) / 10) and steps[at] > math.log10(GROUPS_APART)
    span = math.log10(many[-1] / many[0])
    alone = steps[at] > max(math.log10(ONE_APART), span if few is high else 2 * span)  # anything may come close to 0
    if not (group or alone):
        return []
    there, far = np.isin(one.values, few), f"{low[-1]:g} and {high[0]:g}"
    text = f"has no values between {far}: {one.rows(there)} may be in another unit, or mistyped; check them"
    return [suspicion(text, there)]


def _two_ways_of_writing(one: FeatureColumn) -> Iterator[Suspicion]:
    """Numbers with decimals that are far below those without: two people, or two programs, with two units."""
    written = (one.known - one.column.offset) / one.column.scale
    if np.count_nonzero(np.abs(written - np.round(written)) < WHOLE) < max(3, len(written) / 10):
        return
    fraction = np.array([one.cells.decimal in text for text in one.cells.texts])
    with_decimals, whole = (np.abs(one.values[(one.values != 0) & chosen]) for chosen in (fraction, ~fraction))
    groups = [group[~np.isnan(group)] for group in (with_decimals, whole)]
    if min(map(len, groups)) >= max(3, len(one.known) / 10) and len(one.known) >= FEW:
        low, high = (float(np.median(group)) for group in groups)
        if high > WRITING_APART * low:
            text = (
                f"is {high / low:.0f} times as high where it is written without decimals, as in {one.rows(~fraction)}; "
                "the two may be in different units: check them"
            )
            yield suspicion(text, ~fraction)


def _tenfold(one: FeatureColumn) -> list[Suspicion]:
    """Two groups of a known amount, one ten times the other, as of sizes in mm and in cm, though no gap is between."""
    thing = known_feature(one.feature.name)
    if not thing or not thing.is_amount or "percent" in words(one.feature.name):  # 2 % among 20 % is an honest value
        return []
    groups = two_groups(np.log10(one.known[one.known > 0]))
    if groups is None or not TENFOLD[0] < 10 ** (groups.high - groups.low) < TENFOLD[1]:
        return []
    limit = 10**groups.limit
    few = one.values > limit if groups.few_are_high else (one.values > 0) & (one.values < limit)
    text = (
        f"has two groups of values, about {10**groups.low:.3g} and {10**groups.high:.3g}: {one.rows(few)} may be in "
        "another unit, as cm among mm; check them"
    )
    return [suspicion(text, few)]
