"""Exams as image files, one a phase or one of all, perhaps with a mask."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from client.imaging.exams import Exam
from client.imaging.files import bad_file, check_geometry, read_image, read_phases
from client.imaging.masks import MaskSource, tumour_mask
from client.imaging.nifti_header import check_nifti_header


@dataclass(frozen=True)
class ImageFiles:
    """An exam as one file a phase.

    Attributes:
        phases: The pre-contrast phase first.
        seconds: When they were taken; empty if unknown.
        mask: Where the tumour is, or None.
        lacks_mask: Whether the site has masks, but not of this exam.
        side: The breast with the finding, left or right; empty where the site does not say.
        lacks_side: Whether the site says it of others.
    """

    phases: tuple[Path, ...]
    seconds: tuple[float, ...] = ()
    mask: MaskSource | None = None
    lacks_mask: bool = False
    side: str = ""
    lacks_side: bool = False

    @property
    def files(self) -> tuple[Path, ...]:
        """The phases, then the mask."""
        return self.phases + (self.mask.files if self.mask else ())

    @property
    def cache_key_extra(self) -> str:
        """The tumour's box, and the side."""
        return f"{self.mask.cache_key_extra if self.mask else ''} {self.side}".rstrip()

    def load(self) -> Exam:
        """Reads them.

        Raises:
            SiteError: If they cannot be read or disagree in geometry.
        """
        for path in self.files:
            if path.name.lower().endswith((".nii", ".nii.gz")):
                check_nifti_header(path)
        if len(self.phases) == 1:
            images, seconds = read_phases(self.phases[0])
        else:
            images, seconds = [read_image(path) for path in self.phases], ()
        paths = self.phases * len(images) if len(self.phases) == 1 else self.phases
        for path, image in zip(paths, images, strict=True):
            check_geometry(path, image, images[0])
        if self.seconds and len(self.seconds) != len(images):
            found, expected = f"{len(images)} phases", f"{len(self.seconds)}, as `seconds` says"
            raise bad_file(self.phases[0], "an exam has the wrong number of phases", found, expected)
        mask, share = tumour_mask(self.mask, images[0]) if self.mask else (None, 1.0)
        times, side = self.seconds or seconds or None, self.side
        return Exam(self.phases[0], tuple(images), times, mask, self.lacks_mask, share, side, self.lacks_side)
