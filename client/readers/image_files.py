"""Reader of MRI as one image file a phase, for a patient or each lesion, with an optional tumour mask."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from client.contract.columns import ColumnOrName
from client.contract.paths import Instance, Pattern, matching_files
from client.errors import SiteError
from client.imaging.boxes import boxes
from client.imaging.exams import PUBLIC, ExamFiles, Seconds
from client.imaging.laterality import sides
from client.imaging.masks import MaskOrPattern, MaskSource, mask_file
from client.imaging.phase_files import ImageFiles
from client.imaging.preprocessing import Preprocessing
from client.readers.exam_artefacts import ExamArtefacts, Recipes, read_volumes, volume_recipes
from client.readers.modality_data import ModalityData
from shared_models.settings import Settings
from shared_models.task import Modality, Volume

if TYPE_CHECKING:
    from client.contract.protocols import Rows, Site


class ImageFilesReader(Settings):
    """MRI as one NIfTI, NRRD or MHA file a phase, first the pre-contrast one."""

    supported_kinds: ClassVar[tuple[type[Modality], ...]] = (Volume,)

    reader: Literal["image_files"] = Field(description="chooses this reader")
    phases: tuple[Pattern, ...] = Field(
        min_length=1,
        description="file of each phase: `mri/{patient}/phase0.nii.gz`; or one file of all, whose fourth axis is time",
    )
    seconds: Seconds = Field((), description="when each phase was taken, after the first: [0, 90, 180]")
    mask: MaskOrPattern | None = Field(None, description="the tumour: a file, a DICOM SEG or RTSTRUCT, or a box")
    laterality: ColumnOrName | None = Field(
        None, description="the breast with the finding: a column of L and R, or with `codes` to left and right"
    )
    preprocessing: Preprocessing = Field(Preprocessing(), description="steps before the images are resampled")

    @field_validator("phases")
    @classmethod
    def _differ(cls, phases: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(phases)) < len(phases):
            msg = "the same file is given for two phases"
            raise ValueError(msg)
        return phases

    @model_validator(mode="after")
    def _a_time_each(self) -> Self:
        if self.seconds and len(self.phases) > 1 and len(self.seconds) != len(self.phases):
            msg = f"seconds: {len(self.seconds)} times for {len(self.phases)} phases"
            raise ValueError(msg)
        return self

    def preview_kind(self) -> Volume:
        """All phases, coarse, or one of a file of all: they are only read to see that they can be."""
        return Volume((len(self.phases) + 1, 8, 8, 8), (20.0, 20.0, 20.0), tumour=True, field_of_view="whole")

    def columns(self, kind: Volume) -> list[tuple[str, str]]:
        """None."""
        return []

    def files(self, site: Site) -> list[Path]:
        """The phases and masks."""
        return [path for roles in self._roles(site).values() for paths in roles.values() for path in paths]

    def exams(self, site: Site) -> dict[Instance, ExamFiles | SiteError]:
        """The exams there are, by patient or lesion.

        Raises:
            SiteError: If a file lies outside data_root, or the table of boxes cannot be read.
        """
        box, side = boxes(site, self.mask.box) if self.mask and self.mask.box else {}, sides(site, self.laterality)
        return {
            key: self._exam(files, box.get(key), side.get(key.patient, "")) for key, files in self._roles(site).items()
        }

    def exam_recipes(self, name: str, kind: Volume) -> tuple[str, Recipes]:
        """A volume of each of its own exams."""
        return name, volume_recipes(kind)

    def read(self, rows: Rows, name: str, kind: Volume, exams: ExamArtefacts) -> ModalityData:
        """Volumes `(R, C, D, H, W)`, 0 where a row has none."""
        return read_volumes(rows, name, kind, exams)

    def _roles(self, site: Site) -> dict[Instance, dict[str, list[Path]]]:
        """The files by role: `phase0` and so on, and `mask`.

        A file that fits two patterns, as `L1_mask.nii.gz` fits `{instance}.nii.gz`, belongs to the longer one.
        """
        patterns = {f"phase{index}": pattern for index, pattern in enumerate(self.phases)}
        patterns |= {"mask": self.mask.file} if self.mask and self.mask.file else {}
        belongs: dict[Path, tuple[str, Instance]] = {}
        for role, pattern in sorted(patterns.items(), key=lambda item: len(item[1])):
            belongs |= {
                path: (role, key) for key, paths in matching_files(site, pattern, role).items() for path in paths
            }
        roles: dict[Instance, dict[str, list[Path]]] = {}
        for path, (role, key) in belongs.items():
            roles.setdefault(key, {}).setdefault(role, []).append(path)
        return roles

    def _exam(
        self, files: dict[str, list[Path]], mask: MaskSource | SiteError | None, side: str
    ) -> ExamFiles | SiteError:
        roles = [f"phase{index}" for index in range(len(self.phases))]
        missing = [role for role in roles if role not in files]
        several = [role for role in roles if len(files.get(role, [])) > 1]
        if missing or several:
            return SiteError(
                what="an exam has the wrong number of phases",
                where=str(next(iter(files.values()))[0].parent),
                found=f"several files of {', '.join(several)}"
                if several
                else f"{', '.join(sorted(files))} without {', '.join(missing)}",
                expected=f"{len(roles)} phases of one file each, or nothing",
                fix="add the files, or move the patient's other files out of data_root",
                public=PUBLIC,
            )
        if self.mask and "mask" in files:
            mask = mask_file(files["mask"], self.mask)
        if isinstance(mask, SiteError):
            return mask
        lacks_mask, lacks_side = self.mask is not None and mask is None, self.laterality is not None and not side
        phases = tuple(files[role][0] for role in roles)
        return ImageFiles(phases, self.seconds, mask, lacks_mask, side, lacks_side)
