"""Suspicions of a feature's column as a whole, each with its cure: units, placeholders, constants, the outcome."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from client.contract.cells import Cells
from client.contract.columns import Column
from client.errors import named_rows
from client.onboarding.vocabulary import known_feature, words
from client.tables.dates import as_day, two_digit_years
from shared_models.features import Feature

Values = NDArray[np.float64]

FEW = 10  # values from which a column says something
MAX_LOGARITHM = 50.0  # no logarithm of an expression reaches it; counts, TPM and FPKM do
GROUPS_APART, ONE_APART = 4.0, 10.0  # factors between two groups of values, and between a few values and the rest
WRITING_APART = 30.0  # factor between the medians of numbers with decimals and without
WHOLE = 1e-9
ZERO_APART = 2.0  # deviations between a 0 and the least other value, where a 0 is hardly measured
STANDARD = 0.01  # how near to 0 and 1 a standardised column's mean and deviation are, after rounding
SAME = 0.99  # an area under the curve, or a correlation of ranks, that no single measurement reaches honestly
SAMPLE, NEARLY_SAME = 400, 0.9  # rows that are looked at first, of which less than this rules the rest out
BY_CHANCE = 0.01
_NEGATIVE_SENTINELS = (-1.0, -7.0, -8.0, -9.0, -77.0, -88.0, -99.0, -777.0, -888.0, -999.0, -9999.0, -99999.0)
_AMOUNTS = frozenset(
    {
        *("volume", "size", "diameter", "area", "weight", "age", "count", "percent"),
        *("mm", "mm2", "mm3", "cm", "cm2", "cm3"),
    }
)
_GENE = re.compile(r"[A-Z][A-Z0-9]{2,}(?:[-.][A-Z0-9]+)*|ENSG\d{11}(?:\.\d+)?|(?:hsa-)?(?:mir|let)-.*", re.ASCII)


@dataclass(frozen=True)
class FeatureColumn:
    """A feature as one site has it.

    Attributes:
        feature: As the study lists it.
        column: Where it stands.
        cells: Its R cells.
        values: `(R,)` in the study's unit, NaN where missing; a category stands as its index.
    """

    feature: Feature
    column: Column
    cells: Cells
    values: Values

    @functools.cached_property
    def known(self) -> Values:
        """The values there are, in their order."""
        return np.sort(self.values[~np.isnan(self.values)])

    def rows(self, chosen: NDArray[np.bool_]) -> str:
        """The rows of some values, for messages."""
        return named_rows([self.cells.rows[index] for index in np.flatnonzero(chosen)])


def column_warnings(columns: Sequence[FeatureColumn]) -> list[str]:
    """What looks wrong in a table's columns, each alone, with what to do about it."""
    return [text for one in columns for text in _column_warnings(one)]


