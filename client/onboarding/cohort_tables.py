"""Tables of one cohort for `init`, among all that were found: those that hold the same patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from client.onboarding.column_guesses import guesses
from client.onboarding.outcome_guesses import OutcomeGuess, find_outcome
from client.onboarding.table_discovery import DiscoveredTable
from client.onboarding.vocabulary import KNOWN, words
from shared_models.features import Feature
from shared_models.task import Task

_LESIONS = {
    "lesion",
    "lesions",
    "mass",
    "masses",
    "view",
    "views",
    "finding",
    "findings",
    "laesion",
    "laesionen",
    "herde",
    "ansicht",
    "proyeccion",
    "vista",
    "incidence",
    "proiezione",
}
_NAMED = {"segmentation", "roi", "instance", "target"}
SAME_COHORT = 0.5  # of the smaller table's patients who are in the other one, too


@dataclass(frozen=True)
class CohortTables:
    """The tables of one cohort.

    Attributes:
        patients: The table that says who belongs to it.
        tables: All, that one first; a row is a patient, but in `instances`.
        instances: The table with a row a lesion or view, or None.
        instance_column: Its column that names each once a patient; empty where none is known to.
        refused: A sentence on each of the others.
    """

    patients: DiscoveredTable
    tables: tuple[DiscoveredTable, ...]
    instances: DiscoveredTable | None
    instance_column: str
    refused: tuple[str, ...]

    @property
    def instance_names(self) -> dict[str, frozenset[str]]:
        """The names of each patient's lesions or views, by patient."""
        if self.instances is None or not self.instance_column:
            return {}
        names: dict[str, set[str]] = {}
        columns = self.instances.columns
        for patient, name in zip(columns[self.instances.patient_id], columns[self.instance_column], strict=True):
            names.setdefault(patient, set()).add(name)
        return {patient: frozenset(each) for patient, each in names.items()}


def same_cohort(candidates: Sequence[DiscoveredTable], tasks: Sequence[Task]) -> CohortTables:
    """The tables of the patients of whom most that studies ask for is known; at least one table is given."""
    worth = {table.name: _worth(table) for table in candidates}
    groups = _groups(candidates)
    best = max(groups, key=lambda group: (sum(worth[one.name] for one in group), max(len(t.patients) for t in group)))
    refused = [f"{one.place}: {_apart(one, best)}" for group in groups if group is not best for one in group]
    ranked = sorted(best, key=lambda one: (one.several, -worth[one.name], -len(one.patients)))
    whole = [one for one in ranked if not one.several]
    several = [one for one in ranked if one.several]
    instances = next((one for one in several if not whole or _of_instances(one, tasks)), None)
    refused += [
        f"{one.place}: a patient has several rows; if they are lesions or views, name it under `instances`"
        for one in several
        if one is not instances
    ]
    tables = (*whole, *([instances] if instances else []))
    column = _naming_column(instances) if instances else ""
    return CohortTables(tables[0], tables, instances, column, tuple(refused))


def _naming_column(table: DiscoveredTable) -> str:
    """The column called as lesions or views are whose texts are there in each row, and once a patient."""
    patients = table.columns[table.patient_id]
    named = [name for name in table.columns if (_LESIONS | _NAMED) & set(words(name)) and all(table.columns[name])]
    once = (name for name in named if len({*zip(patients, table.columns[name], strict=True)}) == len(patients))
    return next((name for name in once if name != table.patient_id), "")


def _groups(tables: Sequence[DiscoveredTable]) -> list[list[DiscoveredTable]]:
    groups: list[list[DiscoveredTable]] = []
    for table in tables:
        near = [group for group in groups if any(_share(table, one) >= SAME_COHORT for one in group)]
        groups = [group for group in groups if group not in near]
        groups.append([*(one for group in near for one in group), table])
    return groups


def _share(one: DiscoveredTable, other: DiscoveredTable) -> float:
    return len(one.patients & other.patients) / min(len(one.patients), len(other.patients))


def _apart(table: DiscoveredTable, chosen: Sequence[DiscoveredTable]) -> str:
    most = max(chosen, key=lambda one: len(one.patients))
    there = len(table.patients & most.patients)
    return (
        f"{there} of its {len(table.patients)} patients are in {most.place}: another hospital's, or other "
        f"identifiers; for a site of its own, run init on {table.form['file']} alone"
    )


def _worth(table: DiscoveredTable) -> float:
    """How much a table holds that studies ask for; its name counts little."""
    known = {
        guess.entry["column"]
        for name, thing in KNOWN.items()
        for guess in guesses(Feature(name, thing.categories), table)[:1]
    }
    named = any(word in str(table.form["file"]).lower() for word in ("clin", "patient", "klin"))
    outcome = isinstance(find_outcome(table), OutcomeGuess)
    return len(known) + 3 * outcome + named + min(len(table.columns), 100) / 100


def _of_instances(table: DiscoveredTable, tasks: Sequence[Task]) -> bool:
    """Whether the rows look like lesions or views: by the table's or a column's name, or by what tasks ask of each."""
    if _LESIONS & {word for name in (table.place, *table.columns) for word in words(name)}:
        return True
    kinds = [kind for task in tasks for name, kind in task.tables.items() if name != "clinical"]
    return sum(bool(guesses(feature, table)) for feature in {one for kind in kinds for one in kind.features}) >= 2
