"""Counts and metrics of a site's test patients by subgroup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shared_models.folds import fold_of
from shared_models.metrics.by_subgroup import (
    count_by_subgroup,
    empty_statistics,
)
from shared_models.metrics.summary import Metrics, site_metrics
from shared_models.secure_aggregation.choice import uses_secure_aggregation
from shared_models.subgroups import Grouping

if TYPE_CHECKING:
    from client.session import StudySession
    from client.training.dataset import PatientDataset
    from shared_models.messages import Arrays

Scores = Mapping[str, Any]
Places = NDArray[np.int64]


def somebody_in_subgroups(study: StudySession) -> dict[str, bool]:
    """Of each subgroup whether `minimum_count` patients or more are in it, of all parts of the split."""
    cohort, least = study.cohort, study.site.policy.minimum_count
    inside = np.concatenate(list(cohort.parts.values()))
    return {
        f"{column}.{index}": int((cohort.subgroups[grouping.feature.name][inside] == index).sum()) >= least
        for column, grouping in enumerate(study.task.subgroups)
        for index in range(len(grouping.names))
    }


def without_near_duplicates(
    subgroups: Mapping[str, Places], groupings: Sequence[Grouping], least: int
) -> dict[str, Places]:
    """Patients by subgroup, where one that nearly is a subgroup of an earlier column is counted with the others.

    The difference of the two, or of all patients and both, would be about fewer than `least` patients.

    Args:
        subgroups: By column, each patient's subgroup, `(N,)`.
        groupings: The study's.
        least: Fewest patients by whom two subgroups differ.

    Example:
        >>> from shared_models.subgroups import parse_subgroups
        >>> er, her2 = parse_subgroups("er{no|yes}; her2{no|yes}")
        >>> places = {"er": np.array([0, 0, 0, 1, 1, 1, 1]), "her2": np.array([0, 0, 1, 1, 1, 1, 1])}
        >>> without_near_duplicates(places, [er, her2], 2)["her2"].tolist()
        [2, 2, 2, 2, 2, 2, 2]
    """
    apart, earlier = dict[str, Places](), list[NDArray[np.bool_]]()
    for grouping in groupings:
        places = subgroups[grouping.feature.name].copy()
        of_column = [places == index for index in range(len(grouping.names))]
        for members in of_column:
            differing = [int((members ^ other).sum()) for other in earlier]
            if any(0 < min(one, len(places) - one) < least for one in differing):
                places[members] = len(grouping.names)
        earlier += of_column
        apart[grouping.feature.name] = places
    return apart


def count_tested(study: StudySession, patients: PatientDataset, scores: Scores) -> Arrays:
    """The statistics of test patients by subgroup; without patients where they have no scores."""
    summed = uses_secure_aggregation(study.config)
    truths = {name: patients.known(name) for name in scores}
    inside = {name: each[patients.indices] for name, each in study.cohort.subgroups.items()}
    if not summed:
        inside = without_near_duplicates(inside, study.task.subgroups, study.site.policy.minimum_count)
    counted = count_by_subgroup(study.task, scores, truths, inside, summed=summed)
    return empty_statistics(study.task, summed=summed) | counted


def own_metrics(
    study: StudySession, patients: PatientDataset, scores: Scores, thresholds: Mapping[str, float], otherwise: float
) -> dict[str, Metrics]:
    """This site's own metrics by `TARGET/COLUMN.SUBGROUP`; none in a study of folds, each of which has few patients."""
    metrics: dict[str, Metrics] = {}
    if fold_of(study.config):
        return metrics
    exact = {name: each[patients.indices] for name, each in study.cohort.subgroups.items()}
    inside_of = without_near_duplicates(exact, study.task.subgroups, study.site.policy.minimum_count)
    for column, grouping in enumerate(study.task.subgroups):
        subgroup = inside_of[grouping.feature.name]
        for name, predicted in scores.items():
            for index in range(len(grouping.names)):
                inside, target = subgroup == index, study.task.targets[name]
                if inside.any():
                    truth, threshold = patients.known(name)[inside], thresholds.get(name, otherwise)
                    own = site_metrics(target, predicted[inside], truth, threshold, study.config.seed)
                    metrics[f"{name}/{column}.{index}"] = own
    return metrics
