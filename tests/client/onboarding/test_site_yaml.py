"""A first YAML guessed from a folder: of five hospitals that write the same things differently, and of real data."""

import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from client.checks.counts import readiness
from client.config.site import load_site
from client.errors import SiteError
from client.onboarding.site_yaml import write_first_config
from simulation.cohorts.breast_mri.cohort import write_cohort


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory):
    """The five synthetic hospitals without images, and their own YAML."""
    return write_cohort(tmp_path_factory.mktemp("cohort"), images=False, scale=0.25)


@pytest.fixture
def first(tmp_path):
    """The site that `init` makes of a folder."""

    def make(folder, name="first"):
        path = tmp_path / "site_configs" / f"{name}.yaml"
        write_first_config(folder, path)
        return load_site(path), path.read_text(encoding="utf-8")

    return make


def settings_of(column):
    codes = {str(code): str(meaning) for code, meaning in (column.codes or {}).items()}
    return column.column, round(column.scale, 6), codes


@pytest.mark.parametrize("name", "ABCDE")
def test_clinical_features_and_targets_of_a_hospital_are_found(hospitals, first, name):
    (path,) = [path for path in hospitals if path.stem == name]
    true = load_site(path)
    made, _ = first(path.parent, name)
    wanted, guessed = (site.modalities["clinical"].features for site in (true, made))
    right = [
        key for key, column in wanted.items() if key in guessed and settings_of(column) == settings_of(guessed[key])
    ]
    assert len(right) >= 0.8 * len(wanted)
    for target, outcome in true.targets.items():
        assert [column.column for column in made.targets[target].columns] == [one.column for one in outcome.columns]
    checked = readiness(made, None, None)
    assert [problem for problem in checked.problems if problem.severity == "error"] == []
    assert checked.patients == len(readiness(true, None, None).cohort_rows.patients)


def test_everything_guessed_is_marked_and_no_patient_is_named(hospitals, first):
    made, text = first(hospitals[0].parent)
    guessed = [line for line in text.splitlines() if "{" in line and not line.startswith("#")]
    assert len(guessed) > 10
    assert all("# check:" in line for line in guessed)
    assert "MUH-" not in text
    assert re.search(r"^#   PROLIFERATION +\| genomic: PROLIFERATION$", text, re.M)
    assert made.tables["clinical"].missing == ("NA",)


def test_images_are_found_by_the_patients_in_their_paths(hospital, first):
    hospital.phases([0, 1, 2])
    for index in (0, 1):
        folder = hospital.data / f"mri/secret-{index:03d}"
        shutil.copy(folder / "phase0.nii.gz", folder / "Tumor_mask.nii.gz")
    made, text = first(hospital.data)
    assert made.modalities["mri"].phases == tuple(f"mri/{{patient}}/phase{phase}.nii.gz" for phase in range(4))
    assert made.modalities["dce_mri"].mask.file == "mri/{patient}/Tumor_mask.nii.gz"
    assert "secret" not in text


def test_a_patient_may_stand_in_the_files_name_and_pre_comes_first(hospital, first):
    for index in (0, 1):
        for phase in ("post10", "post2", "pre"):
            path = hospital.data / f"secret-{index:03d}_{phase}.nii.gz"
            path.write_bytes(b"")
    made, _ = first(hospital.data)
    assert made.modalities["mri"].phases == tuple(f"{{patient}}_{p}.nii.gz" for p in ("pre", "post2", "post10"))


def test_a_names_column_stands_in_no_yaml(hospital, first):
    header = ["id", "Surname", "Age", "ER status", "HER2"]
    people = [["p1", "Miller", 50, "positive", "neg"], ["p2", "Schulz", 61, "negative", "Okafor"]]
    people += [["p3", "Okafor", 44, "positive", "pos"], ["p4", "Lindqvist", 58, "negative", "neg"]]
    hospital.write([header, *people])
    made, text = first(hospital.data)
    assert not [name for name in ("Miller", "Schulz", "Okafor", "Lindqvist", "p1") if name in text]
    assert set(made.modalities["clinical"].features) >= {"age_years", "er"}


def test_a_column_whose_name_is_yaml_or_a_comment_breaks_nothing(hospital, first):
    hospital.write(
        [["id", "Age\n  evil: 1", "a: [b", "# check: c", "ER"], *([f"p{i}", 50 + i, 1, 2, i % 2] for i in range(9))]
    )
    made, text = first(hospital.data)
    assert made.modalities["clinical"].features["er"].column == "ER"
    assert "\n  evil" not in text


