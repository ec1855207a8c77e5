import math
import re

import numpy as np
import openpyxl
import pandas as pd
import pytest
import SimpleITK as sitk
import yaml
from scipy.special import expit

from client.cohort.load import load_cohort
from client.config.site import load_site
from shared_models.study_settings import parse_study_settings
from shared_models.task import load_task
from simulation.cohorts.breast_mri.cohort import SITES, write_cohort
from simulation.cohorts.breast_mri.kinetics import FEATURES, measure
from simulation.cohorts.ceiling import expected_auc
from simulation.cohorts.phantom import BREAST, Exam, Scanner

SCALE = 0.1
TABLES_SCALE = 0.35
MEASURED = "Volume_cu_mm_Tumor:log, PE1_mean_tumor, PE1_std_dev_tumor, SER_map_mean_tumor"
CLINICAL = "age_years, size_mm:log, nodes{negative|positive}, er{negative|positive}, pr{negative|positive}"


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, scale=SCALE)
    return folder


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    write_cohort(folder, scale=TABLES_SCALE, images=False)
    return folder


def site_of(folder, name):
    return load_site(folder / name / f"{name}.yaml")


def clinical(folder, name):
    values = yaml.safe_load((folder / name / f"{name}.yaml").read_text())["tables"]["clinical"]
    path = folder / name / values["file"]
    if path.suffix == ".xlsx":
        return pd.read_excel(path)
    return pd.read_csv(path, sep=values.get("separator", ","), decimal=values.get("decimal", "."))


def test_the_five_hospitals_have_the_patients_of_the_design():
    assert {site.name: site.patients for site in SITES} == {"A": 120, "B": 80, "C": 60, "D": 40, "E": 80}
    assert [site.name for site in SITES if site.role == "evaluate"] == ["E"]
    scanners = {site.name: site.scanner for site in SITES}
    assert scanners["B"] == Scanner(gain=2.5, bias=0.25)
    assert scanners["C"] == Scanner(blur_mm=1.2, noise=0.06)
    assert scanners["D"] == Scanner(delay_s=60)
    assert SITES[3].her2_factor == 2


def test_every_hospital_is_accepted_by_the_client(cohort):
    for spec in SITES:
        site = site_of(cohort, spec.name)
        assert site.role == spec.role
        assert site.data_root == (cohort / spec.name).resolve()
        assert site.state_dir.is_relative_to(cohort.resolve())
        assert ("genomic" in site.modalities) == (spec.name != "C")
        assert site.modalities["dce_mri"].phases == site.modalities["mri"].phases
        assert site.modalities["dce_mri"].mask
        assert set(site.targets) == {"recurrence", "er", "pr", "her2", "ki67_percent"}
        assert len(clinical(cohort, spec.name)) == round(SCALE * spec.patients)


def test_a_hospital_has_an_exam_for_each_row_of_radiomics_and_some_of_a_have_none(cohort):
    lacking = {}
    for spec in SITES:
        radiomics = pd.read_csv(cohort / spec.name / "radiomics.csv", sep=spec.dialect.separator, dtype=str)
        exams = {path.name for path in (cohort / spec.name / "mri").iterdir()}
        assert set(radiomics.iloc[:, 0]) == exams
        assert list(radiomics.columns[1:]) == list(FEATURES)
        lacking[spec.name] = len(clinical(cohort, spec.name)) - len(exams)
    assert lacking == {"A": 1, "B": 0, "C": 0, "D": 0, "E": 0}


def test_volumes_have_the_geometry_of_the_phantom_and_the_features_of_the_table(cohort):
    table = pd.read_csv(cohort / "A" / "radiomics.csv").iloc[0]
    folder = cohort / "A" / "mri" / table["PatientID"]
    images = [sitk.ReadImage(folder / f"{name}.nii.gz") for name in ("phase0", "phase1", "phase2", "phase3", "mask")]
    assert all(image.GetSize() == (64, 64, 32) and image.GetSpacing() == (1, 1, 2) for image in images)
    *phases, mask = (sitk.GetArrayFromImage(image) for image in images)
    again = measure(Exam(np.stack(phases), mask == 1, BREAST.seconds))
    for name in FEATURES:
        assert again[name] == pytest.approx(table[name], rel=1e-5, nan_ok=True), name


def test_equal_seeds_give_equal_bytes_in_any_number_of_processes_and_beside_any_hospital(tmp_path, digests):
    write_cohort(tmp_path / "one", scale=0.02, seed=3)
    write_cohort(tmp_path / "two", scale=0.02, seed=3, workers=2)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    write_cohort(tmp_path / "alone", sites=SITES[3:4], scale=0.02, seed=3)
    assert digests(tmp_path / "alone" / "D") == digests(tmp_path / "one" / "D")
    write_cohort(tmp_path / "other", sites=SITES[3:4], scale=0.02, seed=4)
    assert digests(tmp_path / "other" / "D") != digests(tmp_path / "one" / "D")


def test_a_larger_cohort_starts_with_the_smaller_and_needs_no_images_for_its_tables(cohort, tables):
    for name in "ABCDE":
        small = clinical(cohort, name)
        pd.testing.assert_frame_equal(small, clinical(tables, name).iloc[: len(small)], check_dtype=False)
    assert not list(tables.rglob("*.nii.gz"))
    assert "mri" not in site_of(tables, "A").modalities


