"""DICOM files that contradict themselves: the patient is excluded, or the file is none of the exam's; others go on."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from client.cohort.load import load_cohort
from shared_models.targets import TimeToEvent
from shared_models.task import Task, Volume

MRI = Volume((2, 4, 6, 6), (1.0, 1.0, 1.0))
REQUIRED = (
    *("Modality", "SamplesPerPixel", "BitsAllocated", "Rows", "Columns", "SeriesInstanceUID", "PixelData"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "PixelRepresentation"),
    *("PhotometricInterpretation", "BitsStored"),
)


@pytest.fixture
def clinic(hospital, slice_file):
    """Two phases of four slices of patients 0 to 2."""
    import numpy as np

    for index in range(3):
        noise = np.random.default_rng(index).integers(50, 150, size=(4, 6, 6))
        for number in range(8):
            path = hospital.data / f"dicom/secret-{index:03d}/{number}.dcm"
            tags = {"TemporalPositionIdentifier": number // 4 + 1, "InstanceNumber": number + 1}
            slice_file(path, noise[number % 4], (0, 0, 3 * (number % 4)), **tags)
    hospital.settings["modalities"]["mri"] = {"reader": "dicom", "folder": "dicom/{patient}"}
    return hospital


def present(clinic, config):
    """Who of patients 0 to 2 has images; none of them may stop the others."""
    started = time.process_time()
    task = Task({"mri": MRI}, {"recurrence": TimeToEvent()}, build_model=lambda *_: None)
    cohort = load_cohort(clinic.site(), task, config)
    assert time.process_time() - started < 10
    assert {exclusion.patient for exclusion in cohort.excluded} <= {"secret-001"}
    assert bool(cohort.excluded) != cohort.present[1, 0]
    return cohort.present[:3, 0].tolist()


def changed(clinic, change, number=6):
    import pydicom

    path = clinic.data / f"dicom/secret-001/{number}.dcm"
    file = pydicom.dcmread(path)
    change(file)
    pydicom.dcmwrite(path, file)
    return path


@pytest.mark.parametrize("tag", REQUIRED)
def test_a_slice_without_a_tag_that_it_needs(clinic, config, tag):
    changed(clinic, lambda file: delattr(file, tag))
    if tag in ("PixelRepresentation", "PhotometricInterpretation", "BitsStored"):  # ITK takes the usual value, or not
        assert present(clinic, config)[::2] == [True, True]
    else:
        assert present(clinic, config) == [True, False, True]


@pytest.mark.parametrize(
    "tags",
    [
        {"Rows": 65535, "Columns": 65535},
        {"Rows": 65535},
        {"Rows": 0},
        {"NumberOfFrames": 2**31 - 1},
        {"BitsAllocated": 32},
        {"SeriesInstanceUID": "1.2.99", "TemporalPositionIdentifier": 1},
        {"ImagePositionPatient": [1e308, 0, 0]},
        {"PixelSpacing": [0, 0]},
        {"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]},
    ],
)
def test_a_slice_that_says_what_cannot_be(clinic, config, tags):
    changed(clinic, lambda file: [setattr(file, name, value) for name, value in tags.items()])
    assert present(clinic, config) == [True, False, True]


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.70", "1.2.3"])
def test_a_slice_of_another_transfer_syntax_than_it_says(clinic, config, syntax):
    path = clinic.data / "dicom/secret-001/6.dcm"
    content, explicit = path.read_bytes(), b"1.2.840.10008.1.2.1\0"
    assert explicit in content
    path.write_bytes(content.replace(explicit, syntax.encode()[:20].ljust(20, b"\0")))
    assert present(clinic, config) == [True, False, True]


def test_two_patients_in_one_folder(clinic, config):
    for number in range(8):
        Path(clinic.data / f"dicom/secret-002/{number}.dcm").rename(
            clinic.data / f"dicom/secret-001/other-{number}.dcm"
        )
    assert present(clinic, config) == [True, False, False]
