"""Reader of mammograms: one image a file, for a patient or each view, with an optional mask of the finding."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from client.contract.paths import Instance, Pattern, matching_files
from client.errors import SiteError
from client.imaging.exams import ExamFiles
from client.imaging.files import bad_file
from client.imaging.mammography.exam_files import PLAUSIBLE_SPACING_MM, MammogramFiles
from client.imaging.mammography.view_headers import Spacing, View, view_header
from client.imaging.preprocessing import Preprocessing
from client.readers.exam_artefacts import ExamArtefacts, Recipes, read_volumes, volume_recipes
from client.readers.modality_data import ModalityData
from shared_models.settings import Settings
from shared_models.task import Modality, Volume

if TYPE_CHECKING:
    from client.contract.protocols import Rows, Site


class MammogramReader(Settings):
    """Mammograms as DICOM MG, PNG or TIFF files, one view a file."""

    supported_kinds: ClassVar[tuple[type[Modality], ...]] = (Volume,)
    preprocessing: ClassVar[Preprocessing] = Preprocessing()  # its steps are for MRI

    reader: Literal["mammogram"] = Field(description="chooses this reader")
    images: Pattern = Field(description="file of each view, as `mammo/{patient}/{instance}.dcm`")
    mask: Pattern | None = Field(None, description="the finding in its image, where a pixel is not 0")
    spacing_mm: Spacing | None = Field(
        None, description="distance between rows and between columns, for files that do not say it: PNG and TIFF"
    )
    view: View | None = Field(None, description="takes the DICOM files of this view, and leaves the others")

    side: Literal["left", "right"] | None = Field(None, description="takes the DICOM files of this breast, likewise")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.mask and ("{instance}" in self.mask) != ("{instance}" in self.images):
            msg = "`images` and `mask` both hold {instance}, or neither does"
            raise ValueError(msg)
        low, high = PLAUSIBLE_SPACING_MM
        if self.spacing_mm and not all(low <= distance <= high for distance in self.spacing_mm):
            msg = f"expected `spacing_mm` of [row, column] from {low} to {high} mm, found {list(self.spacing_mm)}"
            raise ValueError(msg)
        if self.images.lower().endswith((".png", ".tif", ".tiff")) and not self.spacing_mm:
            msg = "PNG and TIFF files do not say how large a pixel is: add `spacing_mm: [row, column]`"
            raise ValueError(msg)
        return self

    def preview_kind(self) -> Volume:
        """The image and the finding, coarse: they are only read to see that they can be."""
        return Volume((2, 1, 8, 8), (1.0, 20.0, 20.0), tumour=True, field_of_view="whole")

    def columns(self, kind: Volume) -> list[tuple[str, str]]:
        """None."""
        return []

    def files(self, site: Site) -> list[Path]:
        """The images and masks."""
        images, masks = self._images_and_masks(site)
        return [path for paths in (*images.values(), *masks.values()) for path in paths]

    def exams(self, site: Site) -> dict[Instance, ExamFiles | SiteError]:
        """The exams there are, by patient or view.

        Raises:
            SiteError: If a file lies outside data_root.
        """
        images, masks = self._images_and_masks(site)
        exams = {key: self._exam(paths, masks.get(key, [])) for key, paths in images.items()}
        return {key: exam for key, exam in exams.items() if exam}

    def exam_recipes(self, name: str, kind: Volume) -> tuple[str, Recipes]:
        """A volume of each of its own exams."""
        return name, volume_recipes(kind)

    def read(self, rows: Rows, name: str, kind: Volume, exams: ExamArtefacts) -> ModalityData:
        """Volumes `(R, C, 1, H, W)`, 0 where a row has none."""
        return read_volumes(rows, name, kind, exams)

    def _images_and_masks(self, site: Site) -> tuple[dict[Instance, list[Path]], dict[Instance, list[Path]]]:
        """The images and the masks; what fits both, as `CC_mask.png` fits `{instance}.png`, is a mask."""
        masks = matching_files(site, self.mask, "mask") if self.mask else {}
        taken = {path for paths in masks.values() for path in paths}
        images = {
            key: [path for path in paths if path not in taken]
            for key, paths in matching_files(site, self.images, "images").items()
        }
        return {key: paths for key, paths in images.items() if paths}, masks

    def _exam(self, images: list[Path], masks: list[Path]) -> ExamFiles | SiteError | None:
        """None where no image is of the view and side."""
        try:
            wanted = self._wanted(images)
        except SiteError as error:
            return error
        if not wanted:
            return None
        for role, paths in (("images", wanted), ("mask", masks)):
            if len(paths) > 1:
                return bad_file(
                    paths[0].parent,
                    "several files where one is expected",
                    f"{len(paths)} that fit `{role}`",
                    "one; {instance} in the pattern tells views apart, and so do `view: CC` and `side: left`",
                )
        return MammogramFiles(wanted[0], next(iter(masks), None), bool(self.mask and not masks), self.spacing_mm)

    def _wanted(self, images: list[Path]) -> list[Path]:
        """The images of the view and side; of several, those that are plain, and that a radiologist looked at."""
        if self.view is None and self.side is None:
            return images
        headers = {path: view_header(path) for path in images}
        for key in ("view", "side"):
            if getattr(self, key) is None:
                continue
            if unsaid := [path for path, header in headers.items() if not getattr(header, key)]:
                expected = f"the {key} in a DICOM file's header, or no `{key}` in the site's YAML"
                raise bad_file(unsaid[0], f"a mammogram does not say its {key}", f"no {key}", expected)
            headers = {path: header for path, header in headers.items() if getattr(header, key) == getattr(self, key)}
        headers = {path: one for path, one in headers.items() if not one.special} or headers
        shown = [path for path, one in headers.items() if one.intent != "FOR PROCESSING"]
        return shown or list(headers)
