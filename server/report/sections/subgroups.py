"""Section: Subgroups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from server.report.study import Outcome, Study
from server.study.results.targets_section import SubgroupResults
from shared_models.metrics.arrays import Metric
from shared_models.metrics.names import NAMES
from shared_models.pages.drawing import ROLES, Role
from shared_models.pages.elements import Row, Section, Table, not_recorded
from shared_models.pages.numbers import NBSP, NONE, count, with_interval

TITLE = "Subgroups"
_FURTHER = ("sensitivity", "specificity", "expected_observed_ratio")


def section(study: Study) -> Section:
    """Each target in each subgroup."""
    outcomes = [outcome for outcome in study.outcomes if outcome.results.subgroups]
    if not outcomes:
        return not_recorded(
            TITLE, "the results of this study hold no metric of a subgroup; the setting subgroups names them."
        )
    tables = [table for outcome in outcomes for table in _tables(study, outcome)]
    lead = (
        "Test patients by subgroup. Intervals that overlap are no proof that subgroups are judged alike, nor does a "
        "difference among several show that one is judged worse: nothing was tested."
    )
    return Section(TITLE, lead, tables)


def _tables(study: Study, outcome: Outcome) -> Iterator[Table]:
    for column in dict.fromkeys(one.column for one in outcome.results.subgroups):
        subgroups = [one for one in outcome.results.subgroups if one.column == column]
        rows = [row for role in ROLES for row in _rows(outcome, role, subgroups)]
        rows += list(_own(study, outcome, column))
        if rows:
            heads = ["patients", "with outcome", outcome.measure_name, *(NAMES[name] for name in _FURTHER)]
            caption = (
                f"{outcome.full_label}; 95{NBSP}% intervals; `others` have no value of {column}, lie in none of these, "
                "or are of a subgroup that is too small at their hospital to be told."
            )
            yield Table([f"{outcome.label} by {column.replace('_', ' ')}", *heads], rows, caption)


def _rows(outcome: Outcome, role: Role, subgroups: list[SubgroupResults]) -> Iterator[Row]:
    shown = [one for one in subgroups if getattr(one, role).get("patients")]
    if shown:
        yield Row(role, kind="group")
    for one in shown:
        yield Row(one.subgroup, _cells(outcome, getattr(one, role)), "sub")


def _own(study: Study, outcome: Outcome, column: str) -> Iterator[Row]:
    """What each site tells of its own."""
    for site in study.results.sites:
        own = [one for one in site.subgroups if (one.target, one.column) == (outcome.name, column)]
        if own:
            yield Row(f"{site.site}, as it tells", kind="group")
        for one in own:
            yield Row(one.subgroup, _cells(outcome, {**one.metrics}), "sub")


def _cells(outcome: Outcome, metrics: Mapping[str, Metric]) -> list[str]:
    _, judged = outcome.primary(metrics)
    name = outcome.primary(metrics)[0]
    measured = with_interval(metrics, name) if judged is not None else NONE
    further = [with_interval(metrics, name) for name in _FURTHER]
    return [count(metrics.get("patients")), count(outcome.events(metrics)), measured, *further]
