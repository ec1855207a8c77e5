from __future__ import annotations

import copy
import csv
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from client.config.site import SiteConfig, load_site
from shared_models.features import Feature
from shared_models.study_settings import StudySettings
from shared_models.targets import TimeToEvent
from shared_models.task import Table, Task, Volume

HEADER = ["PatientID", "Age", "Grade", "ER", "Event", "Days"]
SETTINGS: dict[str, Any] = {
    "site": "oak",
    "data_root": "data",
    "workers": 1,
    "tables": {"clinical": {"file": "clinical.csv", "patient_id": "PatientID", "missing": ["NA"]}},
    "modalities": {
        "clinical": {
            "reader": "table",
            "features": {
                "age_years": {"column": "Age", "range": [15, 110]},
                "grade": {"column": "Grade", "codes": {"G1": 1, "G2": 2, "G3": 3}},
                "er": {"column": "ER", "codes": {"no": "negative", "yes": "positive"}},
            },
        }
    },
    "targets": {
        "recurrence": {
            "event": {"column": "Event", "codes": {"no": 0, "yes": 1}},
            "event_days": ["Days"],
            "followup_days": ["Days"],
        }
    },
}
FEATURES = (Feature("age_years"), Feature("grade", ("1", "2", "3")), Feature("er", ("negative", "positive")))


def patient(index: int) -> str:
    """An identifier that no message holds by chance."""
    return f"secret-{index:03d}"


@dataclass
class Hospital:
    """A site on disk, for a test to spoil: its files under `folder/data`, its YAML written by `site()`."""

    folder: Path
    settings: dict[str, Any] = field(default_factory=lambda: copy.deepcopy(SETTINGS))

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def write(self, rows: Sequence[Sequence[Any]], name: str = "clinical.csv", **form: Any) -> Path:
        path = self.data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding=form.pop("encoding", "utf-8")) as file:
            csv.writer(file, **form).writerows(rows)
        return path

    def site(self) -> SiteConfig:
        self.data.mkdir(exist_ok=True)
        path = self.folder / "oak.yaml"
        path.write_text(yaml.safe_dump(self.settings, sort_keys=False), encoding="utf-8")
        return load_site(path)

    def phases(self, patients: Sequence[int], count: int = 4, shape: tuple[int, int, int] = (6, 8, 10)) -> None:
        """NIfTI phases of some patients, and the YAML that names them."""
        self.settings["modalities"]["mri"] = {
            "reader": "image_files",
            "phases": [f"mri/{{patient}}/phase{phase}.nii.gz" for phase in range(count)],
        }
        for index in patients:
            noise = np.random.default_rng(index).uniform(50, 150, size=shape)
            for phase in range(count):
                write_volume(self.data / f"mri/{patient(index)}/phase{phase}.nii.gz", noise * (1 + phase))


def cohort_rows(count: int = 40) -> list[list[Any]]:
    """A header and `count` patients, every fourth of them with an event."""
    rows = [
        [patient(i), 40 + i % 30, f"G{1 + i % 3}", ("no", "yes")[i % 2], ("no", "yes")[i % 4 == 0], 100 + 37 * i]
        for i in range(count)
    ]
    return [list(HEADER), *rows]


