"""Column matching for `init`: a hospital's columns guessed by name and values."""

from __future__ import annotations

import functools
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from client.onboarding.found_tables import FoundTable
from client.onboarding.vocabulary import (
    FILLERS,
    FOLLOW_UP,
    FOREIGN,
    KNOWN,
    NO,
    RECURRENCE,
    TIMES_DAYS,
    YES,
    plain,
    words,
)
from client.tables.number_formats import as_number
from client.tables.values import normal_code
from client.tables.words import is_missing_word
from shared_models.features import Feature

MAX_CODES = 12
MANY_COLUMNS = 500  # from which names must be the same: a gene is called as it is called
AGE = frozenset(("age", "alter"))  # a time since birth is none since the diagnosis
SENTINELS = frozenset(("-9", "-99", "-999", "-9999"))
BINARY = ("negative", "positive")
# From a hospital's unit to the study's: as it is, cm, a share, days of age, days from birth to the diagnosis below 0.
FACTORS = (1.0, 10.0, 100.0, 0.1, 1 / 365.25, -1 / 365.25)

Entry = dict[str, Any]


@dataclass(frozen=True)
class Guess:
    """A column for a feature or a target.

    Attributes:
        entry: As it stands in the YAML.
        score: How alike the names are.
        why: What to look at.
    """

    entry: Entry
    score: int
    why: str = ""


@functools.cache
def missing_codes(table: FoundTable) -> tuple[str, ...]:
    """Texts of a table that mean that nothing is known; beside a `+`, a `-` does not."""
    codes = set()
    for texts in table.columns.values():
        codes |= {text for text in set(texts) if is_missing_word(text)} - ({"-"} if "+" in texts else set())
        values = [as_number(text, table.decimal) for text in set(texts) - SENTINELS]  # type: ignore[arg-type]
        if SENTINELS & set(texts) and all(not value < 0 for value in values):
            codes |= SENTINELS & set(texts)
    signs = {"-"} if any("+" in texts for texts in table.columns.values()) else set()
    return tuple(sorted(codes - signs))


def guess(feature: Feature, table: FoundTable, taken: frozenset[str] = frozenset()) -> Guess | None:
    """The best column of a table for a feature, but for those taken, or None."""
    return next((one for one in _guesses(feature, table) if one.entry["column"] not in taken), None)


@functools.cache
def _guesses(feature: Feature, table: FoundTable) -> tuple[Guess, ...]:
    """The columns that a feature may be, the most likely first."""
    missing = set(missing_codes(table))
    guesses = []
    many = len(table.columns) > MANY_COLUMNS
    for name in _exactly(table).get(words(feature.name), ()) if many else table.columns:
        score, texts = likeness(feature.name, name), table.columns[name]
        if not score or name == table.patient_id:
            continue
        known = [text for text in texts if text and text not in missing]
        made = _category(feature, known) if feature.categories else _number(feature.name, known, table.decimal)
        if made is not None:
            entry, why = made
            guesses.append(Guess({"column": name, **entry}, score, why))
    return tuple(sorted(guesses, key=lambda one: -one.score))


@functools.cache
def _exactly(table: FoundTable) -> dict[tuple[str, ...], list[str]]:
    """The columns by the words of their names."""
    names: dict[tuple[str, ...], list[str]] = {}
    for name in table.columns:
        names.setdefault(words(name), []).append(name)
    return names


def likeness(wanted: str, column: str) -> int:
    """4: the same name, 3: a known other name, 2: a known name and more words, 0: nothing alike."""
    if words(wanted) == words(column):
        return 4
    names = KNOWN[wanted].names if wanted in KNOWN else ()
    compact = plain(column).replace(" ", "")
    if compact in {name.replace(" ", "") for name in (*names, *((plain(wanted),) if not names else ()))}:
        return 3
    there = set(words(column))
    more = {name: len(there - set(name.split()) - FILLERS) for name in names if set(name.split()) <= there}
    near = any(count <= (1 if " " not in name else 6) for name, count in more.items())
    return 2 if near and not there & FOREIGN else 0


def _number(name: str, texts: Sequence[str], decimal: str) -> tuple[Entry, str] | None:
    values = [as_number(text, decimal) for text in texts]  # type: ignore[arg-type]
    known = [value for value in values if math.isfinite(value)]
    words_there = sorted({text for text, value in zip(texts, values, strict=True) if not math.isfinite(value)})
    if len(known) < 0.9 * len(texts) or not known or len(words_there) > 5 or _too_few(name, known):
        return None
    entry: Entry = {}
    why = "the unit" if name in KNOWN else ""
    thing = KNOWN.get(name)
    if thing and thing.median:
        middle = statistics.median(known)
        factor = next((one for one in FACTORS if thing.median[0] <= one * middle <= thing.median[1]), 1.0)
        if factor != 1.0:
            entry["scale"], why = round(factor, 9), "the unit, guessed from the values"
    if often := _often(words_there, texts):
        entry["missing"], why = often, "whether these texts mean unknown"
    if thing and thing.plausible:
        entry["range"] = list(thing.plausible)
    return entry, why


