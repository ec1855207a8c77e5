"""Outcome matching for `init`: an event with its times, as numbers in some unit or as pairs of dates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from client.onboarding.code_meanings import BINARY, binary_codes, is_unknown
from client.onboarding.column_texts import day_zero, known_texts, numbers_of
from client.onboarding.outcome_words import (
    AGE,
    TIMES,
    TIMES_DAYS,
    speaks_of_death,
    speaks_of_follow_up,
    speaks_of_recurrence,
)
from client.onboarding.table_discovery import DiscoveredTable
from client.onboarding.vocabulary import words
from client.tables.date_forms import date_form

_GENERIC_EVENTS, _GENERIC_TIMES = frozenset(("event", "status", "e", "delta")), frozenset(("time", "t", "days"))
_LONGEST_YEARS, _LONGEST_MONTHS = 30.0, 400.0  # of a follow-up in that unit, where no name says it
_SHORTEST_MONTHS = 60.0

Entry = dict[str, Any]
Speaks = Callable[[str], bool]
Start = tuple[DiscoveredTable, str]  # the column of the date from which days are counted, and its table


@dataclass(frozen=True)
class OutcomeGuess:
    """An event with its times.

    Attributes:
        entry: `event`, `event_days` and `followup_days`, as in the YAML.
        why: What to check.
    """

    entry: Entry
    why: str


def find_outcome(table: DiscoveredTable, others: Sequence[DiscoveredTable] = ()) -> OutcomeGuess | str:
    """The recurrence of a table's patients, else their death, else what has no name; or why there is none.

    Args:
        table: The table with the event and its times.
        others: Those of the same patients, of which one may have the day from which days are counted.
    """
    starts = [(one, day_zero(one)) for one in (table, *others) if not one.several or one is table]
    start = next(((one, name) for one, name in starts if name), None)
    reasons = []
    for what, speaks in (("recurrence", speaks_of_recurrence), ("death", speaks_of_death), ("", _is_generic)):
        outcome = _of(table, speaks, what, start)
        if isinstance(outcome, OutcomeGuess):
            return outcome
        reasons.append(outcome)
    return next(filter(None, reasons), "no column of an event, nor of times, was recognised")


def _of(table: DiscoveredTable, speaks: Speaks, what: str, start: Start | None) -> OutcomeGuess | str:
    events, times, last = _events(table, speaks), *_times(table, speaks, start)
    if not events and not times:
        return ""
    events = events or _events(table, _is_generic)
    if not times and not last:
        times, last = _times(table, _is_generic, start)
    if not events:
        return f"times of {what or 'something'} were found, and no column that says who had it"
    if not times and not last:
        dated = any(date_form(known_texts(table, name)) for name in table.columns if speaks(name))
        when = "has the day of the diagnosis, from which days are counted" if dated else "says when"
        return f"{events[0][0]!r} says who had it, and no column {when}"
    name, codes = min(events, key=lambda event: len(words(event[0])))
    either = times or last
    left = sorted({text for text in known_texts(table, name) if text not in codes})
    event = {"column": name, "codes": codes, **({"missing": left} if left else {})}
    why = "which code is the event, and that days are counted from the diagnosis"
    if what != "recurrence":
        why += f"; {'death' if what else 'whatever it is'} counts as recurrence here"
    return OutcomeGuess({"event": event, "event_days": times or either, "followup_days": last or either}, why)


def _is_generic(name: str) -> bool:
    """Whether a column may be of any event, as `E` and `T` are, or `status` and `time`."""
    return len(words(name)) == 1 and words(name)[0] in _GENERIC_EVENTS | _GENERIC_TIMES


def _events(table: DiscoveredTable, speaks: Speaks) -> list[tuple[str, dict[str, int]]]:
    return [(name, codes) for name in table.columns if speaks(name) and (codes := _event_codes(table, name))]


def _times(table: DiscoveredTable, speaks: Speaks, start: Start | None) -> tuple[list[Any], list[Any]]:
    """The columns of times of the event, and of the last time that a patient was seen."""
    times: list[Any] = []
    last: list[Any] = []
    for name in table.columns:
        if entry := _time(table, name, speaks, start):
            (last if speaks_of_follow_up(name) or not speaks(name) else times).append(entry)
    return times, last


def _event_codes(table: DiscoveredTable, name: str) -> dict[str, int]:
    """Which of a column's texts are the event; empty where they are no yes and no."""
    known = known_texts(table, name)
    distinct = sorted(set(known))
    if not 2 <= len(distinct) <= 4 or set(words(name)) & AGE:
        return {}
    codes, unknown = binary_codes("event", distinct)
    if len(set(codes.values())) != 2 or any(not is_unknown(text) for text in unknown):
        return {}
    return {text: BINARY.index(meaning) for text, meaning in codes.items()}


def _time(table: DiscoveredTable, name: str, speaks: Speaks, start: Start | None) -> Any:
    """A column of times as in the YAML: a number with its unit, or a date and the one it counts from."""
    there = set(words(name))
    if there & AGE or not (speaks(name) or speaks_of_follow_up(name)):
        return None
    known = known_texts(table, name)
    if date_form(known):
        return _since(table, name, known, *start) if start else None
    parsed = numbers_of(known, table.decimal)
    units = [TIMES_DAYS[word] for word in words(name) if word in TIMES_DAYS and word not in ("d", "mo")]
    if parsed is None or parsed[1] or min(parsed[0]) < 0 or len(set(parsed[0])) < min(5, len(parsed[0]) / 2):
        return None
    if not units and not there & TIMES and not there & _GENERIC_TIMES:
        return None
    scale = units[0] if units else _guessed_unit(parsed[0])
    return name if scale == 1 else {"column": name, "scale": scale}


def _guessed_unit(values: Sequence[float]) -> float:
    longest, broken = max(values), any(value % 1 for value in values)
    if longest < _LONGEST_YEARS and broken:
        return TIMES_DAYS["years"]
    return TIMES_DAYS["months"] if _SHORTEST_MONTHS < longest < _LONGEST_MONTHS else 1.0


def _since(table: DiscoveredTable, name: str, known: Sequence[str], home: DiscoveredTable, start: str) -> Entry | None:
    form = "" if (home, start) == (table, name) else date_form([*known, *known_texts(home, start)])
    if not form:
        return None
    elsewhere = {"since_table": home.name} if home is not table else {}
    return {"column": name, "since": start, **elsewhere, **({"date": form} if form != "iso" else {})}
