"""A prediction as a DICOM structured report, read and validated by other programs."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from highdicom.sr import srread
from pydicom import Dataset, dcmread

from client.__main__ import main
from client.errors import SiteError
from client.inference.dicom_report import require_dicom, write_reports
from shared_models.task import Volume
from shared_models.trained_model import RESEARCH_ONLY, TrainedModel, read_model

COLUMNS = {
    "patient": ["secret-000", "secret-001", "secret-009"],
    "recurrence_risk_by_day_1826": ["0.2375", "0.0612", "0.5"],
    "recurrence_positive": ["yes", "no", "yes"],
    "warnings": ["clinical: no size_mm", "", ""],
    "use": [RESEARCH_ONLY] * 3,
}


@pytest.fixture
def reports(finished_study: Any, hospital: Any, slice_file: Any, tmp_path: Path) -> Path:
    """Of two patients with exams; a third has none."""
    hospital.settings["modalities"]["mri"] = {"reader": "dicom", "folder": "dicom/{patient}"}
    for patient, phase, place in np.ndindex(2, 2, 3):
        file = hospital.data / f"dicom/secret-{patient:03d}/{phase}-{place}"
        voxels, clock = (phase + 1) * (24 * place + np.arange(24).reshape(4, 6)), f"10{phase:02d}00"
        slice_file(file, voxels, (0, 0, 3 * place), AcquisitionTime=clock, PatientID=f"secret-{patient:03d}")
    assert write_reports(hospital.site(), of_images(finished_study), COLUMNS, tmp_path / "sr") == (2, [])
    return tmp_path / "sr"


def of_images(finished_study: Any) -> TrainedModel:
    """The network as one that reads the exams, too."""
    model = read_model(finished_study.best)
    task = replace(model.task, modalities={**model.task.modalities, "mri": Volume((2, 8, 8, 8), (20.0, 20.0, 20.0))})
    return replace(model, task=task)


def comments(report: Dataset) -> list[str]:
    named = (item for item in report.ContentSequence if item.ConceptNameCodeSequence[0].CodeMeaning == "Comment")
    return [item.TextValue for item in named]


def test_the_report_holds_the_numbers_the_patient_and_the_images_and_says_research_only(reports: Path) -> None:
    assert sorted(file.name for file in reports.iterdir()) == ["1.dcm", "2.dcm"]
    report = srread(reports / "1.dcm")
    assert (report.PatientID, report.StudyInstanceUID) == ("secret-000", "1.2.3")
    assert (report.PreliminaryFlag, report.VerificationFlag) == ("PRELIMINARY", "UNVERIFIED")
    assert report.SeriesDescription.startswith("RESEARCH ONLY")
    assert report.ContentQualification == "RESEARCH"
    (group,) = report.content.get_image_measurement_groups()
    (measured,) = group.get_measurements()
    assert (measured.name.meaning, measured.value, measured.unit.value) == ("recurrence risk by day 1826", 0.2375, "1")
    (decision,) = group.get_qualitative_evaluations()
    assert (decision.name.meaning, decision.value.meaning) == ("recurrence positive", "yes")
    assert comments(report) == [RESEARCH_ONLY, "clinical: no size_mm"]
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    assert sum(len(series.ReferencedSOPSequence) for series in study.ReferencedSeriesSequence) == 6
    assert (reports / "1.dcm").stat().st_mode & 0o077 == 0
    assert comments(dcmread(reports / "2.dcm")) == [RESEARCH_ONLY]


def test_a_validator_of_dicom_finds_no_error(reports: Path) -> None:
    validator = shutil.which("dciodvfy")
    if validator is None:
        pytest.skip("dciodvfy is not installed (apt install dicom3tools)")
    done = subprocess.run([validator, str(reports / "1.dcm")], capture_output=True, text=True, check=False)
    assert "ComprehensiveSR" in done.stderr
    assert "Error" not in done.stderr


def test_a_site_without_dicom_is_refused_before_anything_is_read(
    finished_study: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    site = finished_study.sites["elm"]
    out = finished_study.folder / "p.csv"
    words = ["predict", str(finished_study.best), "--site", str(site), "--out", str(out), "--dicom-sr", str(out.parent)]
    assert main(words) == 2
    assert "leave --dicom-sr out" in capsys.readouterr().err
    assert not out.exists()


def test_exams_that_the_network_does_not_read_are_no_evidence(
    finished_study: Any, hospital: Any, reports: Path
) -> None:
    model = read_model(finished_study.best)  # of tables only
    with pytest.raises(SiteError, match="there are no DICOM exams to report in"):
        require_dicom(hospital.site(), model, reports)


def test_reports_replace_earlier_ones_and_no_other_dicom_file(
    finished_study: Any, hospital: Any, reports: Path, slice_file: Any
) -> None:
    model, site = of_images(finished_study), hospital.site()
    require_dicom(site, model, reports)
    fewer = {name: texts[:1] for name, texts in COLUMNS.items()}
    assert write_reports(site, model, fewer, reports) == (1, [])
    assert [file.name for file in reports.iterdir()] == ["1.dcm"]  # no patient's report of an earlier call is left
    slice_file(reports / "2.dcm", np.ones((4, 6)), (0, 0, 0))
    with pytest.raises(SiteError, match=r"no reports of this program, as 2\.dcm"):
        require_dicom(site, model, reports)


def test_an_exam_that_makes_no_report_keeps_no_other_from_its_own(
    finished_study: Any, hospital: Any, reports: Path
) -> None:
    for file in (hospital.data / "dicom/secret-000").iterdir():
        file.unlink()
        file.write_bytes(b"no image")
    written, (problem,) = write_reports(hospital.site(), of_images(finished_study), COLUMNS, reports)
    assert written == 1
    assert problem.startswith("row 1 has no DICOM structured report")
    assert [file.name for file in reports.iterdir()] == ["2.dcm"]


def test_mammograms_have_reports_whose_procedure_is_theirs(
    finished_study: Any, hospital: Any, slice_file: Any, tmp_path: Path
) -> None:
    hospital.settings["modalities"]["mri"] = {"reader": "mammogram", "images": "mammo/{patient}.*"}
    tags = {"Modality": "MG", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.2", "ImagePositionPatient": None}
    for patient in ("secret-000", "secret-001"):
        file = hospital.data / f"mammo/{patient}.dcm"
        slice_file(file, np.ones((4, 6)), (0, 0, 0), ViewPosition="CC", PatientID=patient, **tags)
    (hospital.data / "mammo/secret-009.png").write_bytes(b"a picture belongs to no study")
    assert write_reports(hospital.site(), of_images(finished_study), COLUMNS, tmp_path / "sr") == (2, [])
    report = srread(tmp_path / "sr" / "1.dcm")
    names = {item.ConceptNameCodeSequence[0].CodeMeaning: item for item in report.ContentSequence}
    assert names["Procedure reported"].ConceptCodeSequence[0].CodeMeaning == "Mammography"
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    assert sum(len(series.ReferencedSOPSequence) for series in study.ReferencedSeriesSequence) == 1
    if validator := shutil.which("dciodvfy"):
        done = subprocess.run([validator, tmp_path / "sr" / "1.dcm"], capture_output=True, text=True, check=False)
        assert "Error" not in done.stderr
