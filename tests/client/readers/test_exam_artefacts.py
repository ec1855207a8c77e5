"""An exam is read and preprocessed once for the volume and all the features that a study needs of it."""

import dataclasses
import os
import re

import numpy as np
import pytest

from client.checks.counts import readiness
from client.cohort.load import load_cohort
from client.config.site import load_site
from client.imaging import preprocessing
from shared_models.features import parse_features
from shared_models.targets import TimeToEvent
from shared_models.task import Table, Task, Volume

SHAPE, PATIENTS = (12, 14, 16), 3
MRI = Volume((4, 6, 8, 8), (2.0, 2.0, 2.0), tumour=True)
KINETICS, TEXTURE = "PE1_mean_tumor", "original_firstorder_Mean"
# A process that starts with this counts its calls in a file, whoever calls.
COUNTS = """
import client.imaging.preprocessing as counted

def counting(name):
    really = getattr(counted, name)
    def call(*given):
        with open({file!r}, "a") as lines:
            lines.write(name + "\\n")
        return really(*given)
    setattr(counted, name, call)

for name in ("preprocess", "_log_bias_field", "_motion"):
    counting(name)
"""


@pytest.fixture
def workers():
    return 1


@pytest.fixture
def oak(hospital, volume_file, workers):
    """Patients with three phases and a mask, whose exams are preprocessed."""
    hospital.settings["workers"] = workers
    hospital.settings["modalities"] = {
        "mri": {
            "reader": "image_files",
            "phases": [f"mri/{{patient}}/phase{phase}.nii.gz" for phase in range(3)],
            "mask": "mri/{patient}/mask.nii.gz",
            "preprocessing": {"n4": True, "registration": "rigid"},
        },
        "radiomics": {"reader": "extracted", "images": "mri"},
    }
    ball = sum((at / size - 0.5) ** 2 for at, size in zip(np.indices(SHAPE), SHAPE, strict=True)) < 0.12
    for number in range(PATIENTS):
        folder = hospital.data / f"mri/secret-00{number}"
        breast = 20 + 80 * ball + np.random.default_rng(number).normal(0, 2, SHAPE)
        for phase, factor in enumerate((1, 1.8, 1.6)):
            volume_file(folder / f"phase{phase}.nii.gz", breast * factor, spacing=(2, 2, 2))
        volume_file(folder / "mask.nii.gz", ball, spacing=(2, 2, 2))
    return hospital


@pytest.fixture
def calls(oak, workers, tmp_path, monkeypatch):
    """How often each step was called since it was asked last, in this process and in those that it starts."""
    file = tmp_path / "calls.txt"
    script = COUNTS.format(file=str(file))
    for name in ("preprocess", "_log_bias_field", "_motion"):
        monkeypatch.setattr(preprocessing, name, getattr(preprocessing, name))  # so that it is put back
    if workers == 1:
        exec(script, {})
    else:
        (tmp_path / "start").mkdir()
        (tmp_path / "start/sitecustomize.py").write_text(script)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "start"), os.environ.get("PYTHONPATH", "")]))

    def since():
        content = file.read_text().split() if file.exists() else []
        file.unlink(missing_ok=True)
        return {name: content.count(name) for name in ("preprocess", "_log_bias_field", "_motion")}

    return since


def study(features, *more):
    tables = {name: Table(features_of) for name, features_of in parse_features("; ".join(features)).items()}
    return Task(tables | dict(more), {"recurrence": TimeToEvent()}, build_model=None)


