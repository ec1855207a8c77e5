import subprocess
import sys

import numpy as np
import pytest

from client.cache.row_files import RowFiles
from client.cohort.load import load_cohort
from shared_models.features import Feature
from shared_models.study_settings import StudySettings
from shared_models.targets import Binary, TimeToEvent
from shared_models.task import Table, Task, Volume


def test_a_cohort_has_the_contracts_shapes(hospital, task, config):
    cohort = load_cohort(hospital.site(), task, config)
    assert cohort.site == "oak"
    assert len(cohort.patients) == 40
    assert cohort.inputs["clinical"].shape == (40, 6)
    assert cohort.inputs["clinical"].dtype == np.float32
    np.testing.assert_array_equal(cohort.inputs["clinical"][1], [41, 0, 1, 0, 0, 1])
    assert cohort.present.dtype == bool
    assert cohort.present.all()
    np.testing.assert_array_equal(cohort.truths["recurrence"][:2], [[100, 1], [137, 0]])
    assert cohort.truths["recurrence"].dtype == np.float32


def test_parts_are_disjoint_stratified_and_cover_everyone(hospital, task, config):
    cohort = load_cohort(hospital.site(), task, config)
    rows = np.concatenate(list(cohort.parts.values()))
    assert sorted(rows) == list(range(40))
    assert {part: len(rows) for part, rows in cohort.parts.items()} == {"train": 28, "validation": 5, "test": 7}
    events = {part: int(cohort.truths["recurrence"][rows, 1].sum()) for part, rows in cohort.parts.items()}
    assert events == {"train": 7, "validation": 1, "test": 2}
    assert all(rows.dtype == np.int64 for rows in cohort.parts.values())


def test_a_patient_stays_in_their_part_when_rows_are_added_and_reordered(hospital, task, config, rows):
    def parts():
        cohort = load_cohort(hospital.site(), task, config)
        return {cohort.patients[row]: part for part, members in cohort.parts.items() for row in members}

    before = parts()
    header, *patients = rows(60)
    hospital.write([header, *reversed(patients)])
    after = parts()
    assert {patient: after[patient] for patient in before} == before
    assert len(after) == 60


def test_missing_values_and_absent_patients(hospital, task, config, rows):
    table = rows(40)
    table[1][1:4] = ["NA", "", ""]
    table[2][1] = "NA"
    table[3][1] = 4000
    table[4][4] = ""
    hospital.write(table)
    cohort = load_cohort(hospital.site(), task, config)
    assert np.isnan(cohort.inputs["clinical"][0]).all()
    assert not cohort.present[0, 0]
    assert cohort.present[1, 0]
    assert np.isnan(cohort.inputs["clinical"][1:3, 0]).all()
    assert np.isnan(cohort.truths["recurrence"][3]).all()
    assert not {0, 3} & set(np.concatenate(list(cohort.parts.values())))
    (warning,) = cohort.warnings
    assert warning.startswith("1 patient has none of the study's modalities")


def test_what_the_site_does_not_map_is_missing(hospital, config):
    modalities = {
        "clinical": Table((Feature("age_years"), Feature("ki67"))),
        "genomic": Table((Feature("ESR1"),)),
        "mri": Volume((2, 3, 4, 5), (1.0, 1.0, 1.0)),
    }
    task = Task(modalities, {"recurrence": TimeToEvent(), "her2": Binary()}, build_model=None)
    cohort = load_cohort(hospital.site(), task, config)
    np.testing.assert_array_equal(cohort.present, np.tile([True, False, False], (40, 1)))
    assert np.isnan(cohort.inputs["clinical"][:, 1]).all()
    assert np.isnan(cohort.inputs["genomic"]).all()
    assert cohort.inputs["mri"].shape == (40, 2, 3, 4, 5)
    assert not cohort.inputs["mri"][:].any()
    assert np.isnan(cohort.truths["her2"]).all()


def test_volumes_of_some_patients(hospital, imaging_task, config):
    hospital.phases([3, 7])
    cohort = load_cohort(hospital.site(), imaging_task, config)
    assert np.flatnonzero(cohort.present[:, 0]).tolist() == [3, 7]
    assert cohort.inputs["mri"].shape == (40, 4, 6, 8, 10)
    assert cohort.inputs["mri"].dtype == np.float16
    assert isinstance(cohort.inputs["mri"], RowFiles)
    np.testing.assert_allclose(cohort.inputs["mri"][3, 3] / cohort.inputs["mri"][3, 0], 4, rtol=3e-3)
    assert not cohort.inputs["mri"][4].any()


