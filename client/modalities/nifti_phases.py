"""Dynamic MRI as one NIfTI file a phase, of a patient or of each lesion, perhaps with a mask of the tumour."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from client.errors import ExitCode, SiteError, named_rows
from client.paths import Instance, Pattern, matching_files
from shared_models.settings import Settings
from shared_models.task import Modality, Volume

if TYPE_CHECKING:
    from client.records import Records
    from client.site import SiteConfig

PUBLIC = "the site's images and tables do not fit together"


class NiftiPhasesReader(Settings):
    """Dynamic MRI as one NIfTI file a phase, first the pre-contrast one."""

    makes: ClassVar[tuple[type[Modality], ...]] = (Volume,)

    reader: Literal["nifti_phases"]
    phases: tuple[Pattern, ...] = Field(min_length=1, description="file of each phase: `mri/{patient}/phase0.nii.gz`")
    mask: Pattern | None = Field(None, description="the tumour on the phases' grid, where a voxel is not 0")

    @field_validator("phases")
    @classmethod
    def _differ(cls, phases: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(phases)) < len(phases):
            msg = "the same file stands for two phases"
            raise ValueError(msg)
        return phases

    def mapped(self) -> Volume:
        """All phases, coarse: they are only read to see that they can be."""
        return Volume((len(self.phases) + 1, 8, 8, 8), (20.0, 20.0, 20.0), tumour=True)

    def columns(self, kind: Volume) -> list[tuple[str, str]]:
        """None."""
        return []

    def files(self, site: SiteConfig) -> list[Path]:
        """The phases and masks."""
        return [path for files in self.roles(site).values() for path in files.values()]

    def roles(self, site: SiteConfig) -> dict[Instance, dict[str, Path]]:
        """The files there are, by patient or lesion: `phase0` and so on, and `mask`.

        A file that fits two patterns, as `L1_mask.nii.gz` fits `{instance}.nii.gz`, belongs to the longer one.

        Raises:
            SiteError: If a file lies outside data_root.
        """
        patterns = {f"phase{index}": pattern for index, pattern in enumerate(self.phases)}
        patterns |= {"mask": self.mask} if self.mask else {}
        belongs: dict[Path, tuple[str, Instance]] = {}
        for role, pattern in sorted(patterns.items(), key=lambda item: len(item[1])):
            belongs |= {
                path: (role, key) for key, paths in matching_files(site, pattern, role).items() for path in paths
            }
        found: dict[Instance, dict[str, Path]] = {}
        for path, (role, key) in belongs.items():
            found.setdefault(key, {})[role] = path
        return found

    def read(self, records: Records, name: str, kind: Volume, path: Path) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Volumes `(R, C, D, H, W)`, 0 where a row has none.

        Raises:
            SiteError: If a file cannot be used, a row lacks some of its files, a file belongs to no row, or nobody
                has any.
        """
        from client.images import read_phases

        phases = self._phases_needed(kind, name)
        found = self.roles(records.site)
        self._check_roles(records, found, name, len(self.phases) + (kind.tumour and self.mask is not None))
        volumes: NDArray[np.float16] = np.lib.format.open_memmap(path, "w+", np.float16, (len(records), *kind.shape))
        present = np.zeros(len(records), dtype=bool)
        for row, key in enumerate(self._keys(records)):
            if files := found.get(key):
                volumes[row] = read_phases([files[f"phase{i}"] for i in phases], kind, files.get("mask"))
                present[row] = True
        return volumes, present

    def _keys(self, records: Records) -> list[Instance]:
        """The key of each row's files."""
        by_instance = "{instance}" in self.phases[0]
        return [key if by_instance else Instance(key.patient) for key in records.keys]

    def _phases_needed(self, volume: Volume, name: str) -> list[int]:
        """All phases; or, for a study of one, the first post-contrast one after the pre-contrast one that scales it."""
        count, wanted = len(self.phases), volume.shape[0] - volume.tumour
        if count == wanted:
            return list(range(count))
        if wanted == 1:
            return [0, 1]
        raise SiteError(
            what="the site has another number of phases than the study",
            where=f"modalities.{name}.phases",
            found=f"{count} phases",
            expected=f"{wanted} phases, the pre-contrast one first",
            fix="list as many phases, or leave the modality out",
            public="the site's settings do not fit the study",
            exit_code=ExitCode.STUDY,
        )

    def _check_roles(self, records: Records, found: dict[Instance, dict[str, Path]], name: str, roles: int) -> None:
        where, keys = f"modalities.{name}", self._keys(records)
        included = {key.patient for key in keys}
        strangers = sorted(
            key for key in found if key.patient not in records.known or (key.patient in included and key not in keys)
        )
        if strangers:
            path = next(iter(found[strangers[0]].values()))
            raise SiteError(
                what="an image has no row in the site's table",
                where=where,
                found=f"images of {len(strangers)} patients or lesions without a row, the first {path}",
                expected=f"a row in {records.row_table} for each",
                fix="add the rows, or move the images out of data_root",
                public=PUBLIC,
            )
        if not any(key in found for key in keys):
            raise SiteError(
                what="no patient has images",
                where=where,
                found=f"no file matches {self.phases[0]}",
                expected="images of a patient",
                fix="correct the pattern, or leave the modality out",
                public=PUBLIC,
            )
        partly = sorted(
            {row for row, key in zip(records.row_numbers, keys, strict=True) if 0 < len(found.get(key, ())) < roles}
        )
        if partly:
            raise SiteError(
                what="a patient has the wrong number of phases, or no mask",
                where=where,
                found=f"only some of the files for {named_rows(partly)} of {records.row_table}",
                expected=f"{len(self.phases)} phases{' and a mask' if roles > len(self.phases) else ''}, or nothing",
                fix="add the files, or move the patient's other files out of data_root",
                public=PUBLIC,
            )