def test_german_numbers_old_excel_and_lesions(hospital, first):
    rows = [
        ["Patientennummer", "Alter", "Östrogenrezeptor"],
        *([f"K{i}", f"5{i % 10},5", ("negativ", "positiv")[i % 2]] for i in range(20)),
    ]
    hospital.write(rows, "patienten.csv", delimiter=";", encoding="cp1252")
    (hospital.data / "clinical.csv").unlink()
    lesions = [["Patientennummer", "Volumen"], *([f"K{i // 2}", 1 + i] for i in range(20))]
    hospital.write(lesions, "lesions.csv", delimiter=";", encoding="cp1252")
    made, _ = first(hospital.data)
    table = made.tables["patienten"]
    assert (table.separator, table.decimal, table.encoding, table.patient_id) == (";", ",", "cp1252", "Patientennummer")
    assert made.modalities["clinical"].features["er"].codes == {"negativ": "negative", "positiv": "positive"}
    assert made.instances.table == "lesions"
    assert made.patients == "patienten"


def test_a_lesions_images_are_named_by_its_table_and_not_taken_for_phases(hospital, first):
    rows = [[f"K{i // 2}", f"{'LR'[i % 2]}-frontal-{i % 3}", 1 + i] for i in range(20)]
    hospital.write([["PatientID", "lesion", "volume"], *rows], "lesions.csv")
    hospital.write([["PatientID", "ER"], *([f"K{i}", ("neg", "pos")[i % 2]] for i in range(10))], "clinical.csv")
    for patient, lesion, _ in rows:
        (hospital.data / "img" / patient).mkdir(parents=True, exist_ok=True)
        for end in (".nii.gz", "_mask.nii.gz"):
            (hospital.data / "img" / patient / f"{lesion}{end}").touch()
    made, text = first(hospital.data)
    images = made.modalities["brain_mri"]
    assert (made.instances.table, made.instances.column) == ("lesions", "lesion")
    assert images.phases == ("img/{patient}/{instance}.nii.gz",)
    assert images.mask.file == "img/{patient}/{instance}_mask.nii.gz"
    assert "frontal" not in text


def test_a_row_an_image_is_its_patients_and_no_patient_is_a_file(hospital, first):
    (hospital.data / "clinical.csv").unlink()
    rows = [[f"K{i // 2}/slice_{i}.png", f"K{i // 2}", 1 + i % 3, 40 + i] for i in range(40)]
    hospital.write([["filename", "pid", "pam50", "age"], *rows], "index.csv")
    made, text = first(hospital.data)
    assert made.tables["index"].patient_id == "pid"
    assert "pam50 of targets is LumA, LumB" in text


def test_genes_whose_columns_say_how_they_were_measured(hospital, first):
    (hospital.data / "clinical.csv").unlink()
    genes = ["BAG1", "BCL2", "ESR1", "FOXA1", "MYBL2"]
    rows = [[f"p{i}", *(f"{5 + (i * 7 + g) % 11 / 10}" for g in range(5))] for i in range(20)]
    hospital.write([["id", *(f"{gene}_log2" for gene in genes)], *rows], "expression.csv")
    made, _ = first(hospital.data)
    assert [made.modalities["expression"].features[gene].column for gene in genes] == [f"{gene}_log2" for gene in genes]


def test_a_file_that_is_no_table_is_named_and_the_rest_is_used(hospital, first):
    (hospital.data / "scan.csv").write_bytes(bytes(range(256)) * 50)
    (hospital.data / "broken.xlsx").write_bytes(b"PK\x03\x04 no workbook")
    _, text = first(hospital.data)
    assert "# not used: broken.xlsx: a table cannot be read" in text
    assert "# not used: scan.csv" in text


def test_what_cannot_be_done_is_said(hospital, tmp_path):
    path = tmp_path / "there.yaml"
    path.write_text("mine")
    with pytest.raises(SiteError, match="there is such a site already"):
        write_first_config(hospital.data, path)
    assert path.read_text() == "mine"
    with pytest.raises(SiteError, match="no such folder"):
        write_first_config(tmp_path / "nowhere", tmp_path / "new.yaml")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SiteError, match="no table names patients"):
        write_first_config(tmp_path / "empty", tmp_path / "new.yaml")
    (tmp_path / "empty" / "a.csv").write_text("id,age\n")
    with pytest.raises(SiteError, match=r"a\.csv: has no row below its header"):
        write_first_config(tmp_path / "empty", tmp_path / "new.yaml")
    assert not (tmp_path / "new.yaml").exists()


