"""Lesions and views: tables with several rows a patient, and files named by them."""

from __future__ import annotations

import numpy as np
import pytest

from client.checks.counts import readiness
from client.cohort.load import load_cohort
from client.cohort.rows import open_rows
from client.errors import SiteError
from shared_models.features import Feature
from shared_models.targets import Binary, Categorical
from shared_models.task import Table, Task, Volume

ROWS = [
    ["id", "lesion", "volume", "roundness", "malignant"],
    ["secret-000", "L-frontal-1", 8, 0.9, 0],
    ["secret-001", "R-deep-1", 1, 0.2, 0],
    ["secret-001", "L-parietal-1", 64, 0.4, 1],
    ["secret-001", "L-parietal-2", "", 0.6, 0],
    ["secret-002", "R-frontal-1", 27, "", 0],
    ["secret-002", "odd", 27, 0.5, 0],
]
SIDE = {"column": "lesion", "extract": "^([LR])-", "codes": {"L": "left", "R": "right"}}
TASK = Task(
    {
        "radiomics": Table((Feature("roundness"), Feature("side", ("left", "right")))),
        "clinical": Table((Feature("age"),)),
    },
    {"malignant": Binary()},
    build_model=lambda *_: None,  # type: ignore[arg-type, return-value]
)


@pytest.fixture
def clinic(hospital):
    """Four patients: with one, three, two and no lesions."""
    hospital.write([["PatientID", "Age"], *([f"secret-{i:03d}", 50 + i] for i in range(4))])
    hospital.write(ROWS, "lesions.csv")
    hospital.settings["tables"]["lesions"] = {"file": "lesions.csv", "patient_id": "id"}
    hospital.settings["instances"] = {"table": "lesions", "column": "lesion", "volume": "volume"}
    hospital.settings["modalities"] = {
        "radiomics": {"reader": "table", "table": "lesions", "features": {"roundness": "roundness", "side": SIDE}},
        "clinical": {"reader": "table", "features": {"age": "Age"}},
    }
    hospital.settings["targets"] = {"malignant": {"label": {"column": "malignant", "table": "lesions"}}}
    return hospital


def test_a_lesion_is_a_row_and_a_patients_table_is_repeated(clinic, config):
    cohort = load_cohort(clinic.site(), TASK, config)
    assert len(cohort.patients) == 4
    assert cohort.first.tolist() == [0, 1, 4, 6, 7]
    np.testing.assert_allclose(cohort.inputs["radiomics"][:, 0], [0.9, 0.2, 0.4, 0.6, np.nan, 0.5, np.nan], rtol=1e-6)
    assert cohort.inputs["clinical"][:, 0].tolist() == [50, 51, 51, 51, 52, 52, 53]
    assert cohort.present.tolist() == [[True, True]] * 6 + [[False, True]]


def test_a_part_of_a_name_is_a_feature_and_what_does_not_fit_is_missing(clinic, config):
    sides = load_cohort(clinic.site(), TASK, config).inputs["radiomics"][:, 1:]
    np.testing.assert_array_equal(sides[:5], [[1, 0], [0, 1], [1, 0], [1, 0], [0, 1]])
    assert np.isnan(sides[5:]).all()


def test_large_lesions_are_drawn_by_the_root_of_their_volume_and_unknown_ones_by_the_median(clinic, config):
    np.testing.assert_allclose(
        load_cohort(clinic.site(), TASK, config).sampling_weight ** 2, [8, 1, 64, 27, 27, 27, 27]
    )


def test_a_patient_is_positive_if_one_lesion_is_and_unknown_without_any(clinic, config):
    np.testing.assert_array_equal(load_cohort(clinic.site(), TASK, config).truths["malignant"], [0, 1, 0, np.nan])


def test_a_patient_of_two_classes_is_an_error_that_names_a_row(clinic, config):
    task = Task(TASK.modalities, {"malignant": Categorical(("0", "1"))}, TASK.build_model)
    with pytest.raises(SiteError, match="a patient has two outcomes") as caught:
        load_cohort(clinic.site(), task, config)
    assert "from row 3 on" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_split_is_by_patient(clinic, config):
    cohort = load_cohort(clinic.site(), TASK, config)
    parts = [set(part.tolist()) for part in cohort.parts.values()]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 3
    assert all(patient < 4 for part in parts for patient in part)


