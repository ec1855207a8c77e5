"""Importance of modalities and features at one site: scores of its patients with a part of their input changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from client.training.dataset import Array, PatientDataset
from client.training.loop import predict
from client.training.shapley import columns_of, explained
from shared_models.importance import Change, Importance, changes, pooled_statistic
from shared_models.metrics.arrays import TargetStatistic, add, counted_fields
from shared_models.metrics.paired import PairedPairs, joined
from shared_models.study_settings import StudySettings
from shared_models.targets import Target
from shared_models.task import SHUFFLES, Task

Scores = Mapping[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class ChangedPatients(PatientDataset):
    """The same patients with a part of their input changed.

    Attributes:
        modality: What is changed.
        column: Its column of `present`.
        source: `(R,)` the row of which each row has the modality; where a row's own, it is unchanged.
        columns: Those of a table that come from there; None for all of the modality.
        absent: Whether the modality is hidden, where a row has another one.
    """

    modality: str = ""
    column: int = 0
    source: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    columns: Sequence[int] | None = None
    absent: bool = False

    def read(self, rows: Array) -> tuple[dict[str, Tensor], Tensor]:
        """See `PatientDataset`."""
        inputs, present = super().read(rows)
        if self.absent:
            present = present.clone()
            others = present.sum(dim=1) - present[:, self.column] > 0
            present[others, self.column] = 0.0
            return inputs, present
        taken = torch.from_numpy(np.asarray(self.inputs[self.modality][self.source[rows]], dtype=np.float32))
        if self.columns is None:
            return {**inputs, self.modality: taken}, present
        changed = inputs[self.modality].clone()
        changed[:, list(self.columns)] = taken[:, list(self.columns)]
        return {**inputs, self.modality: changed}, present


def importance_of(
    model: nn.Module, patients: PatientDataset, scores: Scores, task: Task, config: StudySettings, seed: int
) -> Importance:
    """What is lost by each change of the study, over some patients of one site.

    Args:
        model: The network.
        patients: Of one part of the split.
        scores: What `predict` gives of them, by target.
        task: The study's.
        config: Its settings.
        seed: Of the shuffles.
    """
    if not len(patients) or not changes(task, config):
        return Importance.empty(task, config)
    counted = [
        _count(model, patients, scores, task, change, [seed, n]) for n, change in enumerate(changes(task, config))
    ]
    pairs = {name: joined([one.pairs[name] for one in counted]) for name in task.targets}
    pooled = {}
    for name, target in task.targets.items():
        first = pooled_statistic(target, scores[name], patients.known(name))
        after = [one.pooled[name] for one in counted if name in one.pooled]
        if first is not None and after:
            pooled[name] = (first, *after)
    sums = explained(model, patients, task, config, seed) if config.importance == "shap" else {}
    return Importance(np.array([one.patients for one in counted], dtype=np.float64), pairs, pooled, sums)


@dataclass(frozen=True)
class _Counted:
    change: Change
    patients: int
    pairs: dict[str, PairedPairs]
    pooled: dict[str, TargetStatistic]


def _count(
    model: nn.Module, patients: PatientDataset, scores: Scores, task: Task, change: Change, seed: Sequence[int]
) -> _Counted:
    """One change: its scores are counted and forgotten, so that a thousand features take no memory."""
    after = [predict(model, changed, task) for changed in _changed(patients, task, change, np.random.default_rng(seed))]
    pairs, pooled = {}, {}
    for name, target in task.targets.items():
        truth, others = patients.known(name), [one[name] for one in after]
        pairs[name] = PairedPairs.of(target, scores[name], [others], truth)
        if not change.feature and change.kind == "shuffled" and (mean := _mean(target, others, truth)) is not None:
            pooled[name] = mean
    column = list(task.modalities).index(change.modality)
    several = patients.present.sum(axis=1) > (1 if change.kind == "absent" else 0)  # nobody's last one is hidden
    changed = [rows for rows in _rows_with(patients, column) if several[rows].any()]
    return _Counted(change, len(changed), pairs, pooled)


def _changed(
    patients: PatientDataset, task: Task, change: Change, rng: np.random.Generator
) -> Iterator[ChangedPatients]:
    """The patients as a change leaves them; shuffled several times."""
    column = list(task.modalities).index(change.modality)
    known = {each.name: getattr(patients, each.name) for each in fields(PatientDataset)}
    if change.kind == "absent":
        yield ChangedPatients(**known, modality=change.modality, column=column, absent=True)
        return
    columns = [*columns_of(task, change.modality, change.feature)] if change.feature else None
    rows = _rows_with(patients, column)
    for _ in range(SHUFFLES):
        source = _shuffled(rows, len(patients.present), rng)
        yield ChangedPatients(**known, modality=change.modality, column=column, source=source, columns=columns)


def _rows_with(patients: PatientDataset, column: int) -> list[Array]:
    """The rows that have a modality, of each patient who has any."""
    ends = zip(patients.first[patients.indices], patients.first[patients.indices + 1], strict=True)
    each = (np.arange(first, end) for first, end in ends)
    return [rows for own in each if len(rows := own[patients.present[own, column].astype(bool)])]


def _shuffled(rows: Sequence[Array], count: int, rng: np.random.Generator) -> Array:
    """For each of `count` rows the row that takes its place: each patient's are another's, in turn."""
    source = np.arange(count)
    for own, other in zip(rows, rng.permutation(len(rows)), strict=True):
        source[own] = np.resize(rows[other], len(own))
    return source


def _mean(target: Target, shuffled: Sequence[Array], truth: Array) -> TargetStatistic | None:
    """The histogram of the scores after all shuffles, in which each patient counts once."""
    counted = [pooled_statistic(target, scores, truth) for scores in shuffled]
    known = [one for one in counted if one is not None]
    if not known:
        return None
    total = reduce(add, known)
    return replace(total, **{each.name: getattr(total, each.name) / len(known) for each in counted_fields(type(total))})
