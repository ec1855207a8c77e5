"""Additive statistics of patients' scores, as they travel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from client.training.dataset import PatientDataset
from shared_models.messages import Arrays
from shared_models.metrics.summary import empty_summary, pack_summary, summarise
from shared_models.task import Task


def pack_scores(patients: PatientDataset, task: Task, scores: Mapping[str, Any]) -> Arrays:
    """Each target's additive statistics of some patients; of no patients where they have no scores."""
    results: Arrays = {}
    for name, target in task.targets.items():
        summary = summarise(target, scores[name], patients.known(name)) if name in scores else empty_summary(target)
        results |= pack_summary(summary, name)
    return results
