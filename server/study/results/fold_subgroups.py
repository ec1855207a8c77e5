"""Metrics by subgroup of a study of several folds, from what its folds counted, added up."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from server.study.results.fold_means import Metrics, mean_metrics
from server.study.results.subgroups_section import subgroup_results
from server.study.results.targets_section import SubgroupResults
from shared_models.messages import Arrays
from shared_models.metrics.arrays import Metric
from shared_models.metrics.by_subgroup import add_subgroups
from shared_models.secure_aggregation.choice import uses_secure_aggregation
from shared_models.study_settings import StudySettings
from shared_models.task import Task


@dataclass(frozen=True)
class TestedSubgroups:
    """What the folds of a group tell.

    Attributes:
        of_one_fold: The results of a group of a single fold; None of several.
        counted: Statistics of each fold, and of sites that tell of all their folds at once.
    """

    of_one_fold: Sequence[SubgroupResults] | None
    counted: Sequence[Arrays]


def subgroups_over_folds(
    name: str,
    task: Task,
    config: StudySettings,
    groups: Mapping[str, Sequence[TestedSubgroups]],
    hidden: Collection[str],
) -> list[SubgroupResults]:
    """One target's metrics by subgroup: the mean over each role's groups of folds.

    Args:
        name: The target's.
        task: The study's.
        config: Its settings.
        groups: By role, `internal` and `external`.
        hidden: Metrics that have no meaning over several folds, each of which has a threshold of its own.
    """
    by_role = {role: [_metrics(name, task, config, role, one, hidden) for one in each] for role, each in groups.items()}
    return [
        SubgroupResults(
            column=grouping.feature.name,
            subgroup=subgroup,
            **{role: mean_metrics(one[place] for one in each) for role, each in by_role.items()},
        )
        for place, (grouping, subgroup) in enumerate((one, s) for one in task.subgroups for s in one.all_names)
    ]


def _metrics(
    name: str, task: Task, config: StudySettings, role: str, group: TestedSubgroups, hidden: Collection[str]
) -> list[Metrics]:
    if group.of_one_fold is not None:
        return [getattr(one, role) for one in group.of_one_fold]
    total = add_subgroups(group.counted, task, summed=uses_secure_aggregation(config))
    by_subgroup = [one.internal for one in subgroup_results((total, total), task, config, name, 0.5)]

    def known(metrics: Metrics) -> dict[str, Metric]:
        return {key: None if key in hidden else value for key, value in metrics.items()}

    return [known(metrics) for metrics in by_subgroup]
