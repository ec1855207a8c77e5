"""What a hospital may get wrong: one message each, nothing of it public, nothing half-written."""

import shutil

import numpy as np
import pytest

from client.cohort.load import load_cohort
from client.errors import ExitCode, SiteError


def set_cells(hospital, rows, column, cells):
    table = rows(40)
    for row, cell in cells.items():
        table[row - 1][table[0].index(column)] = cell
    hospital.write(table)


def all_cells(hospital, rows, column, cell):
    set_cells(hospital, rows, column, dict.fromkeys(range(2, 42), cell))


def missing_file(hospital, rows):
    (hospital.data / "clinical.csv").unlink()


def renamed_column(hospital, rows):
    table = rows(40)
    table[0][1] = "Age at diagnosis"
    hospital.write(table)


def unknown_code(hospital, rows):
    set_cells(hospital, rows, "Grade", {5: "G4", 9: "IV"})


def text_in_a_number(hospital, rows):
    set_cells(hospital, rows, "Age", {3: "about 50"})


def duplicate_patient(hospital, rows):
    hospital.write([*rows(40), rows(40)[3]])


def two_splits(hospital, rows):
    split = [["PatientID", "Part"], *([row[0], "train"] for row in rows(40)[1:]), ["secret-002", "test"]]
    hospital.write(split, "split.csv")
    hospital.settings["tables"]["split"] = {"file": "split.csv", "patient_id": "PatientID"}
    hospital.settings["split"] = {"table": "split", "column": "Part", "train": ["train"], "test": ["test"]}


def incomplete_split(hospital, rows):
    two_splits(hospital, rows)
    split = [["PatientID", "Part"], *([row[0], "train"] for row in rows(38)[1:]), ["secret-038", "dev"]]
    hospital.write(split, "split.csv")


def wrong_number_of_phases(hospital, rows):
    hospital.phases([0], count=3)


def no_volume(hospital, rows):
    hospital.phases([])


def non_finite_voxels(hospital, rows):
    hospital.phases([0])
    path = hospital.data / "mri/secret-000/phase1.nii.gz"
    from client.imaging.files import read_image

    array = np.array(_voxels(read_image(path)))
    array[0, 0, 0] = np.nan
    _write(path, array)


def other_spacing(hospital, rows):
    hospital.phases([0])
    _write(hospital.data / "mri/secret-000/phase1.nii.gz", np.ones((6, 8, 10)), spacing=2.0)


def _voxels(image):
    import SimpleITK as sitk

    return sitk.GetArrayFromImage(image)


def _write(path, array, spacing=1.0):
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(array.astype(np.float32))
    image.SetSpacing([spacing] * 3)
    sitk.WriteImage(image, str(path))


def all_missing(hospital, rows):
    all_cells(hospital, rows, "ER", "NA")


def wrong_unit(hospital, rows):
    set_cells(hospital, rows, "Age", {row: 18000 + row for row in range(2, 42)})


def no_rows(hospital, rows):
    hospital.write(rows(0))


def nobody_included(hospital, rows):
    hospital.settings["include"] = {"column": "ER", "values": ["maybe"]}


def no_outcome(hospital, rows):
    all_cells(hospital, rows, "Event", "")


def no_target(hospital, rows):
    targets = hospital.settings["targets"]
    targets["death"] = targets.pop("recurrence")


def nobody_to_train_on(hospital, rows):
    two_splits(hospital, rows)
    hospital.write([["PatientID", "Part"], *([row[0], "test"] for row in rows(40)[1:])], "split.csv")


def strangers(hospital, rows):
    hospital.write([["Sample", "ESR1"], ["other-1", 3]], "genes.csv")
    hospital.settings["tables"]["genes"] = {"file": "genes.csv", "patient_id": "Sample"}
    hospital.settings["modalities"]["clinical"]["features"]["age_years"] = {"table": "genes", "column": "ESR1"}


def outside_data_root(hospital, rows):
    shutil.move(hospital.data / "clinical.csv", hospital.folder / "clinical.csv")
    hospital.settings["tables"]["clinical"]["file"] = "../clinical.csv"


def wrong_reader(hospital, rows):
    hospital.phases([0])
    hospital.settings["modalities"]["clinical"] = hospital.settings["modalities"].pop("mri")


