"""Volumes on the study's grid, from any image reader."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from client.cache.artifacts import Array, Job
from client.errors import SiteError
from client.imaging.exams import ExamFiles, Exams, exam_of_rows
from client.imaging.grid import on_grid
from client.imaging.preprocessing import Preprocessing, preprocess
from client.readers.modality_data import ModalityData, load_rows
from shared_models.task import Volume

if TYPE_CHECKING:
    from client.contract.protocols import Rows, Site

VERSION = 2  # raise it when the same files become another volume


class ImageReader(Protocol):
    """A reader of images: what else may be made of them needs its exams."""

    @property
    def preprocessing(self) -> Preprocessing:
        """What the site does to its exams first."""
        ...

    def exams(self, site: Site) -> Exams:
        """The exams there are by patient or lesion; one that lacks some of its files is an error."""
        ...

    def model_dump_json(self) -> str:
        """Its settings, which decide what is made of the same files."""
        ...


def read_volumes(records: Rows, name: str, kind: Volume, path: Path, reader: ImageReader) -> ModalityData:
    """Volumes `(R, C, D, H, W)` of a reader's exams on the study's grid, 0 where a row has none."""
    found, warnings = exam_of_rows(records, reader.exams(records.site), f"modalities.{name}")
    recipe = f"volume {VERSION}\n{kind!r}\n{reader.model_dump_json()}"
    jobs = {
        row: files
        if isinstance(files, SiteError)
        else Job(files.files, functools.partial(_volume, files, kind, reader.preprocessing), files.cache_key_extra)
        for row, files in found.items()
    }
    out = np.lib.format.open_memmap(path, "w+", np.float16, (len(records), *kind.shape))
    return load_rows(records.site, recipe, jobs, out, f"reading {name}", warnings)


def _volume(files: ExamFiles, kind: Volume, preprocessing: Preprocessing) -> Array:
    return on_grid(preprocess(files.load(), preprocessing), kind)
