"""Mammogram files: one DICOM, PNG or TIFF image of one view, and the mask of its finding.

Every image comes out alike: bright where the breast is dense, the chest wall on the left, as the left breast hangs.
"""

from __future__ import annotations

import dataclasses
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.imaging.exams import Exam
from client.imaging.files import bad_file
from client.imaging.mammography.view_headers import (
    Spacing,
    check_size,
    is_dicom,
    read_header,
    stated_spacing,
    view_header,
)
from client.imaging.mammography.view_remarks import view_remarks
from client.imaging.mask_values import check_share, tumour_voxels

PLAUSIBLE_SPACING_MM = (0.01, 2.0)
SAME_PROPORTIONS = 0.01
FORMATS = ("PNG", "TIFF")
GREY_MODES = ("1", "L", "I;16", "I;16B", "I;16L", "I", "F")


@dataclass(frozen=True)
class MammogramFiles:
    """An exam of one image.

    Attributes:
        image: The mammogram.
        mask: The finding, where a pixel is not 0, or None.
        lacks_mask: Whether the site has masks, but not of this image.
        spacing_mm: Distance between rows and between columns where a file does not say it.
    """

    image: Path
    mask: Path | None = None
    lacks_mask: bool = False
    spacing_mm: Spacing | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The image, then the mask."""
        return (self.image, self.mask) if self.mask else (self.image,)

    @property
    def cache_key_extra(self) -> str:
        """Nothing."""
        return ""

    def load(self) -> Exam:
        """Reads them, as images `(1, H, W)` of one slice.

        Raises:
            SiteError: If they cannot be read, are no mammogram, or differ in shape.
        """
        pixels, stated = _read(self.image)
        spacing = stated or self.spacing_mm
        low, high = PLAUSIBLE_SPACING_MM
        if spacing is None:
            expected = "PixelSpacing or ImagerPixelSpacing in it, or `spacing_mm: [row, column]` in the site's YAML"
            raise bad_file(self.image, "a mammogram does not say how large its pixels are", "no spacing", expected)
        if not all(low <= distance <= high for distance in spacing):
            raise bad_file(
                self.image, "a mammogram's pixel size is not plausible", f"{spacing} mm", f"{low} to {high} mm"
            )
        if not np.ptp(pixels) > 0:
            raise bad_file(self.image, "a mammogram is empty", f"{pixels.flat[0]:g} everywhere", "a breast")
        mask = _mask(self.mask, pixels.shape) if self.mask else None
        if _looks_right(pixels):
            pixels, mask = pixels[:, ::-1], None if mask is None else mask[:, ::-1]
        slices = tuple(None if picture is None else _slice(picture, spacing) for picture in (pixels, mask))
        header = view_header(self.image)
        choice = {
            "intent": "computed from tomosynthesis" if header.computed else header.intent,
            "patient": header.patient,
            "study_date": header.study_date,
            "view": header.view,
        }
        exam = Exam(self.image, slices[:1], mask=slices[1], lacks_mask=self.lacks_mask, choice=choice)
        return dataclasses.replace(exam, remarks=view_remarks(self.image, header))


def _read(path: Path) -> tuple[NDArray[np.float32], Spacing | None]:
    """Pixels `(H, W)` and the distance in mm between rows and between columns, if the file states it."""
    if not path.is_file():
        raise bad_file(path, "a mammogram's file is missing", "nothing", "a file")
    if not is_dicom(path):
        return _picture(path), None
    header = read_header(path)
    return _bright_where_dense(header, _decoded(path)), stated_spacing(path, header)


def _bright_where_dense(header: Any, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Pixels without padding and below-zero offsets, inverted where a detector's own values rise with the exposure."""
    scale, shift = float(header.get("RescaleSlope") or 1.0), float(header.get("RescaleIntercept") or 0.0)
    pad = header.get("PixelPaddingValue")
    padding = np.zeros(pixels.shape, dtype=bool)
    if pad is not None and str(header.get("PhotometricInterpretation")) == "MONOCHROME2":
        limit = header.get("PixelPaddingRangeLimit")
        low, high = sorted((float(pad), float(pad if limit is None else limit)))
        padding = (pixels >= scale * low + shift) & (pixels <= scale * high + shift)
        padding = padding if not padding.all() else np.zeros_like(padding)
    raw = str(header.get("PresentationIntentType") or "").upper() == "FOR PROCESSING"
    if raw and header.get("PixelIntensityRelationshipSign") == 1:
        pixels = pixels[~padding].max() - pixels
    pixels = pixels - min(float(pixels[~padding].min()), 0.0)
    return np.where(padding, np.float32(0), pixels).astype(np.float32)


