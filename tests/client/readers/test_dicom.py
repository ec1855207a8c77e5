"""DICOM at a site: from its YAML to the cohort and the check."""

import shutil

import numpy as np
import pytest
import yaml

from client.__main__ import main
from client.cohort.load import load_cohort
from client.contract.paths import Instance
from client.errors import ExitCode, SiteError
from client.imaging.dicom.exam_folder import files_under
from client.readers.dicom import DicomReader
from shared_models.targets import TimeToEvent
from shared_models.task import Task, Volume

YAML = """
site: ucsf
data_root: data
state_dir: state
workers: 1
tables:
  clinical: {file: clinical.csv, patient_id: id}
modalities:
  mri:
    reader: dicom
    folder: "dicom/{patient}"
    series: "(?i)3dfgre"
    mask: "dicom/{patient}/mask/*.dcm"
targets:
  recurrence:
    label: {column: recurred, codes: {no: 0, yes: 1}}
"""


@pytest.fixture
def exam(slice_file):
    """Writes an exam of two phases of 5 slices, the second twice as bright."""

    def write(folder):
        for phase, place in np.ndindex(2, 5):
            voxels, clock = (phase + 1) * (24 * place + np.arange(24).reshape(4, 6)), f"10{phase:02d}00"
            slice_file(folder / f"{phase}-{place}", voxels, (0, 0, 3 * place), AcquisitionTime=clock)

    return write


@pytest.fixture
def clinic(hospital, exam):
    """A hospital of which three patients have DICOM."""
    hospital.settings["modalities"]["mri"] = {"reader": "dicom", "folder": "dicom/{patient}/*"}
    for index in range(3):
        exam(hospital.data / f"dicom/secret-{index:03d}/dyn")
    return hospital


def test_one_bad_patient_is_excluded(clinic, config):
    (clinic.data / "dicom/secret-001/dyn/1-3").unlink()
    task = Task(
        {"mri": Volume((2, 5, 4, 6), (3.0, 2.0, 1.0))}, {"recurrence": TimeToEvent()}, build_model=lambda *_: None
    )
    cohort = load_cohort(clinic.site(), task, config)
    assert cohort.present[:4, 0].tolist() == [True, False, True, False]
    (aside,) = cohort.excluded
    assert aside.patient == "secret-001"
    assert "slices are missing" in aside.why
    np.testing.assert_allclose(cohort.inputs["mri"][0, 1, 2:4], 2 * cohort.inputs["mri"][0, 0, 2:4], rtol=1e-3)


def test_links_are_followed_within_data_root_and_refused_beyond(clinic, exam, tmp_path):
    (clinic.data / "dicom/secret-007").mkdir()
    (clinic.data / "dicom/secret-007/dyn").symlink_to(clinic.data / "dicom/secret-000/dyn")
    (clinic.data / "dicom/secret-000/dyn/circle").symlink_to(clinic.data / "dicom/secret-000")
    exams = DicomReader(reader="dicom", folder="dicom/{patient}/*").exams(clinic.site())
    assert len(exams[Instance("secret-007")].images) == 10
    exam(tmp_path / "elsewhere")
    (clinic.data / "dicom/secret-000/dyn/more").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SiteError, match="escapes data_root"):
        DicomReader(reader="dicom", folder="dicom/{patient}/*").exams(clinic.site())


def test_a_folder_that_cannot_be_listed(hospital):
    with pytest.raises(SiteError, match=r"a folder cannot be read\n.*\n.*No such file"):
        files_under(hospital.site(), hospital.data / "gone", "folder")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"series": "(dyn"}, "no regular expression"),
        ({"phases": [2, 1]}, "in the order of time"),
        ({"phases": [0, 1], "seconds": [0, 60, 120]}, "3 times for 2 phases"),
        ({"seconds": [60, 120]}, "seconds after the first phase"),
        (
            {"mask": {"file": "a/{patient}", "box": {"rows": ["a", "b"], "columns": ["c", "d"], "slices": ["e", "f"]}}},
            "either `file`",
        ),
        (
            {"mask": {"box": {"table": "boxs", "rows": ["a", "b"], "columns": ["c", "d"], "slices": ["e", "f"]}}},
            "no table 'boxs'",
        ),
    ],
)
def test_settings_that_cannot_be(clinic, change, message):
    clinic.settings["modalities"]["mri"] |= change
    with pytest.raises(SiteError, match=message) as caught:
        clinic.site()
    assert caught.value.exit_code is ExitCode.SITE_CONFIG


def test_the_check_of_a_site_with_a_real_study(shared_data, tmp_path, monkeypatch, capsys):
    shutil.copytree(shared_data / "dce_dicom/UCSF-BR-06", tmp_path / "data/dicom/UCSF-BR-06")
    (tmp_path / "data/clinical.csv").write_text("id,recurred\nUCSF-BR-06,no\n")
    (tmp_path / "ucsf.yaml").write_text(YAML)
    monkeypatch.chdir(tmp_path)
    assert main(["check", "--site", "ucsf.yaml"]) == ExitCode.OK
    assert "1 patients" in capsys.readouterr().out
    settings = yaml.safe_load(YAML)
    settings["modalities"]["mri"]["series"] = "T1"
    (tmp_path / "ucsf.yaml").write_text(yaml.safe_dump(settings))
    assert main(["check", "--site", "ucsf.yaml"]) == ExitCode.DATA
    assert "'Sagittal-IR_3DFGRE' (180 images)" in "".join(capsys.readouterr())
