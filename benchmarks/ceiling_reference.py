"""Plain reference network of `ceilings.py`, on the files of a cohort: trained on pooled rows, scored by patient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from plain_networks import train_plain
from scipy.special import expit

from client.cohort.load import Cohort
from client.training.dataset import feature_statistics, select_patients
from shared_models.metrics.summary import Metrics, site_metrics
from shared_models.targets import Regression
from shared_models.task import Task
from simulation.baselines.pooled_and_local import Statistics, pool_cohorts

Array = NDArray[Any]


def plain_reference(cohorts: Sequence[Cohort], task: Task, seed: int) -> dict[str, Metrics]:
    """Exact metrics of each target over the test patients of all cohorts.

    Every row, a lesion or a view, is learned from with its patient's labels; a patient's score is the mean over rows.
    """
    training = pool_cohorts([one for one in cohorts if len(one.parts["train"])])
    statistics = feature_statistics(training, task)
    inputs, owner = _rows(training, "train", task, statistics)
    labels = np.stack([training.truths[name][owner] for name in task.targets], axis=1)
    numbers = tuple(place for place, kind in enumerate(task.targets.values()) if isinstance(kind, Regression))
    fit = train_plain(inputs, labels, numbers, seed=seed)
    scores, truths = [], []
    for one in cohorts:
        inputs, owner = _rows(one, "test", task, statistics)
        patients = one.parts["test"]
        read = fit.predict(inputs)
        scores.append(np.stack([read[owner == patient].mean(axis=0) for patient in patients]))
        truths.append(np.stack([one.truths[name][patients] for name in task.targets], axis=1))
    score, truth = np.concatenate(scores), np.concatenate(truths)
    for place in range(score.shape[1]):  # z-scores back to numbers, logits to probabilities
        known = labels[~np.isnan(labels[:, place]), place]
        in_units = score[:, place] * known.std(ddof=1) + known.mean()
        score[:, place] = in_units if place in numbers else expit(score[:, place])
    return {
        name: site_metrics(kind, score[:, place], truth[:, place], threshold=0.5)
        for place, (name, kind) in enumerate(task.targets.items())
    }


def _rows(cohort: Cohort, part: str, task: Task, statistics: Statistics) -> tuple[dict[str, Array], Array]:
    """Inputs of all rows of a part's patients, 0 where a modality is lacking, and the patient of each."""
    patients = cohort.parts[part]
    rows, owner = cohort.rows(patients), np.repeat(patients, np.diff(cohort.first)[patients])
    inputs = select_patients(cohort, part, task, statistics).inputs
    read = {}
    for place, name in enumerate(task.modalities):
        values = np.array(inputs[name][rows], dtype=np.float32)
        values[~cohort.present[rows, place]] = 0
        read[name] = values
    return read, owner
