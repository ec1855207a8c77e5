"""DICOM header of a mammogram: view, laterality, pixel size, and what is refused before pixels are read."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from client.errors import SiteError
from client.imaging.dicom.dicom_files import refuse_deflated
from client.imaging.files import bad_file

MAX_PIXELS = 64_000_000  # the largest films of CBIS-DDSM have 40 million; as 32-bit floats, 256 MB
ELEMENT_HEADER, COMPRESSED_HEADER = 8, 12  # bytes of tag, VR and length before the pixels; of the former at least
PIECE, END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"  # tags, DICOM PS3.5 A.4
TAGS = (
    *("Modality", "NumberOfFrames", "SamplesPerPixel", "Rows", "Columns", "BitsAllocated", "ViewPosition"),
    *("PixelSpacing", "PixelSpacingCalibrationType", "ImagerPixelSpacing", "NominalScannedPixelSpacing"),
    *("EstimatedRadiographicMagnificationFactor", "ModalityLUTSequence", "ViewCodeSequence", "ImageType"),
    *(
        "PatientID",
        "StudyDate",
        "AcquisitionDate",
        "ImageLaterality",
        "Laterality",
        "PresentationIntentType",
        "PhotometricInterpretation",
    ),
    *("PixelPaddingValue", "PixelPaddingRangeLimit", "PixelIntensityRelationshipSign"),
    *("RescaleSlope", "RescaleIntercept"),
)

Spacing = tuple[float, float]  # mm between rows, and between columns
View = Literal["CC", "MLO"]
MAGNIFIED = 1.3  # of the breast on its support it is about 1.1
# SNOMED CT and its older identifiers: DICOM PS3.16, CID 4014
VIEW_CODES = {"399162004": "CC", "R-10242": "CC", "399368009": "MLO", "R-10226": "MLO"}


def is_dicom(path: Path) -> bool:
    """Whether it is a DICOM file.

    Raises:
        SiteError: If it cannot be read.
    """
    try:
        if not path.is_file():  # a pipe would never end
            return False
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError as error:
        raise bad_file(path, "a mammogram cannot be read", str(error.strerror), "a file that may be read") from None


@dataclass(frozen=True)
class ViewHeader:
    """What a DICOM mammogram says of itself.

    Attributes:
        view: As `CC`; empty where it does not say.
        side: left or right; empty where it does not say.
        modified: Whether it is a spot, magnified or otherwise modified view.
        computed: Whether it was computed from tomosynthesis.
        intent: `FOR PRESENTATION` or `FOR PROCESSING`; empty where it does not say.
        patient: Who it is of; it is compared and never shown.
        study_date: The day of the study, as `20200131`; empty where it does not say.
        magnified: Whether it was taken closer to the source than a whole breast is.
    """

    view: str
    side: str
    modified: bool
    computed: bool
    intent: str
    patient: str = ""
    study_date: str = ""
    magnified: bool = False

    @property
    def special(self) -> bool:
        """Whether it is no plain view of the whole breast."""
        return self.modified or self.computed


def view_header(path: Path) -> ViewHeader:
    """What a DICOM file says; nothing of another one.

    Raises:
        SiteError: If it is no mammogram.
    """
    if not is_dicom(path):
        return ViewHeader("", "", modified=False, computed=False, intent="")
    header = read_header(path)
    codes = list(header.get("ViewCodeSequence") or ())
    coded = next((VIEW_CODES[code] for item in codes if (code := str(item.get("CodeValue"))) in VIEW_CODES), "")
    side = str(header.get("ImageLaterality") or header.get("Laterality") or "").upper()[:1]
    computed = {str(value).upper() for value in header.get("ImageType") or ()} & {"TOMOSYNTHESIS", "GENERATED_2D"}
    return ViewHeader(
        view=str(header.get("ViewPosition") or "").strip().upper() or coded,
        side={"L": "left", "R": "right"}.get(side, ""),
        modified=any(item.get("ViewModifierCodeSequence") for item in codes),
        computed=bool(computed),
        intent=str(header.get("PresentationIntentType") or "").upper(),
        patient=str(header.get("PatientID") or "").strip(),
        study_date=str(header.get("StudyDate") or header.get("AcquisitionDate") or ""),
        magnified=float(header.get("EstimatedRadiographicMagnificationFactor") or 1.0) > MAGNIFIED,
    )


def read_header(path: Path) -> Any:
    """The attributes of `TAGS`.

    Raises:
        SiteError: If they are not those of one mammogram, whole and of a size that fits into memory.
    """
    try:
        header, room = _attributes(path)
        rows, columns = int(header.Rows), int(header.Columns)
        frames, samples = int(header.get("NumberOfFrames") or 1), int(header.get("SamplesPerPixel") or 1)
        bits, compressed = int(header.BitsAllocated), header.file_meta.TransferSyntaxUID.is_compressed
    except SiteError:
        raise
    except Exception as error:  # pydicom raises whatever the broken element brings about
        found = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise bad_file(path, "a DICOM file cannot be read", found, "a mammogram's image") from None
    if header.get("Modality") != "MG":
        raise bad_file(path, "a file is no mammogram", f"modality {header.get('Modality')}", "modality MG")
    if frames > 1:
        expected = "one image, as the full-field or the synthetic mammogram"
        raise bad_file(path, "a file holds several images, as tomosynthesis does", f"{frames} frames", expected)
    if samples != 1 or "ModalityLUTSequence" in header:
        found = f"{samples} samples a pixel" if samples != 1 else "a lookup table of the modality"
        raise bad_file(path, "a mammogram's pixels are not plain grey values", found, "one grey value a pixel")
    check_size(path, rows, columns)
    # ITK's DICOM library does not notice, and takes for pixels what lies in memory
    if not compressed and room < rows * columns * bits // 8:
        raise bad_file(path, "a mammogram is cut short", f"{room} bytes", f"{rows * columns * bits // 8} of pixels")
    return header


def _attributes(path: Path) -> tuple[Any, int]:
    """Those of `TAGS`, and how many bytes follow."""
    from pydicom import dcmread

    with warnings.catch_warnings(), path.open("rb") as file:
        warnings.simplefilter("ignore")  # about values that break the standard: those in use are checked
        refuse_deflated(path)
        header = dcmread(file, stop_before_pixels=True, specific_tags=list(TAGS))
        room = path.stat().st_size - file.tell() - ELEMENT_HEADER
        if header.file_meta.TransferSyntaxUID.is_compressed and not _ends(file):
            found = f"{room} bytes without the mark of their end"
            raise bad_file(path, "a mammogram is cut short", found, "the whole of its compressed pixels")
        return header, room


def _ends(file: BinaryIO) -> bool:
    """Whether the pieces of compressed pixels follow each other to their end; ITK would make room for any length."""
    file.seek(COMPRESSED_HEADER, os.SEEK_CUR)
    while (start := file.read(8)).startswith(PIECE) and len(start) == 8:
        file.seek(int.from_bytes(start[4:], "little"), os.SEEK_CUR)
    return start.startswith(END)


def check_size(path: Path, rows: int, columns: int) -> None:
    """Refuses, before there is memory for it, what cannot be one breast.

    Raises:
        SiteError: If so.
    """
    if not 0 < rows * columns <= MAX_PIXELS:
        found, expected = f"{rows} rows of {columns} pixels", f"1 to {MAX_PIXELS:,} pixels"
        raise bad_file(path, "a mammogram's size is not plausible", found, expected)


def stated_spacing(path: Path, header: Any) -> Spacing | None:
    """The pixel size at the breast, as DICOM PS3.3 10.7.1 tells its attributes apart.

    ImagerPixelSpacing is measured at the detector, where the shadow is larger than the breast: it is divided by the
    magnification. A PixelSpacing that repeats it is no better; one that differs, or names its calibration, is already
    the breast's. NominalScannedPixelSpacing is a digitised film's. Without a factor the breast lies on the detector.

    Returns:
        Millimetres between rows and between columns, or None.

    Raises:
        SiteError: If they are not numbers, or the magnification is not plausible.
    """
    try:
        pixel, imager, film = (
            tuple(float(size) for size in header.get(name) or ())
            for name in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
        )
        factor = float(header.get("EstimatedRadiographicMagnificationFactor") or 1.0)
    except (TypeError, ValueError) as error:
        raise bad_file(path, "a mammogram's pixel size cannot be read", str(error), "numbers of mm") from None
    calibrated = bool(header.get("PixelSpacingCalibrationType")) or not np.array_equal(pixel, imager)
    spacing = pixel if pixel and calibrated else tuple(size / factor for size in imager) or film
    if not 1.0 <= factor <= 3.0:
        raise bad_file(path, "a mammogram's magnification is not plausible", f"{factor:g}", "1 to 3")
    return (spacing[0], spacing[1]) if len(spacing) == 2 else None
