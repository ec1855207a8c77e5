"""Tumour masks: a file beside the images, or a box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, model_validator

from client.contract.paths import Instance, Pattern, matching_files
from client.errors import SiteError
from client.imaging.boxes import Box, MaskBox, boxes, filled
from client.imaging.dicom.dicom_files import is_dicom
from client.imaging.files import SAME_GEOMETRY, bad_file, read_image
from client.imaging.mask_values import check_share, tumour_voxels
from shared_models.settings import Settings

if TYPE_CHECKING:
    from client.contract.protocols import Site

FRAME_OF_REFERENCE = "0020|0052"  # as ITK names it; an image that was read from DICOM carries it

MIN_WITHIN_IMAGE = 0.5  # of a mask's volume: one that is drawn on other images may pass their edge


class Mask(Settings):
    """The tumour's file or box."""

    file: Pattern | None = Field(None, description="NIfTI, NRRD, MHA, DICOM SEG or RTSTRUCT: `seg/{patient}/*.dcm`")
    segment: str | int | None = Field(None, description="of a DICOM SEG or RTSTRUCT with several: its name or number")
    label: int | None = Field(None, description="of another file with several: the tumour's value")
    box: Box | None = Field(None, description="instead of a file: a box of voxels from a table")

    @model_validator(mode="after")
    def _file_or_box(self) -> Self:
        if (self.file is None) == (self.box is None) or (self.box and not self.segment is self.label is None):
            msg = "expected either `file`, perhaps with `segment` or `label`, or `box`"
            raise ValueError(msg)
        return self


MaskOrPattern = Annotated[Mask, BeforeValidator(lambda value: {"file": value} if isinstance(value, str) else value)]


@dataclass(frozen=True)
class MaskFile:
    """An image of labels or fractions, a DICOM SEG or an RTSTRUCT; and which of its labels, segments or regions."""

    path: Path
    segment: str | int | None = None
    label: int | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The file."""
        return (self.path,)

    @property
    def cache_key_extra(self) -> str:
        """Nothing."""
        return ""


MaskSource = MaskFile | MaskBox


def masks(site: Site, mask: Mask | None) -> dict[Instance, MaskSource | SiteError]:
    """Where each patient's or lesion's tumour is.

    Raises:
        SiteError: If a file lies outside data_root, or the box's table cannot be read.
    """
    if mask is None:
        return {}
    if mask.box is not None:
        return dict(boxes(site, mask.box))
    assert mask.file is not None
    files = matching_files(site, mask.file, "mask")
    return {key: mask_file(paths, mask) for key, paths in files.items()}


def mask_files(site: Site, mask: Mask) -> list[Path]:
    """The files of all masks; none for boxes, whose table is the site's.

    Raises:
        SiteError: If one lies outside data_root.
    """
    return [path for paths in matching_files(site, mask.file, "mask").values() for path in paths] if mask.file else []


def mask_file(paths: Sequence[Path], mask: Mask) -> MaskFile | SiteError:
    """The only one of the files that fit."""
    if len(paths) == 1:
        return MaskFile(paths[0], mask.segment, mask.label)
    names = ", ".join(path.name for path in paths[:5])
    return bad_file(paths[0].parent, "an exam has several masks", names, "one file that fits the pattern")


def tumour_mask(source: MaskSource, image: Any, instances: NDArray[np.int64] | None = None) -> tuple[Any, float]:
    """The tumour as 0 and 1, on the grid of `image`, and the share of its volume that lies within `image`.

    Args:
        source: Where it is.
        image: The first phase.
        instances: Of a DICOM exam, the slices' positions in the order of their InstanceNumbers.

    Raises:
        SiteError: If it cannot be read, is empty or lies outside the image, a box in part, a mask for the most part.
    """
    if isinstance(source, MaskBox):
        return filled(source, image, instances), 1.0
    return on_images_grid(source.path, _read(source, image), image)


def _read(source: MaskFile, image: Any) -> Any:
    if not is_dicom(source.path):
        import SimpleITK as sitk

        mask = read_image(source.path)
        tumour = sitk.GetImageFromArray(tumour_voxels(source.path, sitk.GetArrayViewFromImage(mask), source.label))
        tumour.CopyInformation(mask)
        return tumour
    from client.imaging.dicom.dicom_files import modality
    from client.imaging.dicom.segmentation import read_segment
    from client.imaging.dicom.structure_set import read_structure

    known = image.GetMetaData(FRAME_OF_REFERENCE) if image.HasMetaDataKey(FRAME_OF_REFERENCE) else ""
    if modality(source.path) == "RTSTRUCT":
        return read_structure(source.path, source.segment, image, known)
    return read_segment(source.path, source.segment, known)


def on_images_grid(path: Path, mask: Any, image: Any) -> tuple[Any, float]:
    """A mask as 0 and 1 on the grid of `image`, and its share there.

    Of one that was drawn on another grid the nearest voxel is taken.

    Raises:
        SiteError: If nothing of it lies there, or less than half.
    """
    import SimpleITK as sitk

    binary = sitk.Cast(mask != 0, sitk.sitkUInt8)
    if not sitk.GetArrayViewFromImage(binary).any():
        raise bad_file(path, "a mask is empty", "0 everywhere", "other values where the tumour is")
    resampled = sitk.Resample(binary, image, sitk.Transform(), sitk.sitkNearestNeighbor, 0, sitk.sitkUInt8)
    if not sitk.GetArrayViewFromImage(resampled).any():
        voxels = np.argwhere(sitk.GetArrayViewFromImage(binary))
        middle = binary.TransformContinuousIndexToPhysicalPoint(voxels.mean(axis=0)[::-1].tolist())
        raise bad_file(
            path,
            "a mask lies outside its image, or between its voxels",
            f"a tumour about {tuple(round(value, 1) for value in middle)} mm",
            f"a place within the image, {corners(image)}",
        )
    check_share(path, sitk.GetArrayViewFromImage(resampled))
    share = _share_within(binary, image)
    if share < MIN_WITHIN_IMAGE:
        expected = f"{MIN_WITHIN_IMAGE:.0%} or more within the image, {corners(image)}"
        raise bad_file(path, "a mask lies mostly outside its image", f"{share:.0%} of it within", expected)
    return resampled, share


def _share_within(mask: Any, image: Any) -> float:
    """The share of a mask's voxels whose centres lie within an image, to its edges."""
    import SimpleITK as sitk

    turns = [np.asarray(one.GetDirection()).reshape(3, 3) for one in (mask, image)]
    index = np.argwhere(sitk.GetArrayViewFromImage(mask))[:, ::-1]
    points = index * mask.GetSpacing() @ turns[0].T + mask.GetOrigin() - np.asarray(image.GetOrigin())
    place = points @ np.linalg.inv(turns[1]).T / image.GetSpacing()
    edge = 0.5 + SAME_GEOMETRY
    return float(((place >= -edge) & (place <= np.asarray(image.GetSize()) - 1 + edge)).all(axis=1).mean())


def corners(image: Any) -> str:
    """Where an image begins and ends, for messages."""
    ends = [image.TransformIndexToPhysicalPoint(end) for end in ((0, 0, 0), [size - 1 for size in image.GetSize()])]
    first, last = (tuple(round(value, 1) for value in end) for end in ends)
    return f"{first} to {last} mm"
