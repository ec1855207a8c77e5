"""Phantoms as files: hospitals of every task are read through their YAML, with the label that was drawn."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import SimpleITK as sitk

from client.config.site import load_site
from shared_models.settings import SettingsError
from simulation.__main__ import main
from simulation.phantoms.anatomy import BILATERAL, draw_grid
from simulation.phantoms.cohort import KINDS, phantom_writer


@pytest.mark.parametrize("task", KINDS)
def test_the_files_of_every_tasks_phantom_are_found_through_their_settings(tmp_path, task):
    files = phantom_writer(task, [KINDS[task][0], "sites=2", "patients=2"])(tmp_path)
    assert [file.stem for file in files] == ["site_1", "site_2", "external"]
    for file in files:
        site = load_site(file)
        assert site.role == ("evaluate" if file.stem == "external" else "train")
        assert all(path.is_file() for reader in site.modalities.values() for path in reader.files(site))


def test_the_tumour_in_an_exams_file_is_where_its_mask_is_and_brighter_after_the_contrast_agent(tmp_path):
    phantom_writer("recurrence_mri", ["kinetics", "sites=1", "patients=3"])(tmp_path)
    with (tmp_path / "truth.csv").open() as file:
        truth = {row["patient_id"]: row for row in csv.DictReader(file)}
    for mask_file in tmp_path.glob("*/mri/*/mask.nii.gz"):
        mask = sitk.GetArrayFromImage(sitk.ReadImage(mask_file)) > 0
        before, first, _, last = (
            sitk.GetArrayFromImage(sitk.ReadImage(mask_file.parent / f"phase{number}.nii.gz")).astype(float)
            for number in range(4)
        )
        assert first[mask].mean() > 1.3 * before[mask].mean()
        assert first[mask].mean() > 1.3 * first[~mask].mean()
        assert (first[mask].mean() > last[mask].mean()) == bool(int(truth[mask_file.parent.name]["recurrence"]))


def test_a_bilateral_exam_has_the_size_of_a_real_one():
    shape, spacing_mm = draw_grid(np.random.default_rng(0), BILATERAL)
    assert 60 <= shape[0] <= 160
    assert min(shape[1:]) >= 256
    assert max(spacing_mm[1:]) < 1 <= spacing_mm[0]


@pytest.mark.parametrize("words", [["textur"], ["texture", "patients=0"], ["texture", "side=left"]])
def test_a_phantom_that_there_is_not_is_refused_with_what_there_is(words):
    with pytest.raises(SettingsError, match=r"texture|patients|side"):
        phantom_writer("receptors_dce_mri", words)


@pytest.mark.slow
def test_a_study_runs_on_a_phantom(tmp_path, capsys):
    words = ["--phantom", "interaction", "patients=30", "sites=3", "--synthetic", str(tmp_path / "cohort")]
    settings = ["study=phantom", "rounds=1", f"results-dir={tmp_path / 'runs'}"]
    assert main([*words, "--task", "relapse_mammogram", "--set", *settings]) == 0
    assert "external" in capsys.readouterr().out
