"""Subgroups of patients, in each of which a study's test patients are judged by themselves.

A study names columns of its hospitals' tables, a number with its ranges or a category::

    age_years: <50 | 50-70 | >70; scanner{ge|siemens}; er

A category that is one of the study's features needs no list. Each hospital maps the names to its own columns, as it
does for features; the network sees only what `features` lists. Who lies in none of the subgroups, or has no value, is
counted as one of the others, so that subgroups and others are all patients.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from shared_models.features import Feature, FloatArray, parse_feature
from shared_models.settings import SettingsError

OTHERS = "others"
MAX_SUBGROUPS = 30
"""Of one study: each is a set of statistics in a message, and of metrics in the results."""
_NUMBER = r"-?[0-9]+(?:\.[0-9]+)?"
_RANGE = re.compile(rf"(?P<sign><=|>=|<|>)\s*(?P<bound>{_NUMBER})|(?P<low>{_NUMBER})\s*-\s*(?P<high>{_NUMBER})")


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; an end that is `open` is not one of them."""

    low: float
    high: float
    low_open: bool = False
    high_open: bool = False

    def holds(self, values: FloatArray) -> NDArray[np.bool_]:
        """Which of `(N,)` values lie in it."""
        above = values > self.low if self.low_open else values >= self.low
        return above & (values < self.high if self.high_open else values <= self.high)


@dataclass(frozen=True)
class Grouping:
    """One column, and the subgroups that it divides patients into.

    Attributes:
        feature: The column, as a feature.
        names: Of the L subgroups.
        ranges: Of a number's subgroups; none of a category, whose subgroups are its categories.
    """

    feature: Feature
    names: tuple[str, ...]
    ranges: tuple[Range, ...] = ()

    @property
    def all_names(self) -> tuple[str, ...]:
        """Of the L subgroups, and of the others."""
        return (*self.names, OTHERS)

    def divide(self, values: FloatArray) -> NDArray[np.int64]:
        """The subgroup of each patient, `(N,)`, L for the others.

        Args:
            values: `(N,)`; a category is given by its index, a missing value as NaN.

        Example:
            >>> (age,) = parse_subgroups("age: <50 | 50-70 | >70")
            >>> age.divide(np.array([49.9, 50, 70, 71, np.nan])).tolist()
            [0, 1, 1, 2, 3]
        """
        inside = [each.holds(values) for each in self.ranges] or [values == index for index in range(len(self.names))]
        return np.asarray(np.argmax([*inside, np.ones(len(values), dtype=bool)], axis=0), dtype=np.int64)


def parse_subgroups(text: str, features: Iterable[Feature] | None = None) -> tuple[Grouping, ...]:
    """Reads `name: <50 | 50-70 | >70; category{a|b}; category`.

    Args:
        text: The setting.
        features: The study's, which say what categories a name has; None where they are not known yet.

    Raises:
        SettingsError: If a part cannot be read, ranges overlap, or a category's list is nowhere.
    """
    parts = [part.strip() for part in text.split(";") if part.strip()]
    groupings = tuple(_grouping(part, features) for part in parts)
    names = [grouping.feature.name for grouping in groupings]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        _refuse(f"{', '.join(twice)} is named twice; give each column once")
    if (many := sum(len(grouping.names) for grouping in groupings)) > MAX_SUBGROUPS:
        _refuse(f"{many} of them, expected at most {MAX_SUBGROUPS}")
    return groupings


def _grouping(part: str, features: Iterable[Feature] | None) -> Grouping:
    name, colon, ranges = part.partition(":")
    try:
        feature = parse_feature(name.strip())
    except SettingsError:
        _refuse(f"cannot read {part!r}; expected `name: <50 | 50-70 | >70`, or `name{{a|b}}`")
    if colon:
        if feature.categories:
            _refuse(f"{feature.name} has categories and ranges; expected one of them")
        texts = [text.strip().replace("≤", "<=").replace("≥", ">=") for text in ranges.split("|")]
        return Grouping(feature, tuple(texts), _ranges(feature.name, texts))
    known = feature.categories or _categories(feature.name, features)
    return Grouping(Feature(feature.name, known), known)


def _categories(name: str, features: Iterable[Feature] | None) -> tuple[str, ...]:
    if features is None:  # the list is asked for once the features are known
        return ()
    named = [feature for feature in features if feature.name == name]
    if not named:
        _refuse(f"{name} is none of the study's features; say its ranges, `{name}: <50 | >=50`, or `{name}{{a|b}}`")
    if not named[0].categories:
        _refuse(f"{name} is a number; say its ranges, as `{name}: <50 | 50-70 | >70`")
    return named[0].categories


def _ranges(name: str, texts: Sequence[str]) -> tuple[Range, ...]:
    """The ranges in their order; one that ends where the next begins does not hold that number."""
    read = [_range(name, text) for text in texts]
    ordered = sorted(read, key=lambda each: (each.low, each.high))
    fitted = []
    for each, after in zip(ordered, [*ordered[1:], Range(math.inf, math.inf)], strict=True):
        if each.high > after.low:
            _refuse(f"the ranges of {name} overlap; expected each number in one of them at most")
        meets = each.high == after.low and not after.low_open
        fitted.append((each, Range(each.low, each.high, each.low_open, each.high_open or meets)))
    return tuple(next(new for old, new in fitted if old is each) for each in read)


def _range(name: str, text: str) -> Range:
    match = _RANGE.fullmatch(text)
    if match is None:
        _refuse(f"cannot read {text!r} of {name}; expected `<50`, `50-70` or `>=70`")
    if match["sign"]:
        bound, strict = float(match["bound"]), len(match["sign"]) == 1
        less = match["sign"].startswith("<")
        return Range(-math.inf, bound, high_open=strict) if less else Range(bound, math.inf, low_open=strict)
    low, high = float(match["low"]), float(match["high"])
    if low >= high:
        _refuse(f"{text!r} of {name} ends before it begins; expected the smaller number first")
    return Range(low, high)


def _refuse(what: str) -> NoReturn:
    msg = f"subgroups: {what}"
    raise SettingsError(msg) from None
