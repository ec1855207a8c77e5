"""Scores of a model on a study's test patients, in each of its folds, and its thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from client.cohort.load import Cohort
from shared_models.folds import each_fold, fold_of
from shared_models.metrics.binary import ScoreHistogram
from shared_models.study_settings import StudySettings
from shared_models.targets import Binary
from shared_models.task import Task
from simulation.baselines.pooled_and_local import Trained, score, study_cohorts
from simulation.baselines.tabular import Tabular


@dataclass(frozen=True)
class Scored:
    """A model's scores of each site's patients.

    Attributes:
        name: What it is called.
        test: By target and site: patients' identifiers, scores, truths.
        thresholds: By binary target, from validation patients.
    """

    name: str
    test: Mapping[str, Mapping[str, tuple[Sequence[str], Any, Any]]]
    thresholds: Mapping[str, float]


@dataclass(frozen=True)
class Split:
    """One split of the sites' patients: a fold's, or the only one of a study.

    Attributes:
        label: The fold's; empty where there is one split.
        config: The study's settings, or the fold's.
        cohorts: The sites' patients.
    """

    label: str
    config: StudySettings
    cohorts: Sequence[Cohort]

    def tests(self, cohort: Cohort) -> bool:
        """Whether a site's test patients are this split's: where a site is left out, not those of sites that train."""
        fold = fold_of(self.config)
        return not (fold and fold.left_out and len(cohort.parts["train"]))


def scored(name: str, trained: Trained | Tabular, split: Split, task: Task) -> Scored:
    """Scores every site's test patients, and finds thresholds on all validation patients."""
    test: dict[str, dict[str, tuple[Sequence[str], Any, Any]]] = {}
    validation: dict[str, list[tuple[Any, Any]]] = {}
    for cohort in split.cohorts:
        for part in ("validation", "test") if split.tests(cohort) else ("validation",):
            patients = [cohort.patients[index] for index in cohort.parts[part]]
            for target, (scores, truth) in score(trained, cohort, task, part).items() if patients else ():
                if part == "test":
                    test.setdefault(target, {})[cohort.site] = (patients, scores, truth)
                elif isinstance(task.targets[target], Binary):
                    validation.setdefault(target, []).append((scores, truth))
    thresholds = {}
    for target, parts in validation.items():
        scores, truth = (np.concatenate(values) for values in zip(*parts, strict=True))
        threshold = ScoreHistogram.of(scores, truth).threshold(split.config.threshold)
        thresholds[target] = 0.5 if np.isnan(threshold) else threshold
    return Scored(name, test, thresholds)


Model = Mapping[str, Scored]
"""A model's scores by the label of the split, each of a network that was trained in it."""


def splits_of(sites: Mapping[str, Path], task: Task, config: StudySettings) -> list[Split]:
    """Each fold's patients, or those of the only split; of repeats the first, whose folds test every patient."""
    folds = [(fold_of(one), one) for one in each_fold(config)]
    return [
        Split(fold.label if fold else "", one, study_cohorts(sites, task, one))
        for fold, one in folds
        if not fold or fold.repeat == 1
    ]
