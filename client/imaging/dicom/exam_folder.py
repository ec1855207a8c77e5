"""DICOM exams of a folder: the dynamic series selected among a patient's files, one volume a phase."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from client.contract.paths import inside_data_root
from client.errors import SiteError
from client.imaging.dicom.exam_choice import Wanted
from client.imaging.dicom.phase_times import Phase
from client.imaging.dicom.series import dynamic_phases, normal
from client.imaging.dicom.slice_headers import Slice, read_slices
from client.imaging.exams import Exam
from client.imaging.files import bad_file, check_geometry, check_room
from client.imaging.masks import FRAME_OF_REFERENCE, MaskSource, tumour_mask

if TYPE_CHECKING:
    from client.contract.protocols import Site


@dataclass(frozen=True)
class DicomFiles:
    """An exam somewhere among a patient's files; which of them it is, their headers say.

    Attributes:
        images: All of the patient's files, sorted; also those that are no DICOM files.
        wanted: Which of the patient's images are the exam.
        positions: Which of its phases are taken, in the order of time from 0; empty takes all.
        seconds: When the phases were taken; empty leaves it to the headers.
        mask: Where the tumour is, or None.
        lacks_mask: Whether the site has masks, but not of this exam.
        side: The breast with the finding, left or right; empty leaves it to the headers.
        lacks_side: Whether the site says it of others.
    """

    images: tuple[Path, ...]
    wanted: Wanted = field(default_factory=Wanted)
    positions: tuple[int, ...] = ()
    seconds: tuple[float, ...] = ()
    mask: MaskSource | None = None
    lacks_mask: bool = False
    side: str = ""
    lacks_side: bool = False

    @property
    def files(self) -> tuple[Path, ...]:
        """The patient's files and the mask's."""
        return tuple(sorted({*self.images, *(self.mask.files if self.mask else ())}))

    @property
    def cache_key_extra(self) -> str:
        """The tumour's box, and the side."""
        return f"{self.mask.cache_key_extra if self.mask else ''} {self.side}".rstrip()

    def load(self) -> Exam:
        """Reads the headers of all files, then the slices of the phases.

        Raises:
            SiteError: If there is no dynamic series, or it is not clear which, or it is not whole.
        """
        folder = self.images[0].parent
        dynamic = dynamic_phases(read_slices(self.images), self.wanted, folder)
        phases, seconds = self._in_use(dynamic.phases, dynamic.seconds, folder)
        _check_scales(phases, folder)
        check_room(folder, (len(phases), max(map(len, phases)), *phases[0][0].shape))
        images = [_volume(phase, phases[0][0]) for phase in phases]
        for phase, image in zip(phases, images, strict=True):
            check_geometry(phase[0].path, image, images[0])
        instances = np.argsort([slice_.instance for slice_ in phases[0]], kind="stable")
        mask, share = tumour_mask(self.mask, images[0], instances) if self.mask else (None, 1.0)
        side = self.side or phases[0][0].side
        remarks = tuple(remark for remark in dynamic.remarks if not (self.seconds and "`seconds`" in remark))
        exam = Exam(folder, tuple(images), seconds, mask, self.lacks_mask, share, side, self.lacks_side)
        return dataclasses.replace(exam, choice=_choice(phases), remarks=remarks)

    def images_in_use(self) -> tuple[Path, ...]:
        """The files of the phases that are taken.

        Raises:
            SiteError: As of `load`.
        """
        folder = self.images[0].parent
        dynamic = dynamic_phases(read_slices(self.images), self.wanted, folder)
        phases, _ = self._in_use(dynamic.phases, dynamic.seconds, folder)
        return tuple(dict.fromkeys(slice_.path for phase in phases for slice_ in phase))

    def _in_use(
        self, phases: tuple[Phase, ...], seconds: tuple[float, ...] | None, folder: Path
    ) -> tuple[tuple[Phase, ...], tuple[float, ...] | None]:
        if self.positions:
            if len(phases) <= max(self.positions):
                raise _count(folder, len(phases), f"at least {max(self.positions) + 1}, as `phases` says")
            phases = tuple(phases[position] for position in self.positions)
            if seconds is not None:
                seconds = tuple(seconds[position] - seconds[self.positions[0]] for position in self.positions)
        if self.seconds and len(self.seconds) != len(phases):
            raise _count(folder, len(phases), f"{len(self.seconds)}, as `seconds` says")
        return phases, self.seconds or seconds


def _count(folder: Path, count: int, expected: str) -> SiteError:
    return bad_file(folder, "an exam has the wrong number of phases", f"{count} phases", f"{expected}")


