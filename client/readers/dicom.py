"""Reader of MRI as DICOM, a folder a patient."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from client.contract.columns import ColumnOrName
from client.contract.paths import Instance, Pattern, matching_files
from client.errors import SiteError
from client.imaging.dicom.exam_choice import Study, Wanted
from client.imaging.dicom.exam_folder import DicomFiles, files_under
from client.imaging.exams import ExamFiles, Seconds
from client.imaging.laterality import sides
from client.imaging.masks import MaskOrPattern, MaskSource, mask_files, masks
from client.imaging.preprocessing import Preprocessing
from client.readers.exam_artefacts import ExamArtefacts, Recipes, read_volumes, volume_recipes
from client.readers.modality_data import ModalityData
from shared_models.settings import Settings
from shared_models.task import Modality, Volume

if TYPE_CHECKING:
    from client.contract.protocols import Rows, Site


class DicomReader(Settings):
    """MRI as DICOM files; which of a patient's files are the dynamic exam is read from their headers."""

    supported_kinds: ClassVar[tuple[type[Modality], ...]] = (Volume,)

    reader: Literal["dicom"] = Field(description="chooses this reader")
    folder: Pattern = Field(
        description="a patient's folder: `dicom/{patient}`; the headers of all files below it are read"
    )
    series: str | None = Field(
        None, description="a regular expression for the dynamic series' description or its protocol's name"
    )
    image_type: str | None = Field(
        None,
        description="a value of ImageType that its images have: W for the water of a Dixon series, M for magnitude",
    )
    study: Study | None = Field(None, description="first or last, by date, where a patient has several exams")
    phases: tuple[int, ...] = Field((), description="which phases are taken, in time from 0; all if left out")
    seconds: Seconds = Field((), description="when each phase was taken, after the first, if the headers do not say")
    mask: MaskOrPattern | None = Field(None, description="the tumour: a file, a DICOM SEG or RTSTRUCT, or a box")
    laterality: ColumnOrName | None = Field(
        None, description="the breast with the finding, if the headers do not say: a column of L and R, or with `codes`"
    )
    preprocessing: Preprocessing = Field(Preprocessing(), description="steps before the images are resampled")

    @field_validator("series")
    @classmethod
    def _is_an_expression(cls, series: str | None) -> str | None:
        try:
            re.compile(series or "")
        except re.error as error:
            msg = f"{series!r} is no regular expression: {error}"
            raise ValueError(msg) from None
        return series

    @model_validator(mode="after")
    def _phases_rise(self) -> Self:
        rising = sorted(set(self.phases))
        if list(self.phases) != rising or (rising and rising[0] < 0):
            msg = f"phases {list(self.phases)}: expected positions from 0, each once, in the order of time"
            raise ValueError(msg)
        if self.phases and self.seconds and len(self.phases) != len(self.seconds):
            msg = f"seconds: {len(self.seconds)} times for {len(self.phases)} phases"
            raise ValueError(msg)
        return self

    def preview_kind(self) -> Volume:
        """One phase, coarse: they are only read to see that they can be."""
        return Volume((2, 8, 8, 8), (20.0, 20.0, 20.0), tumour=True, field_of_view="whole")

    def columns(self, kind: Volume) -> list[tuple[str, str]]:
        """None: a box's table is read apart."""
        return []

    def files(self, site: Site) -> list[Path]:
        """All files of everybody, and the masks; a box's table is known already."""
        images = [path for files in self._images(site).values() for path in files]
        return images + ([] if self.mask is None else mask_files(site, self.mask))

    def exams(self, site: Site) -> dict[Instance, ExamFiles | SiteError]:
        """The exams there are, by patient or lesion; their headers are not read yet.

        Raises:
            SiteError: If a file lies outside data_root, or the table of boxes cannot be read.
        """
        tumours, side = masks(site, self.mask), sides(site, self.laterality)
        exams: dict[Instance, ExamFiles | SiteError] = {}
        for key, images in self._images(site).items():
            mask = tumours.get(key)
            if isinstance(mask, SiteError):
                exams[key] = mask
            elif images:
                exams[key] = self._exam(images, mask, side.get(key.patient, ""))
        return exams

    def _exam(self, images: set[Path], mask: MaskSource | None, side: str) -> DicomFiles:
        lacks_mask, lacks_side = self.mask is not None and mask is None, self.laterality is not None and not side
        files = tuple(sorted(images))
        wanted = Wanted(self.series, self.image_type, self.study)
        return DicomFiles(files, wanted, self.phases, self.seconds, mask, lacks_mask, side, lacks_side)

    def _images(self, site: Site) -> dict[Instance, set[Path]]:
        """All files in each patient's or lesion's folders."""
        return {
            key: {file for path in folders if path.is_dir() for file in files_under(site, path, self.folder)}
            for key, folders in matching_files(site, self.folder, "folder").items()
        }

    def exam_recipes(self, name: str, kind: Volume) -> tuple[str, Recipes]:
        """A volume of each of its own exams."""
        return name, volume_recipes(kind)

    def read(self, rows: Rows, name: str, kind: Volume, exams: ExamArtefacts) -> ModalityData:
        """Volumes `(R, C, D, H, W)`, 0 where a row has none."""
        return read_volumes(rows, name, kind, exams)
