"""Readers of modalities, one a file: the schema of the site's YAML and the reading itself.

A reader is a `Settings` with `reader: Literal["its_name"]` and

* `supported_kinds`: the kinds of modality it can fill;
* `preview_kind()`: the modality that its YAML describes, for a check without a study, or None if only a study says;
* `columns(kind)`: the `(table, column)` pairs it reads;
* `files(site)`: the other files it reads, so that the cache knows when they change; none of them is opened;
* `read(rows, name, kind, exams)`: a `ModalityData` of the R rows of `rows`: the tensor `(R, ...)`, who has it, and who
  had to be excluded. What is made of files is made in the artefact store: see `client.readers.modality_data.make_rows`.

One that fills a modality with what is made of exams, its own or another modality's, has besides

* `exam_recipes(name, kind)`: whose exams, and what is made of each, so that an exam is read once for all modalities of
  a study. `exams`, which `read` is given, has the result: see `client.readers.exam_artefacts`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from client.readers.dicom import DicomReader
from client.readers.extracted import ExtractedReader
from client.readers.image_files import ImageFilesReader
from client.readers.mammogram import MammogramReader
from client.readers.table import TableReader
from client.readers.tiles import TilesReader

Reader = Annotated[
    TableReader | ImageFilesReader | MammogramReader | TilesReader | DicomReader | ExtractedReader,
    Field(discriminator="reader"),
]