def _column_warnings(one: FeatureColumn) -> list[str]:
    warnings = [*_dates(one), *_percentages(one)]
    if one.column.codes is None and not one.feature.categories:
        warnings += [
            *_unit(one),
            *_implausible(one),
            *_sentinels(one),
            *(_apart(one) or _two_ways_of_writing(one)),
            *_logarithms(one),
            *_signs(one),
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


def _sentinels(one: FeatureColumn) -> Iterator[str]:
    """Numbers that stand for a missing value: 9999 above all others, -1 or -99 where nothing else is negative."""
    written = np.round((one.values - one.column.offset) / one.column.scale, 6)
    known = np.unique(written[~np.isnan(written)])
    if len(known) < 3:
        return
    highest, rest = known[-1], known[:-1]
    apart = highest - rest[-1] > np.ptp(rest) / 2 or highest >= 999
    nines = highest > 9 and highest.is_integer() and set(str(int(highest))) == {"9"}
    suspects = [highest] if nines and apart else []
    if known[0] in _NEGATIVE_SENTINELS and known[1] >= 0:
        suspects.append(known[0])
    if known[0] == 0 and len(known) > FEW and known[1] > ZERO_APART * float(written[written > 0].std()):
        suspects.append(0.0)
    for value in suspects:
        rows = one.rows(written == value)
        yield f"is {value:g} in {rows}; if that means unknown, add `missing: [{value:g}]` to the column"


def _apart(one: FeatureColumn) -> list[str]:
    """Values in two groups a factor apart, as of two units in one column."""
    known = one.known[one.known > 0]
    if len(known) < FEW or len(known) < len(one.known) / 2 or known[0] == known[-1]:
        return []
    steps = np.log10(known[1:]) - np.log10(known[:-1])
    at = int(steps.argmax())
    low, high = known[: at + 1], known[at + 1 :]
    few, many = sorted((low, high), key=len)
    group = len(few) >= max(3, len(known) / 10) and steps[at] > math.log10(GROUPS_APART)
    span = math.log10(many[-1] / many[0])
    alone = steps[at] > max(math.log10(ONE_APART), span if few is high else 2 * span)  # anything may come close to 0
    if not (group or alone):
        return []
    rows, far = one.rows(np.isin(one.values, few)), f"{low[-1]:g} and {high[0]:g}"
    return [f"has no values between {far}: {rows} may be in another unit, or mistyped; check them"]


def _two_ways_of_writing(one: FeatureColumn) -> Iterator[str]:
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
            yield (
                f"is {high / low:.0f} times as high where it is written without decimals, as in {one.rows(~fraction)}; "
                "the two may be in different units: check them"
            )


def _logarithms(one: FeatureColumn) -> Iterator[str]:
    """An expression that is not logged where a study means logarithms, or logged where the study takes them."""
    names, thing, known = (one.feature.name, one.column.column), known_feature(one.feature.name), one.known
    if one.feature.log and known.min(initial=0.0) < 0:
        yield "is below 0 in some rows, and the study takes its logarithm: they count as 0; give values from 0 on"
    if (thing and thing.plausible) or not any(map(_GENE.fullmatch, names)) or len(known) < FEW:
        return
    if one.feature.log:
        low, high = float(known.min()), float(known.max())
        if low > 1 and high < min(MAX_LOGARITHM / 2, 5 * low):
            yield "looks like logarithms, of which the study takes the logarithm again; give the values themselves"
    elif known.max() > MAX_LOGARITHM and (_named_by_number(names) or known.mean() > 1.1 * np.median(known)):
        yield f"has values above {MAX_LOGARITHM:g}, as counts and TPM have; if the study means logarithms, give those"


def _named_by_number(names: Sequence[str]) -> bool:
    """Whether a name is a gene's, such as ESR1, and no word in capitals, such as WEIGHT."""
    return any(_GENE.fullmatch(name) and any(letter.isdigit() for letter in name) for name in names)


def _signs(one: FeatureColumn) -> Iterator[str]:
    """Negative amounts of what has none, and values that were standardised at the site."""
    if one.column.range is None and set(words(one.feature.name)) & _AMOUNTS and (negative := one.values < 0).any():
        yield f"is negative in {one.rows(negative)}; correct the cells, or set a `range` from 0"
    known = one.known
    if len(known) < FEW or max(abs(known.mean()), abs(known.std() - 1), abs(known.std(ddof=1) - 1)) > STANDARD:
        return
    yield "has mean 0 and deviation 1, as if standardised at this site alone; give it as it was measured"


def _percentages(one: FeatureColumn) -> Iterator[str]:
    first = next(filter(None, one.cells.texts), "")  # all of a column have the sign, or none
    if first.endswith("%") and one.column.codes is None and not one.feature.categories:
        yield "is in percent: 20 % is read as 20, and not as 0.2"


def _dates(one: FeatureColumn) -> Iterator[str]:
    if one.cells.since is None:
        return
    if two_digit_years(one.column.date):
        yield "has years of two digits: 69 to 99 are read as 1969 to 1999, 00 to 68 as 2000 to 2068; write four"
    for cells in (one.cells, one.cells.since):
        days = [as_day(text, one.column.date) for text in cells.texts if text]
        of_month = {date.fromordinal(int(day)).day for day in days}
        if len(days) >= FEW and len(set(days)) == 1:
            yield f"has one and the same date for every patient in {cells.where}; check that it is the right column"
        if len(days) >= FEW and max(of_month) <= 12 and len(of_month) > 3:
            yield f"has no date after the 12th of a month in {cells.where}; day and month may be swapped: check `date`"