def test_a_single_phase_study_takes_the_first_post_contrast_one(hospital, config):
    hospital.phases([0])
    task = Task({"mri": Volume((1, 6, 8, 10), (1.0, 1.0, 1.0))}, {"recurrence": TimeToEvent()}, build_model=None)
    mri = load_cohort(hospital.site(), task, config).inputs["mri"]
    assert mri.shape == (40, 1, 6, 8, 10)
    assert np.percentile(mri[0], 95) == pytest.approx(2, rel=1e-2)


def test_a_selection_of_the_rows(hospital, task, config):
    hospital.write([["PatientID", "Region"], *([f"secret-{i:03d}", i % 3] for i in range(1, 40))], "regions.csv")
    hospital.settings["tables"]["regions"] = {"file": "regions.csv", "patient_id": "PatientID"}
    hospital.settings["include"] = {"table": "regions", "column": "Region", "values": [0.0, "2"]}
    cohort = load_cohort(hospital.site(), task, config)
    assert cohort.patients[:3] == ("secret-002", "secret-003", "secret-005")


def test_a_split_that_the_site_brings(hospital, task, config, rows):
    hospital.write([[*row, part] for row, part in zip(rows(40), ["Part", *["T", "V", "H", "T"] * 10], strict=True)])
    hospital.settings["split"] = {"column": "Part", "train": ["T"], "validation": ["V"], "test": ["H"]}
    parts = load_cohort(hospital.site(), task, config).parts
    assert parts["validation"].tolist() == list(range(1, 40, 4))
    assert parts["test"].tolist() == list(range(2, 40, 4))


def test_an_evaluating_site_is_all_test(hospital, task, config):
    hospital.settings["role"] = "evaluate"
    parts = load_cohort(hospital.site(), task, config).parts
    assert {part: len(rows) for part, rows in parts.items()} == {"train": 0, "validation": 0, "test": 40}


def test_one_class_only_still_trains(hospital, task, config, rows):
    header, *patients = rows(20)
    hospital.write([header, *([*row[:4], "no", row[5]] for row in patients)])
    assert len(load_cohort(hospital.site(), task, config).parts["train"]) == 14


def test_truths_and_masks_can_become_tensors_without_a_warning(hospital, task, config):
    load_cohort(hospital.site(), task, config)
    cohort = load_cohort(hospital.site(), task, config)
    assert task.targets["recurrence"].counts(cohort.truths["recurrence"]).sum() > 0
    assert cohort.present.flags.writeable


WARM = """
import sys
from pathlib import Path
from client.cache.row_files import RowFiles
from client.cohort.load import load_cohort
from client.config.site import load_site
from shared_models.features import Feature
from shared_models.study_settings import StudySettings
from shared_models.task import Table, Task, Volume
from shared_models.targets import TimeToEvent
features = (Feature("age_years"), Feature("grade", ("1", "2", "3")), Feature("er", ("negative", "positive")))
modalities = {"mri": Volume((4, 6, 8, 10), (1.0, 1.0, 1.0)), "clinical": Table(features)}
task = Task(modalities, {"recurrence": TimeToEvent()}, build_model=None)
cohort = load_cohort(load_site(Path(sys.argv[1])), task, StudySettings(study="elm"))
print(cohort.present.sum(), *(name for name in ("pandas", "SimpleITK", "openpyxl") if name in sys.modules))
"""


def test_a_warm_cache_imports_no_reader(hospital, imaging_task, config):
    hospital.phases([3])
    assert load_cohort(hospital.site(), imaging_task, config).present.sum() == 41
    command = [sys.executable, "-c", WARM, str(hospital.folder / "oak.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["41"], done.stderr


def test_studies_of_a_cohort_have_one_split_unless_one_names_its_own(hospital, task):
    studies = (StudySettings(study="elm"), StudySettings(study="yew"), StudySettings(study="elm", split="own"))
    first, second, named = (load_cohort(hospital.site(), task, study).parts["test"].tolist() for study in studies)
    assert first == second != named
    assert len([*(hospital.site().state_dir / "splits").iterdir()]) == 2
