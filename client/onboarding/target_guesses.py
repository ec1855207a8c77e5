"""Target matching for `init`: the outcome columns of all tasks' targets, by the study's name for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from client.onboarding.code_meanings import BINARY, named_codes
from client.onboarding.column_guesses import Entry, guesses
from client.onboarding.column_texts import known_texts
from client.onboarding.outcome_guesses import OutcomeGuess, find_outcome
from client.onboarding.table_discovery import DiscoveredTable
from shared_models.features import Feature
from shared_models.targets import Binary, Categorical, Target, TimeToEvent
from shared_models.task import Task

_BASAL_OR_HER2 = {"LumA": 0, "LumB": 0, "Her2": 1, "Basal": 1}  # of the intrinsic subtypes; normal-like is neither


@dataclass(frozen=True)
class MappedTarget:
    """A target of a task in a site's table.

    Attributes:
        table: Where it is.
        entry: As it stands in the YAML.
        why: What to check.
    """

    table: DiscoveredTable
    entry: Entry
    why: str

    @property
    def places(self) -> set[tuple[str, str]]:
        """The tables and names of the columns that it reads."""
        entries = [one for entry in self.entry.values() for one in (entry if isinstance(entry, list) else [entry])]
        named = [{"column": one} if isinstance(one, str) else one for one in entries]
        starts = {(one.get("since_table", self.table.name), one["since"]) for one in named if "since" in one}
        return starts | {(self.table.name, one["column"]) for one in named}


def find_targets(tables: Sequence[DiscoveredTable], tasks: Sequence[Task]) -> tuple[dict[str, MappedTarget], list[str]]:
    """The targets of all tasks that some table has, and why there is no time to an event."""
    targets: dict[str, MappedTarget] = {}
    outcomes = [(table, find_outcome(table, [one for one in tables if one is not table])) for table in tables]
    timed = [(table, one) for table, one in outcomes if isinstance(one, OutcomeGuess)]
    for name, kind in {name: kind for task in tasks for name, kind in task.targets.items()}.items():
        if isinstance(kind, TimeToEvent) and timed:
            table, outcome = timed[0]
            targets[name] = MappedTarget(table, outcome.entry, outcome.why)
        elif one := _label(name, kind, tables):
            targets[name] = one
    reasons = [f"{table.place}: {one}" for table, one in outcomes if isinstance(one, str)]
    return targets, [] if timed else reasons


def _label(name: str, kind: Target, tables: Sequence[DiscoveredTable]) -> MappedTarget | None:
    """The column of a label; an event without times serves a study of its label."""
    binary = isinstance(kind, Binary | TimeToEvent)
    classes = kind.classes if isinstance(kind, Categorical) else BINARY if binary else ()
    for table in tables:
        if one := next(iter(guesses(Feature(name, tuple(classes)), table)), None):
            entry = dict(one.entry)
            if binary:
                entry["codes"] = {code: BINARY.index(meaning) for code, meaning in entry["codes"].items()}
            return MappedTarget(table, {"label": entry}, one.why)
        if name == "basal_or_her2" and (made := _from_subtype(table)):
            return made
    return None


def _from_subtype(table: DiscoveredTable) -> MappedTarget | None:
    """Whether a tumour is basal or HER2-enriched, from its intrinsic subtype."""
    for one in guesses(Feature("pam50", tuple(_BASAL_OR_HER2)), table)[:1]:
        column = one.entry["column"]
        meanings, left = named_codes(sorted(set(known_texts(table, column))), tuple(_BASAL_OR_HER2))
        codes: Mapping[str, int] = {text: _BASAL_OR_HER2[name] for text, name in meanings.items()}
        entry = {"column": column, "codes": dict(codes), **({"missing": left} if left else {})}
        return MappedTarget(table, {"label": entry}, "the codes, made of the subtype")
    return None
