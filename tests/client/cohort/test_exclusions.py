"""One bad patient is excluded by name at the site; the rest go on."""

from __future__ import annotations

import csv

import numpy as np

from client.cohort.load import load_cohort


def test_a_patient_without_one_of_the_phases_is_excluded(hospital, imaging_task, config):
    hospital.phases([0, 1, 2])
    (hospital.data / "mri/secret-001/phase2.nii.gz").unlink()
    (hospital.data / "mri/secret-002/phase1.nii.gz").write_bytes(b"no image")
    cohort = load_cohort(hospital.site(), imaging_task, config)
    assert cohort.present[:4, 0].tolist() == [True, False, False, False]
    assert [(exclusion.patient, exclusion.modality) for exclusion in cohort.excluded] == [
        ("secret-001", "mri"),
        ("secret-002", "mri"),
    ]
    assert "phase0, phase1, phase3 without phase2" in cohort.excluded[0].why
    assert "cannot be read" in cohort.excluded[1].why
    again = load_cohort(hospital.site(), imaging_task, config)
    assert again.excluded == cohort.excluded


def test_exams_of_strangers_are_counted_and_not_used(hospital, imaging_task, config):
    hospital.phases([0, 50])
    cohort = load_cohort(hospital.site(), imaging_task, config)
    assert cohort.warnings[0] == "modalities.mri: 1 exams without a row in table 'clinical' (clinical.csv) are not used"
    assert cohort.excluded == ()


def test_a_patient_without_any_of_the_studys_modalities_is_in_no_part(hospital, imaging_task, config):
    hospital.phases(range(12))
    del hospital.settings["modalities"]["clinical"]
    cohort = load_cohort(hospital.site(), imaging_task, config)
    assert sorted(np.concatenate(list(cohort.parts.values()))) == list(range(12))


def test_after_mending_only_that_patient_is_read(hospital, imaging_task, config, monkeypatch):
    hospital.phases([0, 1, 2])
    broken = hospital.data / "mri/secret-001/phase2.nii.gz"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:100])
    assert len(load_cohort(hospital.site(), imaging_task, config).excluded) == 1
    broken.write_bytes(whole)
    read = []
    monkeypatch.setattr("client.imaging.preprocessing.preprocess", lambda exam, *_: read.append(exam.name) or exam)
    assert load_cohort(hospital.site(), imaging_task, config).present[:3, 0].all()
    assert [path.parent.name for path in read] == ["secret-001"]


def test_who_is_excluded_stands_in_a_file_that_goes_when_it_is_mended(hospital, imaging_task, config):
    hospital.phases([0, 1])
    broken = hospital.data / "mri/secret-001/phase2.nii.gz"
    whole = broken.read_bytes()
    broken.write_bytes(b"no image")
    site = hospital.site()
    load_cohort(site, imaging_task, config)
    path = site.state_dir / "excluded.csv"
    assert path.stat().st_mode & 0o777 == 0o600
    (row,) = csv.DictReader(path.read_text().splitlines())
    assert (row["patient"], row["instance"], row["modality"]) == ("secret-001", "", "mri")
    assert row["why"].startswith("an image cannot be read; found: ")
    assert "; to do: " in row["why"]
    broken.write_bytes(whole)
    load_cohort(site, imaging_task, config)
    assert not path.exists()
