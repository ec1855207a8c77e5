"""DICOM segmentation (PS3.3 A.51) read as a mask image."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from client.imaging.dicom.dicom_files import refuse_deflated
from client.imaging.files import bad_file, check_room


def read_segment(path: Path, segment: str | int | None, frame_of_reference: str) -> Any:
    """A segment as a SimpleITK image of 0 and 1; a probability counts from one half on.

    Frames that are 0 everywhere are often left out of the file: they are filled in.

    Args:
        path: The file.
        segment: Its label or number; None takes the only one.
        frame_of_reference: Of the images, or empty if they do not say.

    Raises:
        SiteError: If the file has no such segment, or was drawn in another frame of reference.
    """
    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's about values that break the standard
            refuse_deflated(path)
            file = pydicom.dcmread(path)
            if file.get("Modality") != "SEG":
                found = f"Modality {file.get('Modality')}"
                raise bad_file(path, "a mask cannot be read", found, "a DICOM SEG or RTSTRUCT")
            frame = file.get("FrameOfReferenceUID", "")
            if frame and frame_of_reference and frame != frame_of_reference:
                expected = f"that of the images, {frame_of_reference}"
                raise bad_file(path, "a mask was drawn in another frame of reference", frame, expected)
            return _image(path, file, _number(path, file, segment))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, NotImplementedError, RuntimeError) as error:
        found = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise bad_file(path, "a mask cannot be read", found, "a DICOM SEG with a place for each frame") from None


def _number(path: Path, file: Any, segment: str | int | None) -> int:
    """The number of the segment that is wanted."""
    labels = {int(item.SegmentNumber): str(item.get("SegmentLabel", "")) for item in file.SegmentSequence}
    fitting = [number for number, label in labels.items() if segment in (None, number, label)]
    if len(fitting) == 1:
        return fitting[0]
    found = "; ".join(f"{number}: {label!r}" for number, label in labels.items())
    expected = "one segment; set `segment` to its label or number" if segment is None else f"one segment {segment!r}"
    raise bad_file(path, "it is not clear which segment is the tumour", found, expected)


def _image(path: Path, file: Any, number: int) -> Any:
    import SimpleITK as sitk
    from highdicom.spatial import get_volume_positions

    shared, labels = file.SharedFunctionalGroupsSequence[0], file.SegmentationType == "LABELMAP"

    def group(frame: Any, name: str) -> Any:
        return (frame.get(name) or shared[name].value)[0]

    frames = list(enumerate(file.PerFrameFunctionalGroupsSequence))
    if not labels:
        frames = [
            (index, frame)
            for index, frame in frames
            if group(frame, "SegmentIdentificationSequence").ReferencedSegmentNumber == number
        ]
    if not frames:
        raise bad_file(path, "a mask is empty", f"no frame of segment {number}", "frames where the tumour is")
    places = np.asarray([group(frame, "PlanePositionSequence").ImagePositionPatient for _, frame in frames], float)
    axes = np.asarray(group(frames[0][1], "PlaneOrientationSequence").ImageOrientationPatient, float)
    measures = group(frames[0][1], "PixelMeasuresSequence")
    hint = float(measures.get("SpacingBetweenSlices") or (measures.SliceThickness if len(frames) == 1 else 0)) or None
    step_mm, _ = get_volume_positions(places, axes, allow_missing_positions=True, spacing_hint=hint, rtol=0.1)
    if step_mm is None:
        raise bad_file(path, "a mask's slices are not evenly spaced", f"{len(frames)} frames", "a straight, even stack")
    along = np.cross(axes[:3], axes[3:])
    distance = (places @ along - (places @ along).min()) / step_mm
    shape = (round(distance.max()) + 1, int(file.Rows), int(file.Columns))
    check_room(path, shape)
    check_room(path, (int(file.NumberOfFrames), *shape[1:]))
    values = file.pixel_array.reshape(-1, *shape[1:])
    half = int(file.get("MaximumFractionalValue", 1)) / 2
    voxels = np.zeros(shape, dtype=np.uint8)
    for (index, _), place in zip(frames, distance, strict=True):
        voxels[round(place)] |= values[index] == number if labels else values[index] > half
    image = sitk.GetImageFromArray(voxels)
    rows_mm, columns_mm = map(float, measures.PixelSpacing)
    image.SetSpacing([columns_mm, rows_mm, float(step_mm)])
    image.SetOrigin(places[distance.argmin()].tolist())
    image.SetDirection(np.column_stack([axes[:3], axes[3:], along]).ravel().tolist())
    return image