def _too_few(name: str, known: Sequence[float]) -> bool:
    """Whether the values are codes rather than what is measured: few different ones among many."""
    measured = name in KNOWN and KNOWN[name].median is not None
    return len(set(known)) < min(7 if measured else 3, len(known) / 2)


def _often(wanted: Sequence[str], texts: Sequence[str]) -> list[str]:
    """Those of the texts that several patients have: one alone may be a name, and stands in no YAML."""
    return [text for text in wanted if texts.count(text) > 1]


def _category(feature: Feature, texts: Sequence[str]) -> tuple[Entry, str] | None:
    distinct = sorted(set(texts))
    if not distinct or len(distinct) > MAX_CODES:
        return None
    codes, unknown = code_meanings(distinct, feature.categories, count=feature.name == "nodes")
    if len(set(codes.values())) < min(2, len(distinct)) or 2 * len(unknown) > len(distinct):
        return None
    unknown = _often(unknown, texts)
    return {"codes": codes, **({"missing": unknown} if unknown else {})}, "the codes" + (
        ", and what the ones listed as missing mean" if unknown else ""
    )


def code_meanings(
    distinct: Sequence[str], categories: Sequence[str], *, count: bool = False
) -> tuple[dict[str, str], list[str]]:
    """What each text of a column means, and the texts of which nothing is known.

    Args:
        distinct: The texts.
        categories: What they may mean.
        count: Whether every number above 0 is positive, as of lymph nodes.
    """
    yes_no = tuple(categories) == BINARY
    one_two = yes_no and {normal_code(text) for text in distinct} == {"1", "2"}
    meanings = {
        text: (BINARY[int(text) - 1] if one_two else _yes_no(text, count=count) if yes_no else _named(text, categories))
        for text in distinct
    }
    codes = {text: meaning for text, meaning in meanings.items() if meaning}
    return codes, [text for text, meaning in meanings.items() if not meaning]


def _yes_no(text: str, *, count: bool) -> str:
    code = normal_code(text).lower()
    if count and re.fullmatch(r"\d+", code):
        return BINARY[int(code) > 0]
    first = re.split(r"[\s,;(]", code)[0] or code
    for one in (code, first):
        if one in NO or one in YES:
            return BINARY[one in YES]
    return ""


def _named(text: str, categories: Sequence[str]) -> str:
    compact = "".join(words(text))
    exact = [name for name in categories if compact in {"".join(words(part)) for part in (name, *name.split("_or_"))}]
    return exact[0] if len(exact) == 1 else ""


def outcome(table: FoundTable) -> tuple[Entry, str] | None:
    """An event with its times, where the table has one: `event`, `event_days`, `followup_days`."""
    events: list[tuple[str, dict[str, int]]] = []
    times: dict[str, list[Any]] = {"event_days": [], "followup_days": []}
    missing = set(missing_codes(table))
    for name, texts in table.columns.items():
        there = set(words(name))
        if there & AGE:
            continue
        known = [text for text in texts if text and text not in missing]
        units = [TIMES_DAYS[word] for word in words(name) if word in TIMES_DAYS]
        if units and (number := _number("", known, table.decimal)) and there & (RECURRENCE | FOLLOW_UP):
            entry = {"column": name, **number[0], **({"scale": units[0]} if units[0] != 1 else {})}
            times["followup_days" if there & FOLLOW_UP else "event_days"].append(entry)
        elif there & RECURRENCE and not there & FOLLOW_UP and 1 < len(set(known)) <= 3:
            codes, unknown = code_meanings(sorted(set(known)), BINARY)
            if len(set(codes.values())) == 2 and not unknown:
                events.append((name, {code: BINARY.index(meaning) for code, meaning in codes.items()}))
    if not events or not (times["event_days"] or times["followup_days"]):
        return None
    name, codes_of = min(events, key=lambda event: len(words(event[0])))
    either = times["event_days"] or times["followup_days"]
    entry = {"event": {"column": name, "codes": codes_of}}
    days: Mapping[str, list[Any]] = {key: columns or either for key, columns in times.items()}
    return entry | dict(days), "which code is the event, and that days are counted from the diagnosis"
