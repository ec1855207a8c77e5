"""Column matching for `init`: a hospital's columns guessed by name and values."""

from __future__ import annotations

import functools
import re
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from client.onboarding.code_meanings import BINARY, binary_codes, is_unknown, named_codes, step_codes
from client.onboarding.column_texts import day_zero, known_texts, numbers_of
from client.onboarding.outcome_words import is_after_diagnosis
from client.onboarding.table_discovery import DiscoveredTable
from client.onboarding.vocabulary import (
    FILLERS,
    FOREIGN,
    IDENTIFIER,
    KNOWN,
    REMARKS,
    SCANNER,
    category_name,
    feature_name,
    plain,
    words,
)
from client.tables.date_forms import date_form
from shared_models.features import Feature

MAX_CODES, MAX_OWN_CODES = 12, 20
MANY_COLUMNS = 500  # from which names must be the same: a gene is called as it is called
MIN_KNOWN = 10  # of a column that no study is known to ask for
MANY_ROWS = 50  # among which a text of one patient is a rare category, and no name
# From a hospital's unit to the study's: as it is, cm, a share, days of age, days from birth to the diagnosis below 0.
FACTORS = (1.0, 10.0, 100.0, 0.1, 1 / 365.25, -1 / 365.25)
_PARTS = frozenset(("train", "training", "test", "testing", "validation", "valid", "val", "dev", "holdout"))
_MEASURES = frozenset(("log2", "tpm", "fpkm", "rpkm", "mrna", "expression", "expr"))  # after a gene's symbol
GENE = re.compile(r"[A-Z][A-Z0-9]{2,}(?:[-.][A-Z0-9]+)*", re.ASCII)

Entry = dict[str, Any]


@dataclass(frozen=True)
class Guess:
    """A column for a feature or a target.

    Attributes:
        entry: As it stands in the YAML.
        score: How alike the names are; 1 for a column under its own name.
        why: What to check.
        categories: What a study lists it with; empty for a number.
    """

    entry: Entry
    score: int
    why: str = ""
    categories: tuple[str, ...] = ()


@functools.cache
def guesses(feature: Feature, table: DiscoveredTable) -> tuple[Guess, ...]:
    """The columns of a table that a feature may be, the most likely first."""
    candidates = []
    many = len(table.columns) > MANY_COLUMNS
    for name in _exactly(table).get(words(feature.name), ()) if many else table.columns:
        score = likeness(feature.name, name)
        if not score or name == table.patient_id or (GENE.fullmatch(feature.name) and not _may_be_gene(name, table)):
            continue
        known = known_texts(table, name)
        made = (
            _category(feature, known) if feature.categories else _number(feature.name, name, known, table.decimal)
        ) or _age(feature.name, name, table)
        if made is not None:
            entry, why = made
            candidates.append(Guess({"column": name, **entry}, score, why, feature.categories))
    return tuple(sorted(candidates, key=lambda one: -one.score))


def _may_be_gene(column: str, table: DiscoveredTable) -> bool:
    """Whether a column may hold expression: `pgr` among clinical columns is the receptor's amount."""
    return not column.islower() or all(name.islower() for name in table.columns if name != table.patient_id)


@functools.cache
def _exactly(table: DiscoveredTable) -> dict[tuple[str, ...], list[str]]:
    """The columns by the words of their names."""
    columns: dict[tuple[str, ...], list[str]] = {}
    for name in table.columns:
        columns.setdefault(words(name), []).append(name)
    return columns


def likeness(wanted: str, column: str) -> int:
    """4: the same name, 3: a known other name, 2: a known name and more words, 0: nothing alike."""
    if words(wanted) == words(column):
        return 4
    if GENE.fullmatch(wanted) and words(wanted) == tuple(word for word in words(column) if word not in _MEASURES):
        return 3
    names = KNOWN[wanted].names if wanted in KNOWN else ()
    compact = plain(column).replace(" ", "")
    if compact in {name.replace(" ", "") for name in (*names, *((plain(wanted),) if not names else ()))}:
        return 3
    there = set(words(column))
    more = {
        name: len(there - set(name.split()) - FILLERS) for name in names if len(name) > 1 and set(name.split()) <= there
    }
    near = any(count <= (1 if " " not in name else 6) for name, count in more.items())
    return 2 if near and not there & FOREIGN else 0


def _number(name: str, column: str, texts: Sequence[str], decimal: str) -> tuple[Entry, str] | None:
    thing = KNOWN.get(name)
    parsed = numbers_of(texts, decimal)
    values = parsed[0] if parsed else []
    if thing and thing.ordinal and not (set(values) <= set(range(5)) and len(set(values)) > 2):
        return None if values else _steps(name, texts)
    if parsed is None or _too_few(name, values):
        return None
    _, words_there, percent = parsed
    entry: Entry = {}
    why = "the unit" if name in KNOWN and not (thing and thing.ordinal) else ""
    if thing and thing.median and thing.is_amount:
        middle = statistics.median(values)
        factor = next((one for one in FACTORS if thing.median[0] <= one * middle <= thing.median[1]), 1.0)
        if factor != 1.0 and not percent:
            entry["scale"], why = round(factor, 9), "the unit, guessed from the values"
        elif name == "size_mm" and factor == 1.0 and "cm" in words(column):
            entry["scale"], why = 10.0, "the unit: the column's name says cm"
    if often := _often(words_there, texts):
        entry["missing"], why = often, "whether these texts mean unknown"
    if thing and thing.plausible:
        entry["range"] = list(thing.plausible)
    return entry, why