def files_under(site: Site, folder: Path, place: str) -> set[Path]:
    """All files in a folder and the folders below it, links followed.

    Raises:
        SiteError: If a link escapes data_root, or a folder cannot be read.
    """
    files: set[Path] = set()
    seen, left = {folder}, [folder]
    while left:
        for entry in _entries(left.pop()):
            path = Path(entry.path)
            if entry.is_symlink():
                path = inside_data_root(site, path, place)
            if entry.is_file():
                files.add(path)
            elif entry.is_dir() and path not in seen:  # links can make a circle
                seen.add(path)
                left.append(path)
    return files


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, with what the system says of each at once: there may be hundreds of thousands of files."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise bad_file(folder, "a folder cannot be read", str(error.strerror), "a folder that may be listed") from None


def _choice(phases: Sequence[Phase]) -> dict[str, str]:
    """What was chosen among the patient's images, by a name for the site's list."""
    series = dict.fromkeys(" / ".join(filter(None, phase[0].names)) for phase in phases)
    first = phases[0][0]
    return {
        "study_date": first.study_date,
        "series": "; ".join(series),
        "image_type": first.kind,
        "patient": first.patient,
        "body_part": first.body_part,
    }


def _check_scales(phases: Sequence[Phase], folder: Path) -> None:
    """Refuses an exam of which only some slices have a private scale: those of the others are unknown."""
    slices = [slice_ for phase in phases for slice_ in phase]
    without = sum(slice_.true_slope is None for slice_ in slices)
    if 0 < without < len(slices):
        found = f"no private scale slope in {without} of {len(slices)} images"
        raise bad_file(folder, "the phases of an exam have no common scale", found, "one in each image, or in none")


def _volume(phase: Phase, reference: Slice) -> Any:
    """One phase as a SimpleITK image; rows, columns and normal become its axes."""
    import SimpleITK as sitk

    first = phase[0]
    voxels = np.stack([_pixels(slice_) * _to_scale(slice_, reference) for slice_ in phase])
    if not np.isfinite(voxels).all():
        raise bad_file(first.path, "a phase has voxels that are not numbers", "NaN or infinite voxels", "numbers")
    image = sitk.GetImageFromArray(voxels)
    along = normal(first)
    rows_mm, columns_mm = first.spacing_mm
    extent = float((np.asarray(phase[-1].position_mm) - first.position_mm) @ along)
    image.SetSpacing([columns_mm, rows_mm, extent / (len(phase) - 1)])
    image.SetOrigin(first.position_mm)
    image.SetDirection(np.column_stack([first.axes[:3], first.axes[3:], along]).ravel().tolist())
    image.SetMetaData(FRAME_OF_REFERENCE, first.frame_of_reference)
    return image


def _to_scale(slice_: Slice, reference: Slice) -> np.float32:
    """What brings a slice to the scale of another: Philips scales each series so that it fills 12 bits."""
    if slice_.true_slope is None or reference.true_slope is None:
        return np.float32(1)
    return np.float32(reference.true_slope / slice_.true_slope)


def _pixels(slice_: Slice) -> NDArray[np.float32]:
    """`(H, W)`, scaled by the slice's own slope and intercept."""
    try:
        values = _file_pixels(slice_.path) if slice_.frame is None else _frame_pixels(slice_, slice_.frame)
    except (RuntimeError, ValueError, NotImplementedError, AttributeError, EOFError, OSError) as error:
        last = str(error).strip().splitlines()[-1]
        raise bad_file(slice_.path, "a slice cannot be read", last, "pixels as the header describes them") from None
    if values.shape != slice_.shape:
        raise bad_file(
            slice_.path, "a slice has another size than its header says", f"{values.shape}", f"{slice_.shape}"
        )
    return values


def _file_pixels(path: Path) -> NDArray[np.float32]:
    """Of a file that is one slice; GDCM reads every compression, and scales."""
    import SimpleITK as sitk

    return np.asarray(sitk.GetArrayFromImage(sitk.ReadImage(str(path), sitk.sitkFloat32, imageIO="GDCMImageIO"))[0])


def _frame_pixels(slice_: Slice, frame: int) -> NDArray[np.float32]:
    """Of one frame of an enhanced file; GDCM would scale all frames alike."""
    from pydicom.pixels import pixel_array

    values = pixel_array(slice_.path, index=frame).astype(np.float32)
    return values * np.float32(slice_.slope) + np.float32(slice_.intercept)
