"""DICOM headers of slices: one a file or, in an enhanced file, one a frame."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.imaging.dicom.dicom_files import ELEMENT_HEADER, PIXELS, check_room, is_dicom, refuse_deflated
from client.imaging.dicom.header_values import (
    PHILIPS,
    PHILIPS_FRAME,
    SCALE_SLOPE,
    image_kind,
    integer,
    is_original,
    length_mm,
    placement,
    pulse_sequence,
    seconds_of_ms,
    time_of_day_s,
    true_slope,
)
from client.imaging.files import bad_file

BITS = (8, 16, 32)
SIDES = {"L": "left", "R": "right"}
PLACE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
TAGS = (
    *PLACE,
    *("Modality", "ImageType", "SeriesDescription", "ProtocolName", "SeriesInstanceUID", "SeriesNumber"),
    *("PatientID", "BodyPartExamined", "StudyInstanceUID", "StudyDate", "AcquisitionDate"),
    *("ComplexImageComponent", "EchoTime", "EchoNumbers"),
    *("RepetitionTime", "FlipAngle", "ScanningSequence", "RescaleSlope"),
    *("SpacingBetweenSlices", "Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "FrameOfReferenceUID"),
    *("NumberOfFrames", "InstanceNumber", "Laterality", "ImageLaterality"),
    *("TemporalPositionIdentifier", "AcquisitionNumber", "TriggerTime", "AcquisitionTime", "ContentTime"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
)


@dataclass(frozen=True)
class Slice:
    """One slice of one phase, as its header says; coordinates are DICOM's (LPS).

    Attributes:
        path: The file.
        frame: Which of an enhanced file's frames; None where the file is one slice.
        patient: Who it is of, as the header says; it is compared and never shown.
        body_part: What is imaged; empty where the header does not say.
        study: The study's UID.
        study_date: The day of the study, as `20200131`; empty where it is not said.
        series: The series' UID.
        series_number: Its number in the study.
        names: Its description, and the protocol's name.
        side: The breast that is imaged, left or right; empty where the header says neither.
        original: Whether a scanner made it; a map that was computed is derived.
        kind: What tells images of one place and time apart: water or fat, magnitude or phase, the echo.
        sequence: Scanning sequence, echo and repetition time in ms, and flip angle, as far as they are known.
        frame_of_reference: The UID of the coordinate system.
        shape: Rows and columns.
        position_mm: Centre of the first voxel.
        axes: Direction along a row, then along a column, as six cosines.
        spacing_mm: From row to row, from column to column.
        instance: Number in the series.
        temporal_position: Which phase, counted by the scanner; None where it is not said, as in what follows.
        acquisition: Which acquisition.
        triggered_s: Since the trigger.
        acquired_s: Time of day when it was measured.
        created_s: Time of day when the image was made.
        acquired_on: The day when it was measured, as `20200131`; empty where it is not said.
        between_slices_mm: What the header says of the distance between slices' centres; None where nothing.
        slope: What a frame's values are multiplied by; a file that is one slice is scaled where it is read.
        intercept: What is then added.
        true_slope: What the values after slope and intercept are to be divided by; None where unknown.
        pixel_bytes: Bytes of the file from the pixels on.
    """

    path: Path
    frame: int | None
    patient: str
    body_part: str
    study: str
    study_date: str
    series: str
    series_number: int
    names: tuple[str, str]
    side: str
    original: bool
    kind: str
    sequence: tuple[str, ...]
    frame_of_reference: str
    shape: tuple[int, int]
    position_mm: tuple[float, ...]
    axes: tuple[float, ...]
    spacing_mm: tuple[float, ...]
    instance: int
    temporal_position: int | None
    acquisition: int | None
    triggered_s: float | None
    acquired_s: float | None
    created_s: float | None
    acquired_on: str = ""
    between_slices_mm: float | None = None
    slope: float = 1.0
    intercept: float = 0.0
    true_slope: float | None = None
    pixel_bytes: int = 0


def read_slices(paths: Iterable[Path]) -> list[Slice]:
    """The MR slices of some files; whatever is no DICOM file, of another kind, in colour or without a place has none.

    A slice that is left out so, and was one of the dynamic series, is missed there.

    Raises:
        SiteError: If a DICOM file is broken.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's about values that break the standard: those in use are checked
        return [slice_ for path in paths for slice_ in _slices(path)]