def test_no_clock_stands_in_a_workbook(cohort):
    book = openpyxl.load_workbook(cohort / "E" / "clinical.xlsx")
    assert book.properties.created.year == book.properties.modified.year == 2020


def test_truth_lies_beside_the_hospitals_and_identifiers_are_their_own(cohort):
    truth = pd.read_csv(cohort / "truth.csv", dtype={"patient_id": str})
    assert not list(cohort.glob("*/truth*"))
    assert truth["patient_id"].is_unique
    patterns = {"A": r"MUH-\d{6}", "B": r"K\d{6}", "C": r"7\d{6}", "D": r"D19-\d{6}", "E": r"EX_\d{6}"}
    for site, identifier in zip(truth["site"], truth["patient_id"], strict=True):
        assert re.fullmatch(patterns[site], identifier)


def test_outcomes_fit_their_days(tables):
    table = clinical(tables, "A")
    recurred = table["Recurrence"] == "yes"
    assert table.loc[recurred, "DaysToRecurrence"].between(31, 1826).all()
    assert table.loc[~recurred, "DaysToRecurrence"].isna().all()
    assert (table["DaysToLastContact"] > 1826.25).all()


def test_losing_patients_hides_some_recurrences_and_no_truth(tmp_path, tables):
    write_cohort(tmp_path, sites=SITES[:1], scale=0.25, images=False, censored=0.6)
    table = clinical(tmp_path, "A")
    assert 0.4 < (table["DaysToLastContact"] < 1826).mean() < 0.8
    whole = clinical(tables, "A").iloc[: len(table)]
    assert (table["Recurrence"] == "yes").sum() <= (whole["Recurrence"] == "yes").sum()
    truth = pd.read_csv(tmp_path / "truth.csv")
    assert (truth["recurrence"].to_numpy() == (whole["Recurrence"] == "yes").to_numpy()).all()


def test_about_three_cells_in_a_hundred_are_missing(tables):
    columns = ["Age", "TumorSizeMM", "Nodes", "ER", "PR", "HER2", "Ki67"]
    texts = pd.read_csv(tables / "A" / "clinical.csv", dtype=str, keep_default_na=False)[columns]
    assert 0.005 < texts.isin(["", "NA"]).to_numpy().mean() < 0.07
    assert {"", "NA"} <= set(texts.to_numpy().ravel())


def test_a_second_cohort_does_not_overwrite_the_first(cohort):
    with pytest.raises(FileExistsError, match="already"):
        write_cohort(cohort, scale=SCALE)


def test_progress_counts_patients(tmp_path):
    seen = []
    sites = SITES[2:4]
    write_cohort(
        tmp_path, sites=sites, scale=0.02, images=False, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(1, 2), (2, 2)]


def read(folder):
    """Inputs `(N, C)` as the hospitals' own clients read them, with missing flags, and outcome `(N,)` of A to E."""
    features = f"clinical: {CLINICAL}; genomic: HER2, BRCA1, ESR1, PGR; radiomics: {MEASURED}"
    config = parse_study_settings({"task": "recurrence_mri", "features": features, "outcome": "binary"}, "test")
    cohorts = [load_cohort(site_of(folder, name), load_task(config), config, store_split=False) for name in "ABCDE"]
    names = ("clinical", "genomic", "radiomics")
    values = np.concatenate([np.hstack([np.asarray(one.inputs[name]) for name in names]) for one in cohorts])
    patients = [patient for one in cohorts for patient in one.patients]
    outcome = np.concatenate([one.truths["recurrence"] for one in cohorts])
    truth = pd.read_csv(folder / "truth.csv", dtype={"patient_id": str}).set_index("patient_id").loc[patients]
    np.testing.assert_array_equal(truth["recurrence"], outcome)
    return values, outcome.astype(int), expit(truth["logit"].to_numpy())


def test_hospitals_agree_in_the_studys_units(tables):
    values, _, _ = read(tables)
    sites = np.repeat(np.arange(5), [round(site.patients * TABLES_SCALE) for site in SITES])
    for column, low, high in ((0, 48, 66), (1, math.log(11), math.log(26))):
        medians = [np.nanmedian(values[sites == site, column]) for site in range(5)]
        assert low < min(medians) < max(medians) < high


def test_tables_and_features_predict_no_better_than_the_ceiling(tables, held_out):
    values, outcome, risk = read(tables)
    auc, error = held_out(values, outcome)
    assert auc < expected_auc(risk, risk) + 3 * error
    assert auc > 0.5


def test_permuted_labels_predict_nothing(tables, held_out):
    values, outcome, _ = read(tables)
    rng = np.random.default_rng(0)
    aucs = [held_out(values, rng.permutation(outcome))[0] for _ in range(20)]
    assert np.mean(aucs) == pytest.approx(0.5, abs=3 * np.std(aucs, ddof=1) / math.sqrt(20))


@pytest.mark.slow
def test_a_larger_cohort_comes_near_its_ceiling(tmp_path, held_out):
    write_cohort(tmp_path, scale=3, images=False, workers=2)
    values, outcome, risk = read(tmp_path)
    auc, error = held_out(values, outcome)
    ceiling = expected_auc(risk, risk)
    assert ceiling - 0.05 - 2 * error < auc < ceiling + 3 * error
