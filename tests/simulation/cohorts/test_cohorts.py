"""Each task's cohort as the hospitals' own clients read it, and what can be learned from it."""

import json

import numpy as np
import pytest
from rich.console import Console

from client.cohort.load import load_cohort
from client.config.site import load_site
from server.operations.proxy import find_nginx
from shared_models.study_settings import parse_study_settings
from shared_models.task import load_task
from simulation.__main__ import main
from simulation.cohort_options import cohort_writer, synthetic_cohort
from simulation.cohorts.brain import ceiling as ceiling_brain
from simulation.cohorts.brain import cohort as brain_lesions
from simulation.cohorts.expression import ceiling as ceiling_expression
from simulation.cohorts.expression import cohort as expression
from simulation.cohorts.mammography import ceiling as ceiling_mammography
from simulation.cohorts.mammography import cohort as mammography
from simulation.cohorts.sites import SITES

SCALE = 0.03
GRIDS = {
    "receptors_dce_mri": "dce_mri: 12x24x24 at 4x4x4 mm",
    "subtype_histology": "tiles: 4x32x32 at 1x1x1 mm",
    "receptors_brain_metastasis": "brain_mri: 16x16x16 at 2x2x2 mm",
    "recurrence_mri": "mri: 8x16x16 at 8x4x4 mm",
}
MODALITIES = {
    "receptors_dce_mri": "dce_mri, radiomics",
    "subtype_histology": "tiles, expression",
    "relapse_mammogram": "mammography",
    "receptors_brain_metastasis": "brain_mri, radiomics, anatomical_position",
}


def read(folder, task, modalities, names="ABCDE"):
    image, _, _ = GRIDS.get(task, "").partition(":")
    grids = GRIDS[task] if image and image in modalities.split(", ") else ""
    settings = {"task": task, "modalities": modalities, "grids": grids, "outcome": "binary"}
    config = parse_study_settings(settings, "test")
    kinds = load_task(config)
    return [load_cohort(load_site(folder / name / f"{name}.yaml"), kinds, config, store_split=False) for name in names]


def by_patient(cohorts, values):
    """Means `(N, C)` over the rows of each patient of `values`, an `(R, C)` a cohort; missing ones left out."""
    return np.array(
        [
            np.nan_to_num(np.nansum(rows, axis=0) / np.maximum((~np.isnan(rows)).sum(axis=0), 1))
            for cohort, table in zip(cohorts, values, strict=True)
            for rows in np.split(table, np.asarray(cohort.first)[1 : len(cohort.patients)])
        ]
    )


def known(cohorts, target):
    truth = np.concatenate([cohort.truths[target] for cohort in cohorts])
    return truth, ~np.isnan(truth)


@pytest.mark.slow
@pytest.mark.parametrize("task", MODALITIES)
def test_every_hospital_is_read_by_its_client(tmp_path, task):
    cohort_writer(task)(tmp_path, scale=SCALE)
    cohorts = read(tmp_path, task, MODALITIES[task])
    assert [len(cohort.patients) for cohort in cohorts] == [max(round(SCALE * site.patients), 1) for site in SITES]
    for name in MODALITIES[task].split(", "):
        lacking = {"genomic": "C", "expression": "C", "tiles": "D"}.get(name)
        for site, cohort in zip(SITES, cohorts, strict=True):
            column = list(MODALITIES[task].split(", ")).index(name)
            assert np.asarray(cohort.present)[:, column].any() == (site.name != lacking), (site.name, name)


def test_the_task_picks_its_cohort():
    assert cohort_writer("subtype_histology") is expression.write_cohort
    assert cohort_writer("relapse_mammogram") is mammography.write_cohort
    assert cohort_writer("receptors_brain_metastasis") is brain_lesions.write_cohort
    assert len({cohort_writer(task) for task in ("recurrence_mri", "recurrence_clinical", "receptors_dce_mri")}) == 1


def test_a_cohort_is_written_once(tmp_path):
    mammography.write_cohort(tmp_path, scale=0.02)
    again = synthetic_cohort(tmp_path, "relapse_mammogram", Console(quiet=True))
    assert [path.stem for path in again] == list("ABCDE")