def _slices(path: Path) -> list[Slice]:
    import pydicom

    if not is_dicom(path):
        return []
    try:
        refuse_deflated(path)
        with path.open("rb") as file:
            tags = [*TAGS, PHILIPS, SCALE_SLOPE]
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=tags, force=True)
            room = path.stat().st_size - file.tell() - ELEMENT_HEADER
            next_tag = file.read(4)
        if (
            header.get("Modality") != "MR"
            or header.get("SamplesPerPixel") != 1
            or header.get("BitsAllocated") not in BITS
        ):
            return []
        frames = header.get("PerFrameFunctionalGroupsSequence")
        single = int(header.get("NumberOfFrames") or 1) == 1 and all(tag in header for tag in PLACE)
        if not frames and not single:
            return []
        if next_tag not in PIXELS:  # GDCM would look for them, and make room for whatever length it finds
            raise bad_file(path, "a DICOM file has no pixels", "their tag is not where the header ends", "an image")
        check_room(path, header, room)
        if frames:
            return [_of_frame(path, header, number, frame, room) for number, frame in enumerate(frames)]
        return [_of_file(path, header, room)]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, NotImplementedError, EOFError) as error:
        found = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise bad_file(path, "a DICOM header cannot be read", found, "the header of an MR slice") from None


def _of_file(path: Path, header: Any, room: int) -> Slice:
    return Slice(
        **_common(path, header),
        frame=None,
        side=SIDES.get(str(header.get("ImageLaterality") or header.get("Laterality")), ""),
        kind=image_kind(header.get("ImageType"), header.get("ComplexImageComponent"), header.get("EchoNumbers")),
        sequence=pulse_sequence(header, header, header),
        original=is_original(header.get("ImageType")),
        true_slope=true_slope(header, float(header.get("RescaleSlope") or 1.0)),
        pixel_bytes=room,
        **placement(header, header, header),
        instance=int(header.get("InstanceNumber") or 0),
        temporal_position=integer(header.get("TemporalPositionIdentifier")),
        acquisition=integer(header.get("AcquisitionNumber")),
        triggered_s=seconds_of_ms(header.get("TriggerTime")),
        acquired_s=time_of_day_s(header.get("AcquisitionTime")),
        created_s=time_of_day_s(header.get("ContentTime")),
        acquired_on=str(header.get("AcquisitionDate") or ""),
        between_slices_mm=length_mm(header.get("SpacingBetweenSlices")),
    )


def _of_frame(path: Path, header: Any, number: int, frame: Any, room: int) -> Slice:
    """DICOM PS3.3 C.7.6.16: what all frames share is written once, the rest with each."""
    shared = header.SharedFunctionalGroupsSequence[0]

    def group(name: str) -> Any:
        return next((groups[name][0] for groups in (frame, shared) if groups.get(name)), {})

    content, scale = group("FrameContentSequence"), group("PixelValueTransformationSequence")
    position, axes = group("PlanePositionSequence"), group("PlaneOrientationSequence")
    measures = group("PixelMeasuresSequence")
    frame_type, echo = group("MRImageFrameTypeSequence"), group("MREchoSequence")
    types = frame_type.get("FrameType") or header.get("ImageType")
    private: Any = next((groups[PHILIPS_FRAME][0] for groups in (frame, shared) if PHILIPS_FRAME in groups), {})
    acquired = str(content.get("FrameAcquisitionDateTime") or "")
    return Slice(
        **_common(path, header),
        frame=number,
        side=SIDES.get(str(group("FrameAnatomySequence").get("FrameLaterality") or header.get("Laterality")), ""),
        kind=image_kind(types, frame_type.get("ComplexImageComponent"), echo.get("EffectiveEchoTime")),
        sequence=pulse_sequence(header, group("MRTimingAndRelatedParametersSequence"), echo),
        original=is_original(types),
        true_slope=true_slope(private, float(scale.get("RescaleSlope", 1.0))),
        pixel_bytes=room,
        **placement(position, axes, measures),
        instance=number + 1,
        temporal_position=integer(content.get("TemporalPositionIndex")),
        acquisition=integer(content.get("FrameAcquisitionNumber")),
        triggered_s=seconds_of_ms(group("CardiacSynchronizationSequence").get("NominalCardiacTriggerDelayTime")),
        acquired_s=time_of_day_s(acquired[8:]),
        created_s=None,
        acquired_on=acquired[:8],
        between_slices_mm=length_mm(measures.get("SpacingBetweenSlices")),
        slope=float(scale.get("RescaleSlope", 1.0)),
        intercept=float(scale.get("RescaleIntercept", 0.0)),
    )


def _common(path: Path, header: Any) -> dict[str, Any]:
    return {
        "path": path,
        "patient": str(header.get("PatientID", "")).strip(),
        "body_part": str(header.get("BodyPartExamined") or "").strip().upper(),
        "study": str(header.get("StudyInstanceUID", "")),
        "study_date": str(header.get("StudyDate") or header.get("AcquisitionDate") or ""),
        "series": str(header.SeriesInstanceUID),
        "series_number": int(header.get("SeriesNumber") or 0),
        "names": (str(header.get("SeriesDescription", "")), str(header.get("ProtocolName", ""))),
        "frame_of_reference": str(header.get("FrameOfReferenceUID", "")),
        "shape": (int(header.Rows), int(header.Columns)),
    }
