"""PyTorch dataset of a cohort's patients: in training, one row (lesion or view) of each, drawn at random."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from client.cache.row_files import RowFiles
from client.cohort.load import Cohort
from shared_models.features import FeatureStatistics
from shared_models.study_settings import StudySettings
from shared_models.task import Task

# Inputs `{modality: (N, ...)}`, presence `(N, M)`, truths `{target: (N,) or (N, 2)}`.
Batch = tuple[dict[str, Tensor], Tensor, dict[str, Tensor]]
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class PatientDataset(Dataset[Batch]):
    """P patients of a cohort; a batch is read at once.

    An epoch sees each patient once, whatever the number of lesions or views: the patient stays the unit of a step,
    of an average and of privacy.

    Attributes:
        inputs: `{modality: (R, ...)}`.
        present: `(R, M)`.
        truths: `{target: (N,) or (N, 2)}`.
        first: `(N + 1,)` where each patient's rows start.
        sampling_weight: `(R,)` how often a row is drawn beside the patient's others.
        indices: `(P,)` which of the N patients.
        seed: Of the draws of rows in training without privacy; in private training, of what is random about a patient.
        identifiers: The N patients' identifiers; private training draws for each by these, not by their place.
    """

    inputs: Mapping[str, Array | RowFiles]
    present: Array
    truths: Mapping[str, Array]
    first: Array
    sampling_weight: Array
    indices: Array
    seed: int
    identifiers: Sequence[str]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Batch:
        inputs, present, truths = self.__getitems__([index])
        return {k: v[0] for k, v in inputs.items()}, present[0], {k: v[0] for k, v in truths.items()}

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        patients = self.indices[np.asarray(indices, dtype=np.int64)]
        return self.batch(patients, self._draw(patients))

    def batch(self, patients: Array, rows: Array) -> Batch:
        """Some of the N patients, each with one of their rows."""
        inputs, present = self.read(rows)
        return inputs, present, {name: _tensor(array, patients) for name, array in self.truths.items()}

    def read(self, rows: Array) -> tuple[dict[str, Tensor], Tensor]:
        """Inputs and presence of some rows."""
        return {name: _tensor(array, rows) for name, array in self.inputs.items()}, _tensor(self.present, rows)

    def all_rows(self) -> tuple[Array, Tensor]:
        """Every row of the P patients, and which of them each belongs to."""
        counts = self.first[self.indices + 1] - self.first[self.indices]
        owner = np.repeat(np.arange(len(self.indices)), counts)
        within = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        return self.first[self.indices][owner] + within, torch.from_numpy(owner)

    def known(self, target: str) -> Array:
        """The P truths of a target."""
        return self.truths[target][self.indices]

    @functools.cached_property
    def _rng(self) -> np.random.Generator:
        return np.random.default_rng(self.seed)

    def _draw(self, patients: Array) -> Array:
        """One row of each patient."""
        first, end = self.first[patients], self.first[patients + 1]
        if (end - first == 1).all():
            return first
        cumulative = np.append(0.0, np.cumsum(self.sampling_weight))
        point = self._rng.uniform(cumulative[first], cumulative[end])
        return np.clip(np.searchsorted(cumulative, point, side="right") - 1, first, end - 1)


def _tensor(array: Array | RowFiles, rows: Array) -> Tensor:
    return torch.from_numpy(np.asarray(array[rows], dtype=np.float32))


def select_patients(
    cohort: Cohort, part: str, task: Task, statistics: Mapping[str, FeatureStatistics], seed: int = 0
) -> PatientDataset:
    """The patients of `part`, their tables standardised by the study's frozen statistics."""
    inputs: dict[str, Array | RowFiles] = {name: cohort.inputs[name] for name in task.modalities}
    inputs |= {name: statistics[name].standardise(np.asarray(inputs[name])) for name in task.tables}
    return PatientDataset(
        inputs=inputs,
        present=cohort.present,
        truths=cohort.truths,
        first=cohort.first,
        sampling_weight=cohort.sampling_weight,
        indices=cohort.parts[part],
        seed=seed,
        identifiers=cohort.patients,
    )


def feature_statistics(
    cohort: Cohort, task: Task, patients: Array | None = None, least: int = 0
) -> dict[str, FeatureStatistics]:
    """Sums of each table's columns over the rows that have it.

    Args:
        cohort: The site's.
        task: The study's.
        patients: Some of the cohort's; None for the training ones.
        least: Of a column in which fewer differ from the commonest value there are no sums (`without_rare_values`).
    """
    return cohort.table_sums(task, cohort.parts["train"] if patients is None else patients, least)


def make_loader(patients: PatientDataset, config: StudySettings, seed: int) -> DataLoader[Batch]:
    """Shuffled batches, the same order for the same seed."""
    order = torch.Generator().manual_seed(seed)
    return DataLoader(patients, config.batch_size, shuffle=True, generator=order, collate_fn=as_read)


def as_read(batch: Any) -> Any:
    """Collates nothing: `__getitems__` has read the batch as one."""
    return batch