def _is_nifti(path: Path) -> bool:
    return path.name.lower().endswith((".nii", ".nii.gz"))


def _decoded(path: Path) -> NDArray[np.float32]:
    """Pixels `(H, W)` of a DICOM or NIfTI file.

    ITK applies the rescale slope and intercept and inverts MONOCHROME1. The VOI window is not applied: it cuts values
    off, and is the choice of whoever looked.
    """
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("NiftiImageIO" if _is_nifti(path) else "GDCMImageIO")  # and not all there are, on a broken file
    reader.SetOutputPixelType(sitk.sitkFloat32)
    try:
        reader.ReadImageInformation()
        columns, rows, *slices = reader.GetSize()
        if any(count > 1 for count in slices):
            raise bad_file(path, "a file holds more than one image", f"{reader.GetSize()} voxels", "one slice")
        check_size(path, rows, columns)
        pixels = sitk.GetArrayFromImage(reader.Execute()).reshape(rows, columns)
    except RuntimeError as error:
        found = str(error).strip().splitlines()[-1]
        raise bad_file(path, "a mammogram's pixels cannot be read", found, "a format that ITK knows") from None
    return _finite(path, pixels)


def _picture(path: Path) -> NDArray[np.float32]:
    """Pixels `(H, W)` of a PNG or TIFF file."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                check_size(path, image.height, image.width)
                if getattr(image, "n_frames", 1) > 1 or image.mode not in GREY_MODES:
                    found = f"mode {image.mode}, {getattr(image, 'n_frames', 1)} pages"
                    raise bad_file(path, "a mammogram is not one grey image", found, "8 or 16 bits of grey, one page")
                pixels = np.asarray(image, dtype=np.float32)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        expected = f"a DICOM, {' or '.join(FORMATS)} image"
        raise bad_file(path, "a mammogram cannot be read", f"{type(error).__name__}: {error}", expected) from None
    return _finite(path, pixels)


def _finite(path: Path, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    if not np.isfinite(pixels).all():
        raise bad_file(path, "a mammogram has non-finite pixels", "NaN or infinite", "numbers")
    return pixels


def _mask(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The finding as 0 and 1, `(H, W)` of `shape`.

    Some masks of CBIS-DDSM are a scaled copy of their image's frame: those of the same proportions are scaled to its
    size, by the nearest pixel.
    """
    mask = tumour_voxels(path, _decoded(path) if _is_nifti(path) else _read(path)[0], None)
    if mask.shape != shape:
        scales = np.divide(mask.shape, shape)
        if abs(scales[0] / scales[1] - 1) > SAME_PROPORTIONS:
            raise bad_file(path, "a mask has another shape than its image", str(mask.shape), f"{shape} or its multiple")
        rows, columns = (
            np.minimum((np.arange(size) + 0.5) * scale, limit - 1).astype(int)
            for size, scale, limit in zip(shape, scales, mask.shape, strict=True)
        )
        mask = mask[np.ix_(rows, columns)]
    check_share(path, mask)
    return mask


def _looks_right(pixels: NDArray[np.float32]) -> bool:
    """Whether the chest wall is on the right: there the image is brighter.

    The pixels are asked, not the laterality of the header, which a PNG file lacks and a turned image contradicts.
    """
    half = pixels.shape[1] // 2
    return bool(pixels[:, -half:].sum(dtype=np.float64) > pixels[:, :half].sum(dtype=np.float64)) if half else False


def _slice(pixels: NDArray[Any], spacing: Spacing) -> Any:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(pixels)[None])
    image.SetSpacing((spacing[1], spacing[0], 1.0))
    return image
