"""Suspicions of numbers that are not as they were measured: logarithms, signs, values rescaled or rounded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from client.checks.feature_column import FEW, FeatureColumn
from client.checks.suspicion import Suspicion, suspicion
from client.onboarding.vocabulary import known_feature, words

MAX_LOGARITHM = 50.0  # no logarithm of an expression reaches it; counts, TPM and FPKM do
STANDARD = 0.01  # how near to 0 and 1 a standardised column's mean and deviation are, after rounding
CENTRED = 0.001  # deviations between 0 and the mean of what was centred, after rounding
_AMOUNTS = frozenset(
    {
        *("volume", "size", "diameter", "area", "weight", "age", "count", "percent"),
        *("mm", "mm2", "mm3", "cm", "cm2", "cm3"),
    }
)
_GENE = re.compile(
    r"[A-Z][A-Z0-9]{2,}(?:[-.][A-Z0-9]+)*|ENSG\d{11}(?:\.\d+)?|(?:hsa-)?(?:mir|let)-.*|(?:expr|m?rna|mirna|gene)_\d+",
    re.ASCII,
)
_ROUNDED = re.compile(r"\d(?:[.,]\d)?[eE][+-]?\d+")  # as spreadsheets show what does not fit its cell


def rescaled(one: FeatureColumn) -> Iterator[Suspicion]:
    """What says that a column of numbers is not as it was measured."""
    yield from map(Suspicion, (*_logarithms(one), *_rescaled_here(one)))
    yield from _negative_amounts(one)
    if not one.cells.letters & {"e", "E"}:
        return
    rounded = np.array([_ROUNDED.fullmatch(text) is not None for text in one.cells.texts])
    if rounded.sum() >= 3:
        text = f"is rounded to two digits in {one.rows(rounded)}, as 2E+04; export the numbers and not what is shown"
        yield suspicion(text, rounded)


def _logarithms(one: FeatureColumn) -> Iterator[str]:
    """An expression that is not logged where a study means logarithms, or logged where the study takes them."""
    thing, known = known_feature(one.feature.name), one.known
    if one.feature.log and known.min(initial=0.0) < 0:
        yield "is below 0 in some rows, and the study takes its logarithm: they count as 0; give values from 0 on"
    if (thing and thing.plausible) or not is_gene(one) or len(known) < FEW:
        return
    if one.feature.log:
        low, high = float(known[0]), float(known[-1])
        if low > 1 and high < min(MAX_LOGARITHM / 2, 5 * low):
            yield "looks like logarithms, of which the study takes the logarithm again; give the values themselves"
    elif known[-1] > MAX_LOGARITHM and (_named_by_number(_names(one)) or known.mean() > 1.1 * one.median):
        yield f"has values above {MAX_LOGARITHM:g}, as counts and TPM have; if the study means logarithms, give those"


def is_gene(one: FeatureColumn) -> bool:
    """Whether a feature or its column has a gene's name."""
    return any(map(_GENE.fullmatch, _names(one)))


def _names(one: FeatureColumn) -> tuple[str, str]:
    return one.feature.name, one.column.column


def _named_by_number(names: Sequence[str]) -> bool:
    """Whether a name is a gene's, such as ESR1, and no word in capitals, such as WEIGHT."""
    return any(_GENE.fullmatch(name) and any(letter.isdigit() for letter in name) for name in names)


def _negative_amounts(one: FeatureColumn) -> Iterator[Suspicion]:
    if one.column.range is None and set(words(one.feature.name)) & _AMOUNTS and (negative := one.values < 0).any():
        yield suspicion(f"is negative in {one.rows(negative)}; correct the cells, or set a `range` from 0", negative)


def _rescaled_here(one: FeatureColumn) -> Iterator[str]:
    """Values that were standardised, centred or scaled to 0 to 1 by the site's own patients."""
    known = one.known
    if len(one.distinct[0]) < FEW:
        return
    mean, deviation = known.mean(), known.std()
    if max(abs(mean), abs(deviation - 1)) <= STANDARD and abs(known.std(ddof=1) - 1) <= STANDARD:
        yield "has mean 0 and deviation 1, as if standardised at this site alone; give it as it was measured"
    elif known[0] < 0 and min(abs(mean), abs(one.median)) < CENTRED * deviation:
        yield "has mean or median 0, as if centred at this site alone; give it as it was measured"
    elif (known[0], known[-1]) == (0, 1):
        yield "goes from 0 to 1 exactly, as if rescaled at this site alone; give it as it was measured"