def test_a_split_by_lesion_is_refused(clinic, config):
    rows = [[*ROWS[0], "part"], *([*row, ("train", "test")[i % 2]] for i, row in enumerate(ROWS[1:]))]
    clinic.write(rows, "lesions.csv")
    clinic.settings["split"] = {"table": "lesions", "column": "part", "train": ["train"], "test": ["test"]}
    with pytest.raises(SiteError, match="a patient appears in more than one split") as caught:
        load_cohort(clinic.site(), TASK, config)
    assert "rows 3 and 4" in str(caught.value)


def test_patients_and_lesions_may_stand_in_one_table(clinic, config):
    clinic.settings["patients"] = "lesions"
    clinic.settings["modalities"]["clinical"]["table"] = "clinical"
    cohort = load_cohort(clinic.site(), TASK, config)
    assert cohort.patients == ("secret-000", "secret-001", "secret-002")
    assert cohort.first.tolist() == [0, 1, 4, 6]


def test_a_table_that_is_not_named_has_a_row_a_patient_still(clinic, config):
    del clinic.settings["instances"]
    with pytest.raises(SiteError, match="a patient appears in two rows") as caught:
        load_cohort(clinic.site(), TASK, config)
    assert "`instances`" in str(caught.value)


def test_two_lesions_of_one_name_are_an_error(clinic):
    clinic.write([*ROWS, ["secret-002", "odd", 1, 0.1, 0]], "lesions.csv")
    with pytest.raises(SiteError, match="two rows of a patient have the same name") as caught:
        open_rows(clinic.site(), TASK)
    assert "row 8" in str(caught.value)
    clinic.settings["instances"]["column"] = ""
    assert len(open_rows(clinic.site(), TASK)) == 8


def lesion_volumes(clinic, volume_file, names):
    clinic.settings["modalities"]["mri"] = {
        "reader": "image_files",
        "phases": ["lesions/{patient}/{instance}.nii.gz"],
        "mask": "lesions/{patient}/{instance}_mask.nii.gz",
    }
    for patient, name in names:
        signal = np.random.default_rng(len(name)).uniform(50, 100, (8, 8, 8))
        volume_file(clinic.data / f"lesions/{patient}/{name}.nii.gz", signal)
        mask = np.zeros((8, 8, 8))
        mask[2:6, 2:6, 2:6] = 1
        volume_file(clinic.data / f"lesions/{patient}/{name}_mask.nii.gz", mask)


VOLUME = Task({"mri": Volume((2, 4, 4, 4), (1.0, 1.0, 1.0), tumour=True)}, TASK.targets, TASK.build_model)


def test_a_lesions_files_carry_its_name(clinic, config, volume_file):
    lesion_volumes(clinic, volume_file, [("secret-001", "R-deep-1"), ("secret-001", "L-parietal-2")])
    cohort = load_cohort(clinic.site(), VOLUME, config)
    assert cohort.present[:, 0].tolist() == [False, True, False, True, False, False, False]
    assert cohort.count_with_modality(np.arange(4), 0) == 1
    counted = readiness(clinic.site(), config, VOLUME)
    assert counted.modalities == {"mri": 1}
    assert counted.patients == 4


def test_a_lesion_without_a_row_is_counted_and_not_used(clinic, config, volume_file):
    lesion_volumes(clinic, volume_file, [("secret-001", "R-deep-1"), ("secret-001", "R-deep-7")])
    cohort = load_cohort(clinic.site(), VOLUME, config)
    assert cohort.present.sum() == 1
    assert "1 exams without a row in table 'lesions' (lesions.csv)" in cohort.warnings[0]


def test_a_lesion_without_its_mask_is_excluded(clinic, config, volume_file):
    lesion_volumes(clinic, volume_file, [("secret-001", "R-deep-1"), ("secret-001", "L-parietal-2")])
    (clinic.data / "lesions/secret-001/L-parietal-2_mask.nii.gz").unlink()
    cohort = load_cohort(clinic.site(), VOLUME, config)
    (aside,) = cohort.excluded
    assert (aside.patient, aside.instance) == ("secret-001", "L-parietal-2")
    assert "an exam has no mask" in aside.why
    assert cohort.present.sum() == 1


def test_a_path_by_lesion_needs_the_column_that_names_it(clinic, volume_file):
    lesion_volumes(clinic, volume_file, [])
    clinic.settings["instances"]["column"] = ""
    with pytest.raises(SiteError, match="does not say what names one"):
        clinic.site()


@pytest.mark.parametrize("extract", ["([", "R-.*"])
def test_an_expression_that_extracts_nothing_is_refused(clinic, extract):
    clinic.settings["modalities"]["radiomics"]["features"]["side"] = {**SIDE, "extract": extract}
    with pytest.raises(SiteError, match="extract"):
        clinic.site()
