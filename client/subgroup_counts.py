"""Counts and metrics of a site's test patients by subgroup."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_models.folds import fold_of
from shared_models.metrics.by_subgroup import (
    count_by_subgroup,
    empty_statistics,
)
from shared_models.metrics.summary import Metrics, site_metrics
from shared_models.secure_aggregation.choice import uses_secure_aggregation

if TYPE_CHECKING:
    from client.session import StudySession
    from client.training.dataset import PatientDataset
    from shared_models.messages import Arrays

Scores = Mapping[str, Any]


def somebody_in_subgroups(study: StudySession) -> dict[str, bool]:
    """Of each subgroup whether `minimum_count` patients or more are in it, of all parts of the split."""
    cohort, least = study.cohort, study.site.policy.minimum_count
    inside = np.concatenate(list(cohort.parts.values()))
    return {
        f"{column}.{index}": int((cohort.subgroups[grouping.feature.name][inside] == index).sum()) >= least
        for column, grouping in enumerate(study.task.subgroups)
        for index in range(len(grouping.names))
    }


def count_tested(study: StudySession, patients: PatientDataset, scores: Scores) -> Arrays:
    """The statistics of test patients by subgroup; without patients where they have no scores."""
    summed = uses_secure_aggregation(study.config)
    truths = {name: patients.known(name) for name in scores}
    inside = {name: each[patients.indices] for name, each in study.cohort.subgroups.items()}
    counted = count_by_subgroup(study.task, scores, truths, inside, summed=summed)
    return empty_statistics(study.task, summed=summed) | counted


def own_metrics(
    study: StudySession, patients: PatientDataset, scores: Scores, thresholds: Mapping[str, float], otherwise: float
) -> dict[str, Metrics]:
    """This site's own metrics by `TARGET/COLUMN.SUBGROUP`; none in a study of folds, each of which has few patients."""
    metrics: dict[str, Metrics] = {}
    if fold_of(study.config):
        return metrics
    for column, grouping in enumerate(study.task.subgroups):
        subgroup = study.cohort.subgroups[grouping.feature.name][patients.indices]
        for name, predicted in scores.items():
            for index in range(len(grouping.names)):
                inside, target = subgroup == index, study.task.targets[name]
                if inside.any():
                    truth, threshold = patients.known(name)[inside], thresholds.get(name, otherwise)
                    own = site_metrics(target, predicted[inside], truth, threshold, study.config.seed)
                    metrics[f"{name}/{column}.{index}"] = own
    return metrics
