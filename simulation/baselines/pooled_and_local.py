"""Pooled and local training: one pooled cohort, and each site alone, with the same network and steps.

Only a simulation can do this, where all rows are on one machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from client.admission import folder_of_rounds
from client.cohort.load import Cohort, load_cohort
from client.config.site import load_site
from client.training.combat import harmonise, own_statistics
from client.training.dataset import PatientDataset, feature_statistics, make_loader, select_patients
from client.training.fedbn import restore
from client.training.loop import choose_device, fit, make_optimizer, predict, set_learning_rate, wide_weights
from client.training.oversampling import oversample
from server.study.enrolment import class_weights
from server.study.selection import is_clearly_better
from server.study.weights.checkpoint import Checkpoint
from server.study.weights.initial_weights import initial_model
from shared_models.combat import references
from shared_models.features import FeatureStatistics
from shared_models.messages import Arrays
from shared_models.messages.statistics import unpack_features
from shared_models.metrics.summary import Metrics, selection_error, selection_score, site_metrics, summarise
from shared_models.schedules import learning_rate
from shared_models.study_settings import StudySettings
from shared_models.targets import Target
from shared_models.task import Task
from shared_models.trained_parts import build_network
from simulation.baselines.tabular import Tabular

Statistics = Mapping[str, FeatureStatistics]
Scores = tuple[Any, Any]  # (N,) or (N, K), and truths (N,) or (N, 2)


@dataclass(frozen=True)
class Trained:
    """Weights and the frozen statistics they were trained with.

    Attributes:
        model: The network that all share.
        statistics: Of its features.
        own: By site, the network with its own normalisation layers, where the study lets it have them (FedBN).
    """

    model: nn.Module
    statistics: Statistics
    own: Mapping[str, nn.Module] = field(default_factory=dict)


def pool_cohorts(cohorts: Sequence[Cohort]) -> Cohort:
    """All patients as one cohort; every patient stays in the part their site had put them in."""
    starts = np.cumsum([0, *(len(cohort.patients) for cohort in cohorts)])
    row_starts = np.cumsum([0, *(len(cohort.present) for cohort in cohorts)])
    first = [cohort.first[:-1] + start for cohort, start in zip(cohorts, row_starts, strict=False)]
    return Cohort(
        site="pooled",
        patients=tuple(f"{cohort.site}/{patient}" for cohort in cohorts for patient in cohort.patients),
        first=np.append(np.concatenate(first), row_starts[-1]),
        sampling_weight=np.concatenate([cohort.sampling_weight for cohort in cohorts]),
        inputs={name: np.concatenate([c.inputs[name] for c in cohorts]) for name in cohorts[0].inputs},
        present=np.concatenate([cohort.present for cohort in cohorts]),
        truths={name: np.concatenate([c.truths[name] for c in cohorts]) for name in cohorts[0].truths},
        parts={
            part: np.concatenate([c.parts[part] + start for c, start in zip(cohorts, starts, strict=False)])
            for part in ("train", "validation", "test")
        },
    )


def harmonised(cohorts: Sequence[Cohort], task: Task, config: StudySettings) -> list[Cohort]:
    """The sites' cohorts as the study harmonises them, so that pooled and local training see what the sites see."""
    own = [own_statistics(cohort, task) for cohort in cohorts]
    training = [sums for sums, cohort in zip(own, cohorts, strict=True) if len(cohort.parts["train"])]
    combat_references = references(training, config)
    return [harmonise(cohort, sums, combat_references) for cohort, sums in zip(cohorts, own, strict=True)]


def study_cohorts(sites: Mapping[str, Path], task: Task, config: StudySettings) -> list[Cohort]:
    """The sites' patients as a study has them."""
    return harmonised([load_cohort(load_site(file), task, config) for file in sites.values()], task, config)