def test_the_command_writes_a_yaml_that_its_check_accepts(hospital, tmp_path):
    def run(*words):
        done = subprocess.run(
            [sys.executable, "-m", "client", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    status, text = run("init", "data", "--site", "oak")
    assert (status, "python -m client check --site oak" in text) == (0, True), text
    assert "data_root: ../data\n" in (tmp_path / "site_configs/oak.yaml").read_text()
    assert run("init", "data", "--site", "oak")[0] == 2
    status, text = run("check", "--site", "oak")
    assert status == 0, text
    assert (tmp_path / "state/oak/readiness.html").stat().st_mode & 0o777 == 0o600


@pytest.mark.slow  # the sheet is read several times
def test_dukes_sheet(shared_data, first):
    made, _ = first(shared_data / "duke")
    table = made.tables["data"]
    assert (table.header_rows, table.patient_id) == (3, "Patient ID")
    result = readiness(made, None, None)
    assert result.targets["recurrence"] == {"censored": 818, "event": 87, "unknown": 17}
    assert result.exit_code == 0
    assert {"age_years", "nodes", "er", "pr", "her2"} <= set(made.modalities["clinical"].features)


def test_regions_of_structure_sets_are_offered(structure_set, tmp_path, first):
    square = [(2.5, 1.5, 2), (6.5, 1.5, 2), (6.5, 5.5, 2), (2.5, 5.5, 2)]
    structures = structure_set({"BODY": [square], "GTV": [square]})
    folder = tmp_path / "hospital"
    for patient in ("P-1", "P-2"):
        images, masks = (
            folder / f"dicom/{patient}/MR/1.2.840.10008.1{patient[-1]}",
            folder / f"dicom/{patient}/RTSTRUCT/1.2.840.10008.2",
        )
        for place in (images, masks):
            place.mkdir(parents=True)
        for path in structures.parent.glob("?.dcm"):
            shutil.copy(path, images)
        shutil.copy(structures, masks / "1.2.840.3.dcm")
    (folder / "clinical.csv").write_text("ID,Age,Relapse\nP-1,50,0\nP-2,60,1\n")
    made, text = first(folder)
    reader = made.modalities["dce_mri"]
    assert (reader.folder, reader.mask.file, reader.mask.segment) == (
        "dicom/{patient}", "dicom/{patient}/RTSTRUCT/*/*.dcm", "GTV",
    )  # fmt: skip
    assert "`segment` is one of BODY, GTV" in text
    (exam, _) = reader.exams(made).values()
    assert exam.load().mask_share == 1.0


def test_a_real_dicom_study(shared_data, tmp_path, first):
    folder = tmp_path / "ucsf"
    shutil.copytree(shared_data / "dce_dicom", folder / "dicom")
    (folder / "clinical.csv").write_text("patient_id,age,er\nUCSF-BR-06,51,positive\n")
    made, text = first(folder)
    reader = made.modalities["dce_mri"]
    assert (reader.reader, reader.folder, reader.mask.file) == (
        "dicom",
        "dicom/{patient}",
        "dicom/{patient}/mask/*.dcm",
    )
    assert "and not the breast's" in text
    (exam,) = reader.exams(made).values()
    assert len(exam.files) > 180


@pytest.mark.slow
def test_a_matrix_of_all_genes_is_a_table_of_genes(hospital, first):
    genes = ["Sample", "ESR1", "ERBB2", "PGR", "BRCA1", *(f"GENE{i}" for i in range(15_000))]
    values = np.random.default_rng(0).normal(8, 1, (40, len(genes) - 1)).round(3)
    hospital.write([genes, *([f"secret-{i:03d}", *row] for i, row in enumerate(values.tolist()))], "rna.csv")
    made, text = first(hospital.data)
    assert set(made.modalities["genomic"].features) >= {"ESR1", "PGR", "BRCA1"}
    assert made.modalities["genomic"].table == "rna"
    assert "and 14885 more" in text
    assert "secret" not in text


def test_a_workbook_with_decimal_commas_in_texts_is_offered_and_read(hospital, first):
    import openpyxl

    book = openpyxl.Workbook()
    book.active.append(["PatientID", "Tumor size (mm)", "Age"])
    for index in range(40):
        size = 8.5 + 1.3 * index
        book.active.append([f"P{index:03d}", f"{size:.1f}".replace(".", ",") if index % 4 else size, 40.5 + index])
    (hospital.data / "clinical.csv").unlink()
    book.save(hospital.data / "sizes.xlsx")
    made, _ = first(hospital.data)
    assert made.tables["sizes"].decimal == ","
    checked = readiness(made, None, None)
    assert [problem for problem in checked.problems if problem.severity == "error"] == []
    assert {"size_mm", "age_years"} <= {count.feature for count in checked.features if not count.missing}


def test_one_column_is_one_column(hospital):
    rows = [["PatientID", "Age", "Note"], *([f"P{index:03d}", 40 + index, "x"] for index in range(30))]
    hospital.write(rows)
    summary = " ".join(write_first_config(hospital.data, hospital.folder / "made.yaml"))
    assert "not used: 1 column;" in summary
