"""Saliency and attention maps of a few test patients, for the site's own page."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch import nn

from client.imaging.planes import planes
from client.inference.attention import attention
from client.inference.saliency import saliency
from client.training.dataset import PatientDataset
from shared_models.pages.elements import Pictures, Section
from shared_models.task import Task, Volume

log = logging.getLogger("client")
MAX_MAPS = 8
MEANING = (
    "Of each outcome the test patients with the highest and the lowest prediction. Blue: voxels of which a small "
    "change moves the output most (SmoothGrad); under attention, those that the network weighs most. Orange: the "
    "tumour's outline. A map shows what the network is sensitive to, which is not where the disease is. "
    "python -m client predict with --maps draws more of them."
)
Array = np.ndarray[Any, Any]


def cases(network: nn.Module, task: Task, patients: PatientDataset, scores: Mapping[str, Array]) -> Section | None:
    """The section; None of a task without images. A map that fails takes nothing from the page.

    Args:
        network: As it was tested.
        task: The study's.
        patients: The P test patients.
        scores: Their predictions by target, `(P,)` or `(P, K)`.
    """
    try:
        maps = list(_maps(network.eval(), task, patients, scores))
    except Exception:  # such as too little memory for gradients of voxels
        log.exception("the maps of a few cases were not drawn")
        return None
    return Section("A few cases", MEANING, maps) if maps else None


def _maps(network: nn.Module, task: Task, patients: PatientDataset, scores: Mapping[str, Array]) -> Iterator[Pictures]:
    left = MAX_MAPS
    for column, (name, kind) in enumerate(task.modalities.items()):
        rows = _rows_with(patients, column) if isinstance(kind, Volume) else {}
        attended = set[int]()
        for target, predicted in scores.items():
            for place in _extremes(predicted, [*rows])[:left]:
                assert isinstance(kind, Volume)
                left -= 1
                row, of = rows[place], (target, task.targets[target])
                image, heat = saliency(network, patients, row, name, of, kind.tumour)
                title = f"Row {place + 1} of the predictions: {name}"
                yield _pictures(f"{title}, {target.replace('_', ' ')}", image, heat, kind)
                looks = None if row in attended else attention(network, patients, row, name, task)
                if looks is not None:
                    attended.add(row)
                    yield _pictures(f"{title}, attention", image, looks, kind)


def _pictures(title: str, image: Array, heat: Array, kind: Volume) -> Pictures:
    return Pictures(title, [(plane.plane, plane.source) for plane in planes(image, kind, heat)])


def _rows_with(patients: PatientDataset, column: int) -> dict[int, int]:
    """The first row with that modality of each test patient who has one, by the patient's place."""
    rows = {}
    for place, patient in enumerate(patients.indices):
        first, end = patients.first[patient], patients.first[patient + 1]
        there = np.flatnonzero(patients.present[first:end, column])
        if len(there):
            rows[place] = int(first + there[0])
    return rows


def _extremes(predicted: Array, places: list[int]) -> list[int]:
    """The places of the highest and the lowest prediction; of classes of the surest and the least sure."""
    if not places:
        return []
    values = (predicted.max(axis=1) if predicted.ndim == 2 else predicted)[places]
    return list(dict.fromkeys([places[int(values.argmax())], places[int(values.argmin())]]))
