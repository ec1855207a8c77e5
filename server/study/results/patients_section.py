"""Section of results.json on patients: their flow, outcomes and characteristics, of each site and of all together."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field

from server.study.exchange import Answer
from shared_models.description import Description, outcome_names
from shared_models.features import Feature, FeatureStatistics
from shared_models.messages import EvaluateTestReply
from shared_models.metrics.arrays import Array
from shared_models.task import Task

log = logging.getLogger("server")
Descriptions = Mapping[str, Description]


class Characteristic(BaseModel):
    """One feature of a table, over patients who have the table (over lesions or views, where they are its rows)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    table: str = Field(description="the table")
    feature: str = Field(description="the study's name of the feature")
    log: bool = Field(description="whether mean and deviation are of log(1 + x)")
    known: int = Field(description="how many have a value; 0 too where the site withholds that of few")
    missing: int = Field(description="how many of those who have the table have none, or none that is reported")
    mean: float | None = Field(description="mean of a number; null for a category")
    deviation: float | None = Field(description="standard deviation of a number")
    categories: dict[str, int] | None = Field(
        description="how many have each category, rare ones of a site counted with another; null for a number"
    )


class Counted(BaseModel):
    """Patients of those sites that tell; a site outside of secure aggregation withholds small numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    sites: int = Field(description="how many sites report them")
    patients: int | None = Field(description="their patients; null where none reports them")


class CountedOutcomes(BaseModel):
    """Patients by outcome of those sites that tell; a site withholds all of a part if one outcome has few."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    sites: int = Field(description="how many sites report them")
    patients: dict[str, int] | None = Field(
        description="their patients by what is known of the outcome: the classes, or by the horizon `event`, `free`, "
        "`censored` before it; and `unknown`; null where none tells"
    )


class PatientFlow(BaseModel):
    """Patients who were left out and why, outcomes of the others, and who they are."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    sites: int = Field(description="sites that these counts are of")
    left_out: dict[str, Counted] = Field(
        description="patients in no part of the split: `no_known_outcome`, or `no_modality` of the study"
    )
    excluded: dict[str, Counted] = Field(description="patients whose files cannot be used, by modality")
    outcomes: dict[str, dict[str, CountedOutcomes]] = Field(description="by target and part of the split")
    characteristics: dict[str, list[Characteristic]] = Field(
        description="of training and of test patients, the features of each table, after ComBat where the study uses it"
    )


def descriptions(parts: Sequence[Answer[EvaluateTestReply]], task: Task) -> tuple[Descriptions, Descriptions]:
    """What sites, or sums over sites, count of the patients of sites that train, and of the others."""
    roles: tuple[dict[str, Description], dict[str, Description]] = ({}, {})
    for part in parts:
        if part.reply is None:
            continue
        for role, arrays in zip(roles, (part.reply.test, part.reply.external), strict=True):
            try:
                counted = Description.unpack(arrays, task)
            except ValueError as error:
                log.warning("%s: its counts of patients are left out: %s", part.site, error)
                continue
            if _sites(counted):
                role[part.site] = counted
    return roles


def total_description(parts: Iterable[Description], task: Task) -> Description:
    """All of them together."""
    return sum(parts, start=Description.empty(task))


def patient_flow(described: Description, task: Task, sites: int) -> PatientFlow:
    """The section.

    Args:
        described: Of one site or of several.
        task: The study's.
        sites: Of how many sites.
    """
    return PatientFlow(
        sites=sites,
        left_out={why: _counted(counts) for why, counts in described.left_out.items()},
        excluded={name: _counted(counts) for name, counts in described.excluded.items()},
        outcomes={
            target: {part: _outcomes(counts, outcome_names(task.targets[target])) for part, counts in parts.items()}
            for target, parts in described.outcomes.items()
        },
        characteristics={
            part: [one for name, sums in tables.items() for one in _characteristics(name, sums, task)]
            for part, tables in described.tables.items()
        },
    )


def sites_of(described: Description) -> int:
    """Of how many sites it is: each tells some of its counts, or withholds all."""
    return _sites(described)


def _sites(described: Description) -> int:
    counts = [*described.left_out.values(), *described.excluded.values()]
    counts += [part for parts in described.outcomes.values() for part in parts.values()]
    return max(round(float(one[0])) for one in counts)


def _counted(counts: Array) -> Counted:
    sites, patients = map(round, counts)
    return Counted(sites=sites, patients=patients if sites else None)


def _outcomes(counts: Array, names: Sequence[str]) -> CountedOutcomes:
    sites, *patients = map(round, counts)
    return CountedOutcomes(sites=sites, patients=dict(zip(names, patients, strict=True)) if sites else None)


def _characteristics(table: str, sums: FeatureStatistics, task: Task) -> Iterable[Characteristic]:
    start = 0
    for feature in task.tables[table].features:
        columns = slice(start, start := start + len(feature.columns))
        yield _characteristic(
            table,
            feature,
            FeatureStatistics(sums.patients, sums.known[columns], sums.total[columns], sums.squares[columns]),
        )


def _characteristic(table: str, feature: Feature, sums: FeatureStatistics) -> Characteristic:
    known = round(float(sums.known.max()))
    number = known and not feature.categories
    deviation = math.sqrt(float(sums.variance[0]) * known / max(known - 1, 1)) if number else None
    return Characteristic(
        table=table,
        feature=feature.name,
        log=feature.log,
        known=known,
        missing=max(round(sums.patients) - known, 0),
        mean=round(float(sums.mean[0]), 6) if number else None,
        deviation=None if deviation is None else round(deviation, 6),
        categories=dict(zip(feature.categories, map(round, sums.total), strict=True)) if feature.categories else None,
    )
