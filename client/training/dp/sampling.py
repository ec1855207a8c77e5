"""Poisson sampling of patients: the batches of private training."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from client.training.dataset import PatientDataset
from client.training.dp.mechanism import Mechanism
from client.training.dp.randomness import PatientDraws, fingerprints, patient_draws, secret_key

# Inputs `{modality: (N, ...)}`, presence `(N, M)`, truths `{target: (N,) or (N, 2)}`, and the patients' own draws.
PrivateBatch = tuple[dict[str, Tensor], Tensor, dict[str, Tensor], PatientDraws]


class PoissonLoader:
    """Batches by Poisson sampling of the patients; some may be empty, and noise is added all the same.

    Who is drawn is secret, and each step has a key of its own: the accounted epsilon supposes that no one but the site
    knows it. Which lesion or view of a patient is drawn is not (`patient_draws`).

    Args:
        patients: The site's.
        asked: The sampling rate, and the steps of a pass.
    """

    def __init__(self, patients: PatientDataset, asked: Mechanism) -> None:
        self._patients, self._asked = patients, asked
        self._fingerprints = fingerprints(patients.identifiers[index] for index in patients.indices)
        self._step = 0

    def __len__(self) -> int:
        return self._asked.steps

    def __iter__(self) -> Iterator[PrivateBatch]:
        """A pass over the patients; a second one continues with new draws."""
        for _ in range(self._asked.steps):
            uniform = PatientDraws(secret_key(), self._fingerprints).uniform(1)[:, 0].numpy()
            chosen = np.flatnonzero(uniform < self._asked.sample_rate)
            own = patient_draws(self._patients.seed, self._step, self._fingerprints[chosen])
            self._step += 1
            yield self._read(chosen, own)

    def _read(self, chosen: NDArray[np.int64], own: PatientDraws) -> PrivateBatch:
        patients, points = self._patients.indices[chosen], own.uniform(1)[:, 0].numpy()
        rows = np.asarray([self._row(*pair) for pair in zip(patients, points, strict=True)], dtype=np.int64)
        return *self._patients.batch(patients, rows), own

    def _row(self, patient: int, point: float) -> int:
        """One of a patient's rows, by their sampling weights."""
        first, end = self._patients.first[patient : patient + 2]
        shares = np.cumsum(self._patients.sampling_weight[first:end])
        return int(first + np.searchsorted(shares[:-1], point * shares[-1], side="right"))
