"""A prediction as a DICOM structured report, read and validated by other programs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from highdicom.sr import srread
from pydicom import Dataset, dcmread

from client.__main__ import main
from client.config.site import load_site
from client.errors import SiteError
from client.inference.dicom_report import require_dicom, write_reports
from shared_models.trained_model import RESEARCH_ONLY, read_model

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
    assert write_reports(hospital.site(), read_model(finished_study.best), COLUMNS, tmp_path / "sr") == 2
    return tmp_path / "sr"


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
    with pytest.raises(SiteError, match="there are no DICOM exams to report in"):
        require_dicom(load_site(site))
    out = finished_study.folder / "p.csv"
    words = ["predict", str(finished_study.best), "--site", str(site), "--out", str(out), "--dicom-sr", str(out.parent)]
    assert main(words) == 2
    assert "leave --dicom-sr out" in capsys.readouterr().err
    assert not out.exists()
