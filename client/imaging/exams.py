"""Exam of a patient, lesion or view: its images, the tumour's mask, and the preprocessed tensor.

Readers of image files find exams; what is made of one, a volume on the study's grid or measured features, is the same
whatever files it came from.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator

from client.contract.identifiers import loose_identifier
from client.contract.paths import Instance
from client.errors import SiteError

if TYPE_CHECKING:
    from client.contract.protocols import Rows

PUBLIC = "the site's images and tables do not fit together"


def _rising(seconds: tuple[float, ...]) -> tuple[float, ...]:
    if seconds and (seconds[0] != 0 or list(seconds) != sorted(set(seconds))):
        msg = f"{list(seconds)}: expected seconds after the first phase, as [0, 90, 180]"
        raise ValueError(msg)
    return seconds


Seconds = Annotated[tuple[float, ...], AfterValidator(_rising)]


@dataclass(frozen=True, eq=False)
class Exam:
    """Images in memory, as SimpleITK images of 32-bit floats in one geometry.

    Attributes:
        name: The file or folder, for messages at the site.
        phases: The pre-contrast phase first; a mammogram or a single phase is alone.
        seconds: When each phase was taken, from the first on; None where the files do not say.
        mask: The tumour as 0 and 1 on the phases' grid, or None.
        lacks_mask: Whether the site has masks, but not of this exam.
        mask_share: Share of the tumour's volume, as it was drawn, that lies within the images.
        side: The breast with the finding, the patient's own left or right; empty where the site does not say.
        lacks_side: Whether the site says it of others.
        choice: What was chosen among the patient's files, such as the series, for the site's list of exams.
        remarks: What looks wrong but can be used, each with what to do; no patient is named.
    """

    name: Path
    phases: tuple[Any, ...]
    seconds: tuple[float, ...] | None = None
    mask: Any | None = None
    lacks_mask: bool = False
    mask_share: float = 1.0
    side: str = ""
    lacks_side: bool = False
    choice: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @functools.cached_property
    def tumour_mm(self) -> NDArray[np.float64]:
        """Where the centres of the mask's K voxels lie, `(K, 3)` in DICOM's coordinates (LPS); none without a mask."""
        import SimpleITK as sitk

        if self.mask is None:
            return np.zeros((0, 3))
        index = np.argwhere(sitk.GetArrayViewFromImage(self.mask))[:, ::-1]
        turn = np.asarray(self.mask.GetDirection()).reshape(3, 3)
        return np.asarray(index * self.mask.GetSpacing() @ turn.T + self.mask.GetOrigin())


class ExamFiles(Protocol):
    """Where an exam is; can be sent to another process."""

    @property
    def files(self) -> tuple[Path, ...]:
        """All of its files, sorted."""
        ...

    @property
    def cache_key_extra(self) -> str:
        """What else decides what is read, such as a tumour's box in a table; empty for files alone."""
        ...

    def load(self) -> Exam:
        """Reads them.

        Raises:
            SiteError: If they cannot be used.
        """
        ...


Exams = Mapping[Instance, ExamFiles | SiteError]


def exam_of_rows(cohort_rows: Rows, exams: Exams, place: str) -> tuple[dict[int, ExamFiles | SiteError], list[str]]:
    """The exam of each row that has one, and warnings.

    An exam without an instance belongs to all rows of its patient.

    Args:
        cohort_rows: The cohort's R rows.
        exams: Of everybody.
        place: Where the reader is in the site's YAML, for messages.

    Raises:
        SiteError: If no patient has one.
    """
    by_instance = any(key.instance for key in exams)
    keys = [key if by_instance else Instance(key.patient) for key in cohort_rows.keys]
    by_row = {row: exams[key] for row, key in enumerate(keys) if key in exams}
    included, wanted = {key.patient for key in keys}, set(keys)
    strangers = {
        key for key in exams if key.patient not in cohort_rows.known or (key.patient in included and key not in wanted)
    }
    if not by_row:
        raise SiteError(
            what="no patient has images",
            where=place,
            found=f"images of {len(strangers)} patients or lesions that are not in {cohort_rows.row_table}",
            expected=f"images of a patient in {cohort_rows.row_table}",
            fix="correct the pattern, or leave the modality out",
            public=PUBLIC,
        )
    unused = f"{place}: {len(strangers)} exams without a row in {cohort_rows.row_table} are not used"
    having = {cohort_rows.keys[row].patient for row in by_row}
    loose = {loose_identifier(patient) for patient in cohort_rows.known - having} if strangers else set()
    if near := sum(loose_identifier(key.patient) in loose for key in strangers):
        unused += f"; {near} of them would fit a patient's but for leading zeros, capitals, blanks or signs"
    return by_row, [unused] if strangers else []