def write_volume(
    path: Path,
    array: np.ndarray,
    spacing: Sequence[float] = (1, 1, 1),
    axes: Any = None,
    origin: Sequence[float] = (0, 0, 0),
) -> None:
    """A NIfTI file of `array` `(D, H, W)`; the rest in SimpleITK's order."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.asarray(array, dtype=np.float32))
    image.SetSpacing([float(size) for size in spacing])
    image.SetOrigin([float(place) for place in origin])
    if axes is not None:
        image.SetDirection([float(part) for part in np.asarray(axes).ravel()])
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


def write_slice(path: Path, array: np.ndarray, position: Sequence[float], compress: str = "", **tags: Any) -> None:
    """A DICOM file of `array` `(H, W)` at `position` in mm, with voxels of 2 x 1 mm unless `tags` say otherwise."""
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

    values = np.asarray(array, dtype=np.int16)
    file = pydicom.Dataset()
    file.file_meta = pydicom.dataset.FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.SOPClassUID, file.SOPInstanceUID = MRImageStorage, generate_uid()
    file.PatientID, file.PatientName, file.PatientBirthDate, file.PatientSex, file.StudyID = "p", "p^p", "", "", "1"
    file.StudyDate, file.StudyTime, file.AccessionNumber, file.ReferringPhysicianName = "20200101", "100000", "", ""
    file.StudyInstanceUID, file.FrameOfReferenceUID = "1.2.3", "1.2.4"
    file.Modality, file.ImageType, file.Manufacturer = "MR", ["ORIGINAL", "PRIMARY"], "ACME"
    file.SeriesInstanceUID, file.SeriesNumber, file.SeriesDescription = "1.2.5", 5, "t1 dyn"
    file.Rows, file.Columns = values.shape
    file.SamplesPerPixel, file.PhotometricInterpretation, file.PixelRepresentation = 1, "MONOCHROME2", 1
    file.BitsAllocated, file.BitsStored, file.HighBit = 16, 16, 15
    file.ImagePositionPatient, file.ImageOrientationPatient = list(map(float, position)), [1, 0, 0, 0, 1, 0]
    file.PixelSpacing, file.SliceThickness = [2.0, 1.0], 3.0
    file.PixelData = values.tobytes()
    for name, value in tags.items():
        if value is None:
            delattr(file, name)
        else:
            setattr(file, name, value)
    if compress:
        file.compress(compress)
    path.parent.mkdir(parents=True, exist_ok=True)
    file.save_as(path, enforce_file_format=True)


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    """40 patients, 10 events, nothing wrong."""
    made = Hospital(tmp_path)
    made.write(cohort_rows())
    return made


@pytest.fixture
def rows() -> Callable[[int], list[list[Any]]]:
    return cohort_rows


@pytest.fixture
def volume_file() -> Callable[..., None]:
    return write_volume


@pytest.fixture
def slice_file() -> Callable[..., None]:
    return write_slice


@pytest.fixture
def task() -> Task:
    return Task({"clinical": Table(FEATURES)}, {"recurrence": TimeToEvent()}, build_model=lambda *_: None)  # type: ignore[arg-type, return-value]


@pytest.fixture
def imaging_task() -> Task:
    modalities = {"mri": Volume((4, 6, 8, 10), (1.0, 1.0, 1.0)), "clinical": Table(FEATURES)}
    return Task(modalities, {"recurrence": TimeToEvent()}, build_model=lambda *_: None)  # type: ignore[arg-type, return-value]


@pytest.fixture
def config() -> StudySettings:
    return StudySettings(study="elm")


@pytest.fixture
def shared_data() -> Path:
    """The folder of real data sets, or a skip."""
    beside = Path(__file__).parents[3] / "shared" / "data"
    folder = Path(os.environ.get("FEDERATION_TEST_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no real data: set FEDERATION_TEST_DATA (looked in {folder})")
    return folder


@pytest.fixture
def structure_set(tmp_path, slice_file):
    """Writes 6 slices, turned in space, and an RTSTRUCT on them, whose contours are given in voxels."""

    import pydicom
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

    def write(regions, frame=None, kind="CLOSED_PLANAR"):
        axes = np.array([[0.0, 1.0, 0.0], [0.6, 0.0, -0.8], [-0.8, 0.0, -0.6]])  # along a row, a column, the normal
        origin, spacing = np.array([-5.0, -8.0, 3.0]), np.array([0.8, 1.2, 3.0])
        for place in range(6):
            slice_file(
                tmp_path / f"{place}.dcm",
                np.ones((8, 10)),
                tuple(origin + 3.0 * place * axes[2]),
                InstanceNumber=place + 1,
                ImageOrientationPatient=[*axes[0], *axes[1]],
                PixelSpacing=[1.2, 0.8],
            )
        image = pydicom.dcmread(tmp_path / "0.dcm")
        file = Dataset()
        file.file_meta = FileMetaDataset()
        file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        file.SOPClassUID, file.SOPInstanceUID, file.Modality = RTStructureSetStorage, generate_uid(), "RTSTRUCT"
        file.StructureSetROISequence, file.ROIContourSequence = [], []
        for number, (name, contours) in enumerate(regions.items(), start=1):
            region, contour_set = Dataset(), Dataset()
            region.ROINumber, region.ROIName = number, name
            region.ReferencedFrameOfReferenceUID = frame or image.FrameOfReferenceUID
            contour_set.ReferencedROINumber, contour_set.ContourSequence = number, []
            for points in contours:
                contour = Dataset()
                contour.ContourGeometricType = kind
                contour.NumberOfContourPoints = len(points)
                placed = origin + (np.array(points) * spacing) @ axes
                contour.ContourData = [f"{value:.6g}" for value in placed.ravel()]
                contour_set.ContourSequence.append(contour)
            file.StructureSetROISequence.append(region)
            file.ROIContourSequence.append(contour_set)
        file.save_as(tmp_path / "rt.dcm", enforce_file_format=True)
        return tmp_path / "rt.dcm"

    return write
