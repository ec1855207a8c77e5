"""Section of results.json on subgroups of test patients; and the refusal of an empty subgroup."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence

from server.study.exchange import Answer, StudyError
from server.study.results.rounding import rounded, rounded_numbers
from server.study.results.sites_section import SubgroupOfSite
from server.study.results.targets_section import SubgroupResults
from shared_models.messages import Arrays, EvaluateTestReply, PrepareReply
from shared_models.metrics.by_subgroup import add_subgroups, metrics_by_subgroup, read_subgroups
from shared_models.secure_aggregation.choice import uses_secure_aggregation
from shared_models.study_settings import StudySettings
from shared_models.task import Task

log = logging.getLogger("server")


def require_somebody(answers: Sequence[Answer[PrepareReply]], task: Task) -> None:
    """Refuses a study with a subgroup of which no site has enough patients to tell, before anything is trained.

    Raises:
        StudyError: If so, with each such subgroup.
    """
    replies = [answer.reply for answer in answers if answer.reply]
    nobody = [
        f"{grouping.feature.name} {name}"
        for column, grouping in enumerate(task.subgroups)
        for index, name in enumerate(grouping.names)
        if not any(reply.subgroups.get(f"{column}.{index}") for reply in replies)
    ]
    if nobody:
        msg = (
            f"subgroups: no hospital has {', '.join(nobody)}, or too few patients there (its `minimum_count`) to tell; "
            "choose other ranges, leave it out, or ask the hospitals to map the column"
        )
        raise StudyError(msg)


def pool_subgroups(scores: Mapping[str, Arrays], task: Task, config: StudySettings) -> Arrays:
    """Adds up the sites' statistics by subgroup; those of a site that fail their check are left out."""
    summed, read = uses_secure_aggregation(config), []
    for site, arrays in scores.items():
        try:
            read.append(read_subgroups(arrays, task, summed=summed) if arrays else {})
        except ValueError as error:
            log.warning("%s: its statistics by subgroup are left out: %s", site, error)
    return add_subgroups((part for part in read if part), task, summed=summed)


def subgroup_results(
    tested: tuple[Arrays, Arrays], task: Task, config: StudySettings, target: str, threshold: float
) -> list[SubgroupResults]:
    """One target's metrics in each subgroup, of sites that train and of the others."""
    summed = uses_secure_aggregation(config)
    by_role = (metrics_by_subgroup(each, task, target, threshold, summed=summed) for each in tested)
    return [
        SubgroupResults(
            column=grouping.feature.name, subgroup=name, internal=rounded(internal), external=rounded(external)
        )
        for (grouping, name, internal), (_, _, external) in zip(*by_role, strict=True)
    ]


def own_subgroups(reply: EvaluateTestReply, task: Task, target: str) -> Iterator[SubgroupOfSite]:
    """What a site tells of itself, of one target."""
    for column, grouping in enumerate(task.subgroups):
        for index, name in enumerate(grouping.names):
            if metrics := reply.metrics.get(f"{target}/{column}.{index}"):
                yield SubgroupOfSite(
                    target=target, column=grouping.feature.name, subgroup=name, metrics=rounded_numbers(metrics)
                )