def train_centrally(cohort: Cohort, task: Task, config: StudySettings) -> Trained:
    """Trains on one cohort for as many epochs as the study has rounds times local epochs.

    Like the study, it keeps the last weights, or the best if these are clearly better on validation patients.
    """
    train = cohort.parts["train"]
    statistics = feature_statistics(cohort, task)
    counts = {name: target.counts(cohort.truths[name][train]) for name, target in task.targets.items()}
    model = as_module(initial_model(task, config, counts), task, config)
    weights = {
        name: torch.from_numpy(array).to(choose_device()) for name, array in class_weights(task, config, counts).items()
    }
    if config.oversampling == "smotenc":
        cohort = oversample(cohort, task, statistics, config.seed)
    patients = select_patients(cohort, "train", task, statistics, config.seed)
    validation = select_patients(cohort, "validation", task, statistics)
    best_value, last, best = -np.inf, (np.nan, 0.0), model.state_dict()
    # pooled training is one long optimisation: its optimizer keeps its state
    plain = config.model_copy(update={"strategy": "fedavg"})
    optimizer = make_optimizer(model.parameters(), plain, wide=wide_weights(model))
    for server_round in range(1, config.rounds + 1):
        seed = config.seed * 100_003 + server_round
        set_learning_rate(optimizer, learning_rate(config, server_round))
        fit(model, optimizer, make_loader(patients, config, seed), task, config, seed, weights)
        last = _validation_value(model, validation, task)
        if last[0] > best_value:
            best_value, best = last[0], {name: tensor.clone() for name, tensor in model.state_dict().items()}
    if np.isfinite(best_value) and is_clearly_better(best_value, *last):
        model.load_state_dict(best)
    return Trained(model, statistics)


def _validation_value(model: nn.Module, validation: PatientDataset, task: Task) -> tuple[float, float]:
    """The value of the weights, and its standard error."""
    if not len(validation):
        return float("nan"), 0.0
    scores = predict(model, validation, task)
    summaries = [summarise(target, scores[name], validation.known(name)) for name, target in task.targets.items()]
    return selection_score(summaries), selection_error(summaries)


def from_checkpoint(
    checkpoint: Checkpoint, task: Task, config: StudySettings, sites: Mapping[str, Path] | None = None
) -> Trained:
    """The weights of a federated study.

    Args:
        checkpoint: The study's.
        task: Its task.
        config: Its settings, or the fold's.
        sites: Settings of sites that score with normalisation layers of their own, where the study has such.
    """
    own = {}
    for file in (sites or {}).values() if config.normalisation == "local" else ():
        site = load_site(file)
        if site.role == "train" and site.site not in config.never_train:
            own[site.site] = as_module(checkpoint.model, task, config)
            restore(own[site.site], folder_of_rounds(site.state_dir, "normalisation", config), checkpoint.round)
    return Trained(as_module(checkpoint.model, task, config), unpack_features(checkpoint.statistics, task), own)


def as_module(weights: Arrays, task: Task, config: StudySettings) -> nn.Module:
    """The task's network with these weights."""
    model = build_network(task, config)
    model.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in weights.items()})
    return model.to(choose_device())


def score(trained: Trained | Tabular, cohort: Cohort, task: Task, part: str = "test") -> dict[str, Scores]:
    """Scores and truths of each target for the patients of `part`."""
    patients = select_patients(cohort, part, task, trained.statistics)
    if isinstance(trained, Tabular):
        return {name: (scores, patients.known(name)) for name, scores in trained.predict(patients).items()}
    model = trained.own.get(cohort.site, trained.model)
    return {name: (scores, patients.known(name)) for name, scores in predict(model, patients, task).items()}


def measure(
    trained: Trained | Tabular, cohorts: Sequence[Cohort], task: Task, part: str = "test", target: str = ""
) -> dict[str, Metrics]:
    """Exact metrics of a target, by default the first: by site, and of all their patients together under `pooled`."""
    name = target or next(iter(task.targets))
    return metrics(score_everywhere(trained, cohorts, task, part)[name], task.targets[name])


def score_everywhere(
    trained: Trained | Tabular, cohorts: Sequence[Cohort], task: Task, part: str = "test"
) -> dict[str, dict[str, Scores]]:
    """For each target, scores and truths by site."""
    by_site = {cohort.site: score(trained, cohort, task, part) for cohort in cohorts if len(cohort.parts[part])}
    return {name: {site: scores[name] for site, scores in by_site.items()} for name in task.targets}


def metrics(scores: Mapping[str, Scores], target: Target) -> dict[str, Metrics]:
    """Metrics by site, and of all their patients together under `pooled`."""
    everybody = tuple(np.concatenate(values) for values in zip(*scores.values(), strict=True))
    by_site = {**scores, "pooled": everybody}
    return {site: site_metrics(target, one, truth, threshold=0.5) for site, (one, truth) in by_site.items()}
