"""Enrolment of sites: their counts before round 1, checked, and the statistics and first weights made of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from server.study.exchange import Answer
from shared_models.combat import Reference, adjustment
from shared_models.differences import Sums, each_from_the_others
from shared_models.features import FeatureStatistics
from shared_models.messages import Arrays, PrepareReply
from shared_models.messages.fields import MAX_PATIENTS
from shared_models.metrics.arrays import total
from shared_models.study_settings import StudySettings
from shared_models.targets import Regression, TimeToEvent
from shared_models.task import Task

MAX_OUTCOME_SUM = 1e15
PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Enrolment:
    """What one site counted before round 1.

    Attributes:
        trains: Whether it gives updates.
        patients: Its patients in each part of the split.
        modalities: Its training patients with each modality; with secure aggregation 1 where it has any.
        excluded: Its patients with files that cannot be used.
        since_round: From which round on it takes part: 1, or a later one where it enrolled late.
        endpoints: By target, what counts as it; empty where the site does not say.
        differences: What of its sums is unlike the other sites', in words; none with secure aggregation.
    """

    trains: bool
    patients: dict[str, int]
    modalities: dict[str, int]
    excluded: int
    since_round: int = 1
    endpoints: dict[str, str] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)


def enrol(
    answers: Sequence[Answer[PrepareReply]], parts: Sequence[Answer[PrepareReply]], task: Task
) -> tuple[dict[str, Enrolment], list[Sums], dict[str, str]]:
    """What can be used of the answers, and of what may be added up.

    Returns:
        The enrolments by site; the sums over training patients, of each training site or of all; why a site's are not
        used.
    """
    enrolled: dict[str, Enrolment] = {}
    sums: dict[str, Sums] = {}
    refused = {}
    for answer in answers:
        if answer.reply is not None:
            try:
                enrolled[answer.site] = _enrolment(answer.reply, task)
            except ValueError as error:
                refused[answer.site] = f"enrolment refused: {error}"
    secure = [part for part in parts if part.members]
    for part in secure or [part for part in parts if part.site in enrolled]:
        try:
            assert part.reply is not None
            sums[part.site] = _sums(part.reply, task)
        except ValueError as error:
            refused[part.site] = f"enrolment refused: {error}"
            enrolled.pop(part.site, None)
    counted = {site: sums[site] for site in sums if secure or (site in enrolled and enrolled[site].trains)}
    if not secure:
        for site, differences in each_from_the_others(counted, task).items():
            enrolled[site] = replace(enrolled[site], differences=differences)
    return enrolled, list(counted.values()), refused


def _enrolment(reply: PrepareReply, task: Task) -> Enrolment:
    _require_names("patients", reply.patients, PARTS)
    _require_names("modalities", reply.modalities, task.modalities)
    patients, train = reply.modalities, reply.patients["train"]
    if too_many := [name for name, count in patients.items() if count > train]:
        msg = f"more training patients have {', '.join(too_many)} than there are: {train}"
        raise ValueError(msg)
    endpoints = {name: definition for name, definition in reply.endpoints.items() if name in task.targets}
    return Enrolment(reply.trains, dict(reply.patients), dict(patients), reply.excluded, endpoints=endpoints)


def _sums(reply: PrepareReply, task: Task) -> Sums:
    _require_names("features", reply.features, task.tables)
    _require_names("counts", reply.counts, task.targets)
    for name, table in task.tables.items():
        for part in ("known", "total", "squares"):
            if (shape := getattr(reply.features[name], part).shape) != table.shape:
                msg = f"{name}.{part} has shape {shape}, expected {table.shape}"
                raise ValueError(msg)
    for name in task.targets:
        _check_counts(reply.counts[name], name, task)
    return Sums(reply.features, reply.counts)


def _require_names(what: str, names: Iterable[str], expected: Iterable[str]) -> None:
    if wrong := sorted(set(names) ^ set(expected)):
        msg = f"{what} of {', '.join(wrong[:3])} {'are' if len(wrong) > 1 else 'is'} missing or unknown"
        raise ValueError(msg)


def _check_counts(counts: np.ndarray[Any, Any], target: str, task: Task) -> None:
    kind = task.targets[target]
    expected = np.shape(kind.counts(_no_patients(task, target)))
    if counts.shape != expected:
        msg = f"counts of {target} are {counts.dtype}{counts.shape}, expected finite numbers {expected}"
        raise ValueError(msg)
    patients = counts[:1] if isinstance(kind, Regression) else counts  # a regression's other number is a sum
    if (patients < 0).any() or (patients > MAX_PATIENTS).any() or (np.abs(counts) > MAX_OUTCOME_SUM).any():
        msg = f"counts of {target} are no numbers of patients: from {counts.min():g} to {counts.max():g}"
        raise ValueError(msg)


def _no_patients(task: Task, target: str) -> np.ndarray[Any, Any]:
    return np.zeros((0, 2) if isinstance(task.targets[target], TimeToEvent) else 0)


def pooled_statistics(
    sums: Sequence[Sums], task: Task, references: Mapping[str, Reference]
) -> dict[str, FeatureStatistics]:
    """Feature statistics of all training patients, of harmonised tables those after it; frozen from here on."""
    pooled = {}
    for name in task.tables:
        sites = [site.statistics[name] for site in sums]
        if name in references:
            sites = [adjustment(site, references[name]).statistics(site) for site in sites]
        pooled[name] = total(sites)
    return pooled


def modalities_below(least: int, enrolled: Mapping[str, Enrolment], task: Task) -> list[str]:
    """Modalities that some training sites have, but fewer than `least`."""
    training = [site for site in enrolled.values() if site.trains]
    sites = {name: sum(1 for site in training if site.modalities[name]) for name in task.modalities}
    return [modality for modality, count in sites.items() if 0 < count < least]


def class_weights(task: Task, config: StudySettings, counts: Mapping[str, np.ndarray[Any, Any]]) -> Arrays:
    """Weights of the classes in the loss by target, from all sites' counts; none where the study asks for none."""
    from shared_models.class_weights import balanced_weights

    if config.class_weights == "none":
        return {}
    balanced = {name: balanced_weights(target, counts[name]) for name, target in task.targets.items()}
    return {name: weights for name, weights in balanced.items() if weights is not None}
