"""Dynamic MRI as one NIfTI file a phase.

Each patient's phases are brought to one orientation (LPS), voxel size and shape, and divided by the 95th
percentile of the pre-contrast phase: the scanner's gain cancels, the ratios between phases stay.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from client.errors import ExitCode, SiteError, named_rows
from client.site import NiftiPhasesReader, SiteConfig, inside_data_root
from shared_models.task import Volume

if TYPE_CHECKING:
    from client.records import Records

PLAUSIBLE_SPACING_MM = (0.05, 30.0)
SAME_GEOMETRY = 1e-3
LARGEST_FLOAT16 = 65504.0

# Header size: where NIfTI-1 and NIfTI-2 keep the data type and the offset of the voxels, and the latter's type.
_NIFTI = {348: (70, 108, "f4"), 540: (12, 168, "i8")}
_NIFTI_FLOATS = {16: "f4", 64: "f8"}


def phase_files(site: SiteConfig, reader: NiftiPhasesReader) -> dict[str, dict[int, Path]]:
    """The files there are, `{patient: {phase: path}}`; a patient's name is taken from the path, never put into one.

    Raises:
        SiteError: If a file lies outside data_root.
    """
    found: dict[str, dict[int, Path]] = {}
    for phase, pattern in enumerate(reader.phases):
        first, *others = pattern.split("{patient}")
        middle, last = others[:-1], others[-1]
        again = "".join(re.escape(part) + "(?P=patient)" for part in middle)
        expression = re.compile(re.escape(first) + "(?P<patient>[^/]+)" + again + re.escape(last))
        for path in sorted(site.data_root.glob("*".join(escape(part) for part in [first, *others]))):
            if match := expression.fullmatch(path.relative_to(site.data_root).as_posix()):
                inside = inside_data_root(site, path, f"phases: {pattern}")
                found.setdefault(match["patient"], {})[phase] = inside
    return found


def read_volumes(
    records: Records, reader: NiftiPhasesReader, volume: Volume, out: NDArray[np.float16], name: str
) -> NDArray[np.bool_]:
    """Reads every patient's phases into `out` `(N, C, D, H, W)`; 0 for a patient without any.

    Returns:
        `(N,)`: who has them.

    Raises:
        SiteError: If a file cannot be used, a patient lacks some of the phases or stands in no table, or
            nobody has any.
    """
    phases = _phases_needed(reader, volume, name)
    files = phase_files(records.site, reader)
    _check_files(records, reader, files, name)
    present = np.zeros(len(records.patients), dtype=bool)
    for index, patient in enumerate(records.patients):
        if patient in files:
            out[index] = read_phases([files[patient][phase] for phase in phases], volume)
            present[index] = True
    return present


def read_phases(paths: Sequence[Path], volume: Volume) -> NDArray[np.float16]:
    """One patient's phases on the study's grid, `volume.shape`, around the centre of the first file's image.

    Args:
        paths: The pre-contrast phase, then the others. With one channel and two files, the second file's phase
            is returned, scaled by the first.
        volume: Shape and voxel size.

    Raises:
        SiteError: If the files cannot be read, disagree in geometry or hold no usable intensities.
    """
    import SimpleITK as sitk

    images = [_read(path) for path in paths]
    for path, image in zip(paths, images, strict=True):
        _check_geometry(path, image, images[0])
    level = float(np.percentile(sitk.GetArrayViewFromImage(images[0]), 95))
    if level <= 0:
        raise _bad_file(
            paths[0], "the pre-contrast image is empty", f"95th percentile {level:g}", "intensities above 0"
        )
    arrays = [sitk.GetArrayFromImage(_on_grid(image, volume)) / level for image in images]
    kept = np.stack(arrays[-volume.shape[0] :])
    return np.clip(kept, -LARGEST_FLOAT16, LARGEST_FLOAT16).astype(np.float16)


def _on_grid(image: Any, volume: Volume) -> Any:
    """Linear interpolation on a grid of the study's shape and spacing with the image's centre and LPS axes."""
    import SimpleITK as sitk

    oriented = sitk.DICOMOrient(image, "LPS")
    size = np.asarray(volume.shape[:0:-1])
    spacing = np.asarray(volume.spacing_mm[::-1], dtype=float)
    centre = oriented.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in oriented.GetSize()])
    axes = np.asarray(oriented.GetDirection()).reshape(3, 3)
    origin = np.asarray(centre) - axes @ (spacing * (size - 1) / 2)
    grid = ([int(n) for n in size], sitk.Transform(), sitk.sitkLinear, origin.tolist(), spacing.tolist())
    return sitk.Resample(oriented, *grid, oriented.GetDirection(), 0.0, sitk.sitkFloat32)


def _read(path: Path) -> Any:
    import SimpleITK as sitk

    try:
        image = sitk.ReadImage(str(path), sitk.sitkFloat32)
    except RuntimeError as error:
        last = str(error).strip().splitlines()[-1]
        raise _bad_file(path, "an image cannot be read", last, "a NIfTI file with a rigid orientation") from None
    if image.GetDimension() != 3:
        raise _bad_file(
            path, "an image has the wrong number of phases", f"{image.GetSize()} voxels", "one phase a file"
        )
    broken = non_finite_voxels(path, sitk.GetArrayViewFromImage(image))
    if broken:
        raise _bad_file(path, "an image has voxels that are not numbers", f"{broken} NaN or infinite voxels", "numbers")
    return image


def non_finite_voxels(path: Path, voxels: NDArray[np.float32]) -> int:
    """How many voxels are NaN or infinite; ITK reads those of a NIfTI file as 0, so the file itself is asked."""
    broken = int((~np.isfinite(voxels)).sum())
    if not path.name.endswith((".nii", ".nii.gz")):
        return broken
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        content = file.read()
    order = "<" if int.from_bytes(content[:4], "little") in _NIFTI else ">"
    size = int(np.frombuffer(content, f"{order}i4", 1)[0])
    if size not in _NIFTI:
        return broken
    kind_at, offset_at, offset_kind = _NIFTI[size]
    kind = _NIFTI_FLOATS.get(int(np.frombuffer(content, f"{order}i2", 1, kind_at)[0]))
    if kind is None:
        return broken
    start = int(np.frombuffer(content, order + offset_kind, 1, offset_at)[0])
    return int((~np.isfinite(np.frombuffer(content, order + kind, voxels.size, start))).sum())


def _check_geometry(path: Path, image: Any, first: Any) -> None:
    axes = np.asarray(image.GetDirection()).reshape(3, 3)
    if np.abs(axes @ axes.T - np.eye(3)).max() > SAME_GEOMETRY:
        shown = np.round(axes, 3).tolist()
        raise _bad_file(
            path, "an image's orientation is not a rotation", f"axes {shown}", "perpendicular axes of length 1"
        )
    low, high = PLAUSIBLE_SPACING_MM
    if not all(low <= size <= high for size in image.GetSpacing()):
        raise _bad_file(
            path, "an image's voxel size is not plausible", f"{image.GetSpacing()} mm", f"{low} to {high} mm"
        )
    for what, found, expected in (
        ("size", image.GetSize(), first.GetSize()),
        ("spacing", image.GetSpacing(), first.GetSpacing()),
        ("orientation", image.GetDirection(), first.GetDirection()),
    ):
        if not np.allclose(found, expected, atol=SAME_GEOMETRY):
            expectation = f"{_rounded(expected)}, as in the patient's first phase"
            raise _bad_file(path, f"a patient's phases differ in {what}", _rounded(found), expectation)


def _rounded(values: Sequence[float]) -> str:
    return str(tuple(round(value, 4) for value in values))


def _phases_needed(reader: NiftiPhasesReader, volume: Volume, name: str) -> list[int]:
    """The files to read: all; or, for a one-channel study, the first post-contrast one and its pre-contrast scale."""
    count, wanted = len(reader.phases), volume.shape[0]
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


def _check_files(records: Records, reader: NiftiPhasesReader, files: dict[str, dict[int, Path]], name: str) -> None:
    where, public = f"modalities.{name}.phases", "the site's images and tables do not fit together"
    strangers = sorted(set(files) - records.known)
    if strangers:
        path = next(iter(files[strangers[0]].values()))
        raise SiteError(
            what="an image has no row in the patients table",
            where=where,
            found=f"images of {len(strangers)} patients without a row, the first {path}",
            expected=f"a row in table {records.site.patients_table!r} for each",
            fix="add the rows, or move the images out of data_root",
            public=public,
        )
    if not any(patient in files for patient in records.patients):
        found, fix = f"no file matches {reader.phases[0]}", "correct the pattern, or leave the modality out"
        raise SiteError(
            what="no patient has images",
            where=where,
            found=found,
            expected="images of a patient",
            fix=fix,
            public=public,
        )
    rows = records.tables[records.site.patients_table].rows
    positions = records.rows[records.site.patients_table]
    partly = [i for i, patient in enumerate(records.patients) if 0 < len(files.get(patient, ())) < len(reader.phases)]
    if partly:
        raise SiteError(
            what="a patient has the wrong number of phases",
            where=where,
            found=f"only some of the phases for {named_rows([rows[positions[i]] for i in partly])} of that table",
            expected=f"{len(reader.phases)} phases, or none",
            fix="add the files, or move the patient's other phases out of data_root",
            public=public,
        )


def _bad_file(path: Path, what: str, found: str, expected: str) -> SiteError:
    fix = "convert the series anew, or move the patient's files out of data_root"
    public = "an image of the site cannot be used"
    return SiteError(what, where=str(path), found=found, expected=expected, fix=fix, public=public)
