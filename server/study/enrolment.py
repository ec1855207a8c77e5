"""What each site counted before round 1, checked, and what the study makes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from server.study.exchange import Answer
from shared_models.combat import Reference, adjustment
from shared_models.features import FeatureStatistics
from shared_models.messages import NUMBERS, RESULTS, Arrays, unpack_arrays, unpack_statistics
from shared_models.metrics.arrays import total
from shared_models.secure_sum import MIN_SITES
from shared_models.study_settings import StudySettings
from shared_models.targets import Regression, TimeToEvent
from shared_models.task import Task

MAX_SITE_PATIENTS = 1e7
MAX_SUM = 1e15


@dataclass(frozen=True)
class Enrolment:
    """One site's counts.

    Attributes:
        site: The site's name.
        numbers: `trains`, `patients/PART`, `modality/NAME`: its training patients with that modality, and `excluded`:
            its patients with files that cannot be used.
    """

    site: str
    numbers: dict[str, float]

    @property
    def trains(self) -> bool:
        """Whether it gives updates."""
        return bool(self.numbers["trains"])


@dataclass(frozen=True)
class Sums:
    """What training patients add up to, of one site or, in a secure sum, of all.

    Attributes:
        statistics: Sums of their features, by tabular modality.
        counts: Their class counts, by target.
    """

    statistics: Mapping[str, FeatureStatistics]
    counts: Arrays


def enrol(
    answers: Sequence[Answer], parts: Sequence[Answer], task: Task
) -> tuple[list[Enrolment], list[Sums], dict[str, str]]:
    """What can be used of the answers, and of what may be added up.

    Returns:
        The enrolments; the sums over training patients, of each training site or of all; why a site's are not used.
    """
    enrolled: dict[str, Enrolment] = {}
    sums: dict[str, Sums] = {}
    refused = {}
    for answer in (answer for answer in answers if answer.content is not None):
        try:
            enrolled[answer.site] = Enrolment(answer.site, _numbers(answer, task))
        except (KeyError, ValueError) as error:
            refused[answer.site] = f"enrolment refused: {error}"
    secure = [part for part in parts if part.members]
    for part in secure or [part for part in parts if part.site in enrolled]:
        try:
            sums[part.site] = _sums(part, task)
        except (KeyError, ValueError) as error:
            refused[part.site] = f"enrolment refused: {error}"
            enrolled.pop(part.site, None)
    counted = [sums[site] for site in sums if secure or (site in enrolled and enrolled[site].trains)]
    return list(enrolled.values()), counted, refused


def _numbers(answer: Answer, task: Task) -> dict[str, float]:
    assert answer.content is not None
    received = answer.content.metric_records[NUMBERS]
    names = ["trains", "excluded", *(f"patients/{part}" for part in ("train", "validation", "test"))]
    numbers = {name: _count(received, name) for name in [*names, *(f"modality/{name}" for name in task.modalities)]}
    if too_many := [m for m in task.modalities if numbers[f"modality/{m}"] > numbers["patients/train"]]:
        msg = f"more training patients have {', '.join(too_many)} than there are: {numbers['patients/train']:.0f}"
        raise ValueError(msg)
    return numbers


def _sums(part: Answer, task: Task) -> Sums:
    assert part.content is not None
    arrays = unpack_arrays(part.content.array_records[RESULTS])
    counts = {name: _checked_counts(arrays[f"counts.{name}"], name, task) for name in task.targets}
    return Sums(unpack_statistics(arrays, task), counts)


def _count(received: Mapping[str, Any], name: str) -> float:
    value = received[name]
    if not isinstance(value, int | float) or not 0 <= value <= MAX_SITE_PATIENTS:
        msg = f"{name} = {value!r} is not a number of patients"
        raise ValueError(msg)
    return float(value)


def _checked_counts(counts: np.ndarray[Any, Any], target: str, task: Task) -> np.ndarray[Any, Any]:
    kind = task.targets[target]
    expected = np.shape(kind.counts(_no_patients(task, target)))
    if counts.shape != expected or counts.dtype.kind not in "fiu" or not np.isfinite(counts).all():
        msg = f"counts of {target} are {counts.dtype}{counts.shape}, expected finite numbers {expected}"
        raise ValueError(msg)
    patients = counts[:1] if isinstance(kind, Regression) else counts  # a regression's other number is a sum
    if (patients < 0).any() or (patients > MAX_SITE_PATIENTS).any() or (np.abs(counts) > MAX_SUM).any():
        msg = f"counts of {target} are no numbers of patients: from {counts.min():g} to {counts.max():g}"
        raise ValueError(msg)
    return counts


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


def modalities_below_min_sites(enrolled: Sequence[Enrolment], task: Task) -> list[str]:
    """Modalities that some training sites have, but fewer than a secure sum needs."""
    patients_by_modality = {
        m: sum(1 for site in enrolled if site.trains and site.numbers[f"modality/{m}"]) for m in task.modalities
    }
    return [modality for modality, count in patients_by_modality.items() if 0 < count < MIN_SITES]


def class_weights(task: Task, config: StudySettings, counts: Mapping[str, np.ndarray[Any, Any]]) -> Arrays:
    """Weights of the classes in the loss by target, from all sites' counts; none where the study asks for none."""
    from shared_models.targets import balanced_weights

    if config.class_weights == "none":
        return {}
    found = {name: balanced_weights(target, counts[name]) for name, target in task.targets.items()}
    return {name: weights for name, weights in found.items() if weights is not None}


def initial_model(task: Task, config: StudySettings, counts: Mapping[str, np.ndarray[Any, Any]]) -> Arrays:
    """Seeded weights whose outputs start at the pooled base rates, so that no seed starts in a dead corner."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = task.build_model(task, config)
    with torch.no_grad():
        for name, layer in model.output_layers().items():  # type: ignore[operator]
            layer.bias.copy_(task.targets[name].base_logits(counts[name]))
    return {name: value.numpy() for name, value in model.state_dict().items()}
