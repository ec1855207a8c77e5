"""Patients of a phantom as arrays in the layout of a task's inputs, for experiments without files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared_models.study_settings import StudySettings
from shared_models.task import Table, load_task
from simulation.phantoms.waves import Array, Axes

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Grid:
    """A study's image grid.

    Attributes:
        shape: Voxels along (D, H, W).
        spacing_mm: Their size.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]

    def axes(self) -> Axes:
        """Positions of the voxels along (D, H, W) in mm, 0 in the middle."""
        deep, high, wide = (
            np.asarray(step * (np.arange(count, dtype=np.float64) - (count - 1) / 2))
            for count, step in zip(self.shape, self.spacing_mm, strict=True)
        )
        return deep, high, wide


@dataclass(frozen=True)
class Arrays:
    """N patients.

    Attributes:
        inputs: Modality to `(N, ...)`: images as `(C, D, H, W)`, tables as the z-scores and missing flags of their
            columns.
        truth: Target to its label `(N,)`.
        group: `(N,)` which patient a row is of, where a patient has several lesions or views.
    """

    inputs: Mapping[str, Floats]
    truth: Mapping[str, Floats]
    group: NDArray[np.int64]


def table_columns(table: Table, rows: Sequence[Mapping[str, float | str]]) -> Floats:
    """Columns `(N, C)` of a table: numbers as they are (or their logarithm of 1 + x), categories as 0 and 1."""
    columns = []
    for feature in table.features:
        cells = [row[feature.name] for row in rows]
        if feature.categories:
            columns += [[float(cell == category) for cell in cells] for category in feature.categories]
        else:
            numbers = np.array(cells, dtype=np.float64)
            columns.append(list(np.log1p(numbers) if feature.log else numbers))
    return np.array(columns, dtype=np.float32).T


def table_inputs(table: Table, rows: Sequence[Mapping[str, float | str]]) -> Floats:
    """Network inputs `(N, 2 C)` of complete rows: z-scores over these rows, then missing flags, all 0."""
    columns = table_columns(table, rows)
    scores = (columns - columns.mean(axis=0)) / np.maximum(columns.std(axis=0), 1e-6)
    return np.concatenate([scores, np.zeros_like(scores)], axis=1)


def with_distance(image: Array, distance_mm: Array) -> Array:
    """Channels `(C + 1, D, H, W)`: images over the 95th percentile outside the lesion, and the distance to it.

    The percentile is that of the first of the images `(C, D, H, W)`, or of the only one `(D, H, W)`.
    A site divides by the whole exam's percentile, on which a lesion has no influence: it is a small part of an exam.
    """
    images = image if image.ndim == 4 else image[None]
    level = np.percentile(images[0][distance_mm < 0], 95)
    return np.concatenate([images / level, distance_mm[None]])


def stacked_tables(task: str, rows: Mapping[str, Sequence[Mapping[str, float | str]]]) -> dict[str, Floats]:
    """Network inputs of each of a task's tables."""
    return {name: table_inputs(task_table(task, name), table) for name, table in rows.items()}


def task_table(task: str, name: str) -> Table:
    """A task's own table."""
    return load_task(StudySettings(task=task)).tables[name]
