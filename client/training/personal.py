"""Training of a site's own network from the study's: its head alone, all of it, or all of it by Ditto (Li 2021).

The site's own network starts from the weights that the study tests, and stays at the site. Under `ditto` each step also
pulls it to where it started: the minimum of the site's loss plus `personal-pull` / 2 times the squared distance to the
study's weights, equation 2 of arXiv:2012.04221 with these as the global model. The site's validation patients choose
how many passes are made; where none is better than the study's network on them, that is the site's own.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from torch import Tensor, nn

from client.training.dataset import Array, PatientDataset, make_loader
from client.training.loop import fit, make_optimizer, predict, wide_weights
from shared_models.metrics.summary import selection_score, summarise
from shared_models.secure_aggregation.groups import modality_of
from shared_models.study_settings import StudySettings
from shared_models.targets import Binary, Categorical, Target, TimeToEvent
from shared_models.task import Task


def learnable(truths: Mapping[str, Array], task: Task, least: int) -> list[str]:
    """The targets that a site can learn by itself: with at least `least` training patients of two outcomes.

    Of a time to event these are events, of a continuous target known values. With fewer, a network of its own would
    learn that the other outcome does not occur.

    Args:
        truths: Of its training patients, by target.
        task: The study's.
        least: Fewest patients; the site's `minimum_count`, so that what is told of it tells no more than its counts do.
    """
    return [name for name, target in task.targets.items() if _second_largest(target, truths[name]) >= max(least, 1)]


def _second_largest(target: Target, truth: Array) -> float:
    match target:
        case Binary() | Categorical():
            return float(np.sort(target.counts(truth))[-2])
        case TimeToEvent():
            return float(((truth[:, 1] == 1) & ~np.isnan(truth[:, 0])).sum())
        case _:
            return float((~np.isnan(truth)).sum())


def train_own(
    model: nn.Module,
    patients: Mapping[str, PatientDataset],
    task: Task,
    config: StudySettings,
    seed: int,
    class_weights: Mapping[str, Tensor],
) -> nn.Module:
    """A network of the site's own.

    Args:
        model: The study's; it stays as it is.
        patients: The site's, `train` and `validation`; of a target that is not to be learned, training patients' labels
            are missing.
        task: The study's.
        config: Its settings; `personal` is not `off`.
        seed: Of batches and dropout.
        class_weights: The study's, by target.
    """
    own, best = copy.deepcopy(model), copy.deepcopy(model.state_dict())
    for name, weight in own.named_parameters():
        weight.requires_grad_(weight.requires_grad and (config.personal != "head" or not modality_of(name)))
    pulled = {"strategy": "fedprox", "proximal_mu": config.personal_pull}  # Ditto's term is FedProx's
    changes = pulled if config.personal == "ditto" else {"strategy": "fedavg"}
    config = config.model_copy(update={**changes, "local_epochs": 1})
    optimizer = make_optimizer(own.parameters(), config, wide=wide_weights(own))
    best_value = _validation_value(own, patients["validation"], task)
    for epoch in range(config.personal_epochs):
        loader = make_loader(patients["train"], config, seed + epoch)
        fit(own, optimizer, loader, task, config, seed + epoch, class_weights)
        value = _validation_value(own, patients["validation"], task)
        if math.isnan(best_value) or value > best_value:
            best_value, best = value, copy.deepcopy(own.state_dict())
    own.load_state_dict(best)
    return own


def without_labels(patients: PatientDataset, hidden: set[str]) -> PatientDataset:
    """The patients with missing labels of some targets."""
    truths = {name: np.full_like(truth, np.nan) if name in hidden else truth for name, truth in patients.truths.items()}
    return replace(patients, truths=truths)


def _validation_value(model: nn.Module, validation: PatientDataset, task: Task) -> float:
    if not len(validation):
        return math.nan
    scores = predict(model, validation, task)
    return selection_score(
        summarise(target, scores[name], validation.known(name)) for name, target in task.targets.items()
    )