ALL = study([f"radiomics: {KINETICS}, {TEXTURE}"], ("mri", MRI))
ONCE = {"preprocess": PATIENTS, "_log_bias_field": PATIENTS, "_motion": 2 * PATIENTS}
NEVER = dict.fromkeys(ONCE, 0)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_exam_is_preprocessed_once_for_its_volume_and_two_extractors(oak, config, calls):
    cohort = load_cohort(oak.site(), ALL, config)
    assert calls() == ONCE
    assert cohort.present[:PATIENTS].all()
    assert cohort.inputs["mri"][:PATIENTS].any(axis=(1, 2, 3, 4)).all()
    assert np.isfinite(cohort.inputs["radiomics"][:PATIENTS]).all()
    load_cohort(oak.site(), ALL, config)
    oak.settings["targets"]["again"] = oak.settings["targets"]["recurrence"]
    load_cohort(oak.site(), ALL, config)
    assert calls() == NEVER


def test_so_it_is_for_two_modalities_of_features_and_in_a_check(oak, config, calls):
    oak.settings["modalities"]["kinetics"] = {"reader": "extracted", "images": "mri"}
    task = study([f"radiomics: {TEXTURE}", f"kinetics: {KINETICS}"])
    assert readiness(oak.site(), config, task).modalities == {"radiomics": PATIENTS, "kinetics": PATIENTS}
    assert calls() == ONCE
    readiness(oak.site(), None, None)
    assert calls() == {"preprocess": PATIENTS, "_log_bias_field": 0, "_motion": 0}, "another volume, to look at"


def test_another_extractor_estimates_nothing_anew(oak, config, calls):
    first = load_cohort(oak.site(), study([f"radiomics: {KINETICS}"], ("mri", MRI)), config).inputs
    assert calls() == ONCE
    both = load_cohort(oak.site(), ALL, config).inputs
    assert calls() == {"preprocess": PATIENTS, "_log_bias_field": 0, "_motion": 0}
    np.testing.assert_array_equal(both["mri"][:], first["mri"][:])
    oak.settings["state_dir"] = "elsewhere"
    anew = load_cohort(oak.site(), ALL, config).inputs
    np.testing.assert_array_equal(anew["radiomics"], both["radiomics"])
    assert calls() == ONCE


def test_what_was_estimated_of_other_files_is_not_used(oak, config, calls, volume_file):
    load_cohort(oak.site(), ALL, config)
    calls()
    volume_file(oak.data / "mri/secret-001/phase0.nii.gz", np.random.default_rng(9).normal(100, 20, SHAPE), (2, 2, 2))
    load_cohort(oak.site(), ALL, config)
    assert calls() == {"preprocess": 1, "_log_bias_field": 1, "_motion": 2}
    oak.settings["modalities"]["mri"]["preprocessing"] = {"n4": True}
    load_cohort(oak.site(), ALL, config)
    assert calls() == {"preprocess": PATIENTS, "_log_bias_field": PATIENTS, "_motion": 0}


def test_a_tensor_is_on_the_disk_once(oak, config, calls):
    task = dataclasses.replace(ALL, modalities={"mri": Volume((3, 24, 48, 48), (1.0, 0.5, 0.5))})
    site = oak.site()
    tensor_bytes = load_cohort(site, task, config).inputs["mri"][:PATIENTS].nbytes
    on_disk = sum(512 * path.stat().st_blocks for path in site.state_dir.rglob("*") if path.is_file())
    assert tensor_bytes < on_disk < 1.2 * tensor_bytes
    hidden = re.compile(r"\.draft")
    assert not [path for path in site.state_dir.rglob("*") if hidden.match(path.name)]


def test_lesions_that_share_an_exam_read_it_once(oak, config, calls):
    oak.write([["id", "lesion"], *[[f"secret-00{n}", side] for n in range(PATIENTS) for side in "LR"]], "lesions.csv")
    oak.settings["tables"]["lesions"] = {"file": "lesions.csv", "patient_id": "id"}
    oak.settings["instances"] = {"table": "lesions", "column": "lesion"}
    cohort = load_cohort(load_site(oak.site() and oak.folder / "oak.yaml"), ALL, config)
    assert calls() == ONCE
    assert cohort.present[: 2 * PATIENTS].all()
    np.testing.assert_array_equal(cohort.inputs["mri"][0], cohort.inputs["mri"][1])