def test_relapse_is_predicted_no_better_than_its_ceiling(tmp_path, held_out):
    mammography.write_cohort(tmp_path)
    cohorts = read(tmp_path, "relapse_mammogram", "mammography")
    values = by_patient(cohorts, [np.asarray(cohort.inputs["mammography"]) for cohort in cohorts])
    truth, rows = known(cohorts, "relapse")
    auc, error = held_out(values[rows], truth[rows].astype(int), strength=1.0)
    assert 0.65 < auc < ceiling_mammography.relapse_auc(100_000).value + 3 * error


def test_subtype_is_predicted_from_genes_no_better_than_its_ceiling(tmp_path, held_out):
    expression.write_cohort(tmp_path, images=False)
    cohorts = read(tmp_path, "subtype_histology", "expression", "ABDE")
    values = np.concatenate([np.asarray(cohort.inputs["expression"]) for cohort in cohorts])
    truth, rows = known(cohorts, "basal_or_her2")
    auc, error = held_out(values[rows], truth[rows].astype(int), strength=0.01)
    assert 0.9 < auc < ceiling_expression.subtype_auc(("expression",), patients=50_000).value + 3 * error


@pytest.mark.slow
def test_receptors_are_predicted_from_radiomics_no_better_than_their_ceiling(tmp_path, held_out):
    brain_lesions.write_cohort(tmp_path, workers=2)
    cohorts = read(tmp_path, "receptors_brain_metastasis", "radiomics")
    tables = [np.asarray(cohort.inputs["radiomics"], dtype=float) for cohort in cohorts]
    logs = [np.sign(table) * np.log1p(np.abs(table)) for table in tables]
    scanners = [(table - table.mean(axis=0)) / np.maximum(table.std(axis=0), 1e-6) for table in logs]
    values = by_patient(cohorts, scanners)
    for name, ceiling in ceiling_brain.receptor_auc().items():
        truth, rows = known(cohorts, name)
        auc, error = held_out(values[rows], truth[rows].astype(int), strength=0.02)
        assert 0.6 < auc < ceiling.value + 3 * error, name


@pytest.mark.slow
def test_a_study_of_mammography_from_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--synthetic", "cohort", "--task", "relapse_mammogram", "--set", "rounds=2", "study=views"]
    assert main(words) == 0
    assert (tmp_path / "runs" / "views" / "results.json").exists()


def trains(tmp_path, task, *words):
    """Whether a round of the task over a small cohort ends well, from the command line."""
    files = cohort_writer(task)(tmp_path / "cohort", scale=0.1 if task == "relapse_mammogram" else 0.04)
    for file in files:  # a process to read a few images costs more than they do
        file.write_text(file.read_text() + "workers: 1\n")
    settings = ["rounds=1", "study=small", f"grids={GRIDS.get(task, '')}", f"modalities={MODALITIES.get(task, '')}"]
    settings += ["secure-aggregation=off"]  # of two or three patients a hospital, too few have a modality
    assert main(["--synthetic", "cohort", "--task", task, *words, "--set", *settings]) == 0
    results = json.loads(next((tmp_path / "runs").rglob("results.json")).read_text())  # a rehearsal's are its center's
    roles = {site["site"]: site["role"] for site in results["sites"]}
    assert roles == {**dict.fromkeys("ABCD", "train"), "E": "evaluate"}
    targets = load_task(parse_study_settings({"task": task})).targets
    assert set(results["targets"]) == set(targets)
    assert results["rounds"][0]["counted"] == list("ABCD")  # of so few patients no test figures leave


SLOW = ("subtype_histology", "recurrence_mri", "receptors_dce_mri")


@pytest.mark.parametrize(
    "task", [pytest.param(t, marks=[pytest.mark.slow] * (t in SLOW)) for t in [*MODALITIES, "recurrence_mri"]]
)
def test_a_study_of_every_task_from_the_command_line(tmp_path, monkeypatch, task):
    monkeypatch.chdir(tmp_path)
    trains(tmp_path, task)


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.skipif(find_nginx() is None, reason="nginx is not installed: apt-get install nginx-light")
@pytest.mark.parametrize("task", [*MODALITIES, "recurrence_mri"])
def test_a_study_of_every_task_through_a_real_superlink(tmp_path, monkeypatch, task):
    monkeypatch.chdir(tmp_path)
    trains(tmp_path, task, "--engine", "rehearsal")