def _steps(name: str, texts: Sequence[str]) -> tuple[Entry, str] | None:
    distinct = sorted(set(texts))
    codes, unknown = step_codes(name, distinct)
    if len(set(codes.values())) < min(2, len(distinct)) or 2 * len(unknown) > len(distinct):
        return None
    left = [text for text in unknown if is_unknown(text) or texts.count(text) > 1]
    return {"codes": codes, **({"missing": left} if left else {})}, "the codes"


def _age(name: str, column: str, table: DiscoveredTable) -> tuple[Entry, str] | None:
    """The age of a date of birth, where another column has the day of the diagnosis."""
    if name != "age_years" or not date_form(texts := known_texts(table, column)):
        return None
    start = day_zero(table)
    form = date_form([*texts, *known_texts(table, start)]) if start else ""
    if not form or start == column:
        return None
    entry: Entry = {"column": start, "since": column, "scale": round(1 / 365.25, 9), "range": [15, 110]}
    return entry | ({"date": form} if form != "iso" else {}), "that age is counted to this date"


def _too_few(name: str, known: Sequence[float]) -> bool:
    """Whether the values are codes rather than what is measured: few different ones among many."""
    thing = KNOWN.get(name)
    least = 1 if thing and thing.ordinal else 7 if thing and thing.is_amount else 3
    return len(set(known)) < min(least, len(known) / 2)


def _often(wanted: Sequence[str], texts: Sequence[str]) -> list[str]:
    """Those of the texts that several patients have: one alone may be a name, and is written in no YAML."""
    return [text for text in wanted if texts.count(text) > 1]


def _category(feature: Feature, texts: Sequence[str]) -> tuple[Entry, str] | None:
    distinct = sorted(set(texts))
    if not distinct or len(distinct) > MAX_CODES:
        return None
    if feature.categories == BINARY:
        codes, unknown = binary_codes(feature.name, distinct)
    else:
        codes, unknown = named_codes(distinct, feature.categories)
    if len(set(codes.values())) < min(2, len(distinct)) or 2 * len(unknown) > len(distinct):
        return None
    unknown = [text for text in unknown if is_unknown(text) or texts.count(text) > 1]
    return {"codes": codes, **({"missing": unknown} if unknown else {})}, "the codes" + (
        ", and what the ones listed as missing mean" if unknown else ""
    )


def under_own_name(name: str, table: DiscoveredTable) -> tuple[str, Guess] | str:
    """A column that no study is known to ask for, as a feature of its own name; or why it is none."""
    own, texts = feature_name(name), known_texts(table, name)
    counts = Counter(texts)
    if len(texts) < min(MIN_KNOWN, len(table.columns[name]) / 2):
        return f"is known of {len(texts)} of {len(table.columns[name])} rows"
    if not own:
        return "has a name without letters"
    if set(words(name)) & SCANNER:
        return "is the scanner's, and not the patient's"
    if set(words(name)) & REMARKS:
        return "holds remarks in free text"
    if is_after_diagnosis(name):
        return "is known after the diagnosis, and would give the outcome away"
    if len(counts) == 1:
        return "is the same in every row"
    parsed = numbers_of(texts, table.decimal)
    if date_form(texts) and not (parsed and not parsed[1]):
        return "holds dates"
    if set(map(str.lower, counts)) <= _PARTS or {text.rpartition("_")[0].lower() for text in counts} <= _PARTS:
        return "names a split; to take it, see `split` in example.yaml"
    if set(words(name)) & IDENTIFIER and len(counts) > MAX_CODES:
        return "names somebody or something"
    if parsed is not None:
        return _own_number(name, own, parsed[0], parsed[1], texts)
    if any("/" in text and len(text) > 40 for text in texts[:50]):
        return "holds paths"
    return _own_category(own, name, counts)


def _own_number(
    name: str, own: str, values: Sequence[float], others: Sequence[str], texts: Sequence[str]
) -> tuple[str, Guess] | str:
    whole = all(value.is_integer() for value in values)
    if whole and len(set(values)) == len(values) > MAX_CODES and max(values) - min(values) == len(values) - 1:
        return "counts the rows"
    if whole and min(values) > 1900 and max(values) < 2100:
        return "is a year of the calendar"
    left = _often(others, texts)
    if len(left) < len(others):
        return "has words among its numbers"
    entry = {"column": name, **({"missing": left} if left else {})}
    few = whole and 2 < len(set(values)) <= MAX_CODES
    why = ["that its numbers are amounts; codes of kinds need `codes` to texts"] * few
    return own, Guess(entry, 1, ", and ".join([*why, *["whether these texts mean unknown"] * bool(left)]))


def _own_category(own: str, name: str, counts: Counter[str]) -> tuple[str, Guess] | str:
    """A column of texts; where there are many rows, of some more of them."""
    alone = [text for text, count in counts.items() if count == 1 and not is_unknown(text)]
    if len(counts) > (MAX_CODES if counts.total() < 4 * MANY_ROWS else MAX_OWN_CODES):
        return f"has {len(counts)} different texts"
    if alone and counts.total() < MANY_ROWS:
        return "has texts of one patient alone"
    unknown = sorted(text for text in counts if is_unknown(text))
    distinct = sorted(set(counts) - set(unknown))
    missing = {"missing": unknown} if unknown else {}
    yes_no, odd = binary_codes(own, distinct)
    if len(distinct) == 2 and not odd and len(set(yes_no.values())) == 2:
        codes: dict[str, Any] = {text: BINARY.index(meaning) for text, meaning in yes_no.items()}
        return own, Guess({"column": name, "codes": codes, **missing}, 1, "the codes")
    slugs = {text: category_name(text) for text in distinct}
    if not all(slugs.values()) or len(set(slugs.values())) < max(2, len(distinct)):
        return "has texts that make no names of categories"
    return own, Guess({"column": name, "codes": slugs, **missing}, 1, "the codes", tuple(slugs.values()))