TABLE, FIRST = "table 'clinical' (clinical.csv)", ExitCode.DATA
CASES = [
    (missing_file, ["file is missing", "tables.clinical.file", "clinical.csv"], FIRST),
    (renamed_column, ["a column is missing", TABLE, "'Age at diagnosis'", "one column 'Age'"], FIRST),
    (unknown_code, ["unmapped code", TABLE, "'Grade'", "'G4', 'IV' in rows 5, 9", "'G1', 'G2', 'G3'"], FIRST),
    (text_in_a_number, ["number cannot be read", TABLE, "'Age'", "'about 50' in row 3"], FIRST),
    (duplicate_patient, ["appears in two rows", TABLE, "rows 4 and 42", "1 such pair"], FIRST),
    (two_splits, ["in more than one split", "split.csv", "'Part'", "rows 4 and 42"], FIRST),
    (incomplete_split, ["without a split in the published split", "2 patients", "'dev'", "'train', 'test'"], FIRST),
    (wrong_number_of_phases, ["another number of phases", "phase0.nii.gz", "3 phases", "4 phases"], ExitCode.STUDY),
    (no_volume, ["no patient has images", "modalities.mri", "images of 0 patients"], FIRST),
    (non_finite_voxels, ["not numbers", "phase1.nii.gz", "1 NaN or infinite voxels"], FIRST),
    (other_spacing, ["differ in spacing", "phase1.nii.gz", "(2.0, 2.0, 2.0)", "(1.0, 1.0, 1.0)"], FIRST),
    (all_missing, ["'er' is missing for every patient", TABLE, "'ER'", "take it out"], FIRST),
    (wrong_unit, ["'age_years' is missing for every patient", "40 values outside", "15.0 and 110.0", "`scale`"], FIRST),
    (no_rows, ["no patients", TABLE, "no rows below the header"], FIRST),
    (nobody_included, ["no patients", "40 patients, none of them selected", "'ER' to be maybe"], FIRST),
    (no_outcome, ["no patient's outcome is known", "targets recurrence", "missing codes"], FIRST),
    (no_target, ["no patient's outcome is known", "targets death", "recurrence"], ExitCode.STUDY),
    (nobody_to_train_on, ["no training patients", "40 patients", "role: evaluate"], FIRST),
    (strangers, ["none of the site's patients", "'genes'", "'Sample'", "'PatientID'"], FIRST),
    (outside_data_root, ["escapes data_root", "tables.clinical.file"], ExitCode.SITE_CONFIG),
    (wrong_reader, ["another reader", "modalities.clinical", "makes a table"], ExitCode.STUDY),
]


@pytest.mark.parametrize(("spoil", "message", "code"), CASES, ids=[case[0].__name__ for case in CASES])
def test_one_message_says_what_where_and_what_to_do(hospital, imaging_task, config, rows, spoil, message, code):
    spoil(hospital, rows)
    site = hospital.site()
    with pytest.raises(SiteError) as caught:
        load_cohort(site, imaging_task, config)
    error = caught.value
    for part in [*message, "where:", "found:", "expected:", "to do:"]:
        assert part in str(error)
    assert error.exit_code is code
    assert not any(word in error.public for word in ("secret", ".csv", ".nii", "'Age'", str(hospital.folder)))
    assert error.__cause__ is None
    if spoil not in (nobody_to_train_on,):  # there the data are good, and their cache may stay
        made = [np.load(path) for path in site.state_dir.rglob("*.npy")]
        assert not [array for array in made if array.dtype != np.uint8]  # an exam that is well has facts
        assert not list((site.state_dir).rglob("*.csv"))
        assert not list((site.state_dir).rglob(".draft*"))


TABULAR = [case for case in CASES if case[0] not in (wrong_number_of_phases, non_finite_voxels, other_spacing)]


@pytest.mark.parametrize("spoil", [case[0] for case in TABULAR], ids=[case[0].__name__ for case in TABULAR])
def test_messages_about_tables_name_rows_and_no_patient(hospital, imaging_task, config, rows, spoil):
    spoil(hospital, rows)
    with pytest.raises(SiteError) as caught:
        load_cohort(hospital.site(), imaging_task, config)
    assert "secret" not in str(caught.value)


def test_a_mended_site_goes_on(hospital, imaging_task, config, rows):
    unknown_code(hospital, rows)
    with pytest.raises(SiteError):
        load_cohort(hospital.site(), imaging_task, config)
    hospital.write(rows(40))
    assert len(load_cohort(hospital.site(), imaging_task, config).patients) == 40
