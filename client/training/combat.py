"""Batch-effect correction (ComBat) of a site's tables, from sums over its own patients.

A training site uses its training patients alone, and adjusts all of them. A site that only evaluates has none:
it uses all its patients' features, whose outcomes it need not know, and is adjusted to what the training sites fixed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from client.cohort.load import Cohort
from client.private_files import write_private
from client.training.dataset import feature_statistics
from shared_models.combat import Reference, adjustment
from shared_models.features import FeatureStatistics
from shared_models.messages.statistics import pack_features, unpack_features
from shared_models.task import Task


def own_statistics(cohort: Cohort, task: Task) -> dict[str, FeatureStatistics]:
    """Sums over the patients who show what the site's scanner does."""
    train = cohort.parts["train"]
    return feature_statistics(cohort, task, train if len(train) else np.arange(len(cohort.patients)))


def store_sums(cohort: Cohort, task: Task, file: Path) -> None:
    """Keeps the sums for a study: patients who come later must not move the others under the network."""
    from safetensors.numpy import save

    write_private(file, save(pack_features(own_statistics(cohort, task))))


def stored_sums(cohort: Cohort, task: Task, file: Path) -> dict[str, FeatureStatistics]:
    """The sums that the site stored; computed and stored again where its disk has lost them."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return unpack_features(load_file(file), task)
    except (FileNotFoundError, SafetensorError, ValueError):
        store_sums(cohort, task, file)
        return own_statistics(cohort, task)


def harmonise(cohort: Cohort, own: Mapping[str, FeatureStatistics], references: Mapping[str, Reference]) -> Cohort:
    """The cohort, each table of `references` `(R, C)` without this site's effect; what is missing stays missing."""
    adjusted = {
        name: adjustment(own[name], reference).columns(np.asarray(cohort.inputs[name])).astype(np.float32)
        for name, reference in references.items()
    }
    return replace(cohort, inputs={**cohort.inputs, **adjusted}) if adjusted else cohort
