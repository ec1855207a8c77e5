"""No patient moves the sum of a private step by more than the clipping norm: as shipped, at every setting.

A hospital's round is run by the code that hospitals run, with and without each patient of a small cohort; both take the
same steps, so that each step's sums differ by what that patient does to them, and by that alone.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.training.dp import dropout
from client.training.dp.grad_sample_modes import GRAD_SAMPLE_MODES
from shared_models.study_settings import StudySettings, parse_study_settings
from shared_models.task import load_task, task_names

STUDIES = sorted((Path(__file__).parents[4] / "studies").glob("*.toml"))
SMALL = {
    "recurrence_mri": "mri: 8x8x8 at 4x4x4 mm",
    "receptors_dce_mri": "dce_mri: 8x16x16 at 4x4x4 mm",
    "receptors_brain_metastasis": "brain_mri: 8x8x8 at 4x4x4 mm",
}
QUICK = ["recurrence_clinical", "recurrence_mri", "relapse_mammogram"]
MOST = 1.0 + 1e-6


def study(path):
    return parse_study_settings({**tomllib.loads(path.read_text(encoding="utf-8")), "privacy": "patient"})


def smaller(config):
    """The study with images of few voxels, where it has any."""
    image = SMALL.get(config.task, "").partition(":")[0]
    chosen = image in (config.chosen_modalities or load_task(config).modalities)
    return config.model_copy(update={"grids": SMALL[config.task] if chosen else ""})


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_of_ours_with_privacy_switched_on(rounds, path):
    ratios = rounds.worst(smaller(study(path)), patients=4)
    assert 0.1 < max(ratios) <= MOST


@pytest.mark.slow
@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_of_ours_at_its_own_voxels_and_below_its_cohort(rounds, path):
    config = study(path).model_copy(update={"batch_size": 3})
    assert 0.1 < max(rounds.worst(config, patients=6)) <= MOST


@pytest.mark.parametrize("name", task_names())
def test_every_task_at_its_defaults_with_batches_below_the_cohort(rounds, name):
    config = StudySettings(task=name, privacy="patient", grids=SMALL.get(name, ""), batch_size=3, local_epochs=2)
    assert 0.1 < max(rounds.worst(config, patients=4)) <= MOST


@pytest.mark.slow
@pytest.mark.parametrize("name", task_names())
def test_every_task_at_settings_that_moved_it_most(rounds, name):
    config = StudySettings(
        task=name,
        privacy="patient",
        grids=SMALL.get(name, ""),
        batch_size=3,
        hidden_units=16,
        modality_dropout=0.9,
        class_weights="balanced",
        strategy="fedprox",
        clip_norm=0.1,
    )
    assert 0.1 < max(rounds.worst(config, patients=6)) <= MOST


# Any setting that may stand beside privacy and that a round at a site depends on.
DRAWN = {
    "task": st.sampled_from(task_names()),
    "outcome": st.sampled_from(["time-to-event", "binary"]),
    "fusion": st.sampled_from(["task", "concatenation", "late"]),
    "hidden_units": st.sampled_from([0, 8]),
    "wide": st.booleans(),
    "augmentation": st.sampled_from(["none", "standard"]),
    "modality_dropout": st.sampled_from([0.0, 0.2, 0.9]),
    "class_weights": st.sampled_from(["none", "balanced"]),
    "strategy": st.sampled_from(["fedavg", "fedprox"]),
    "proximal_mu": st.sampled_from([0.01, 10.0]),
    "optimizer": st.sampled_from(["adamw", "sgd"]),
    "learning_rate": st.sampled_from([0.001, 1.0]),
    "weight_decay": st.sampled_from([0.0, 0.1]),
    "local_epochs": st.integers(1, 3),
    "batch_size": st.integers(1, 6),
    "clip_norm": st.sampled_from([0.01, 1.0, 30.0]),
    "patient_gradients": st.sampled_from(GRAD_SAMPLE_MODES),
    "seed": st.integers(0, 1000),
}
# What a round at a site does not depend on, or only by the task that it makes.
ELSEWHERE = {
    *("study", "features", "modalities", "targets", "grids", "time_edges_days", "horizon_days", "threshold"),
    "subgroups",
    *("report", "sites", "evaluation_only_sites", "min_sites", "rounds", "server_learning_rate"),
    *("server_momentum", "server_tau"),
    "require_sites",
    "auto_resume",
    *("canary", "validates", "validates_sha256"),  # how much of a study is asked, or that nothing is trained
    *("compares", "compares_sha256", "compares_settings"),  # which train nothing
    *("personal", "personal_epochs", "personal_pull"),  # refused
    "wire",  # rounding, after the noise
    *("privacy", "noise_multiplier", "target_epsilon", "secure_aggregation"),
    *(
        "optimizer_state",
        "field_of_view",
        "wide_learning_rate_factor",
        "clip_gradients",
        "patience",
    ),  # after the noise, or without it alone
    *("clip_updates", "hostile_sites", "learning_rate_schedule", "warmup_rounds"),
    *("colluders", "survivor_sets", "update_bound", "patients_bound"),
    *("oversampling", "normalisation", "harmonisation", "harmonised"),  # refused, or done to the cohort before
    *("initial_weights", "initial_weights_file", "initial_weights_format", "initial_weights_sha256"),
    *("initial_weights_share", "tile_network", "tile_weights_sha256"),
    *("backbone", "trained"),  # by themselves, below
    *("split", "split_seed", "folds", "repeats", "leave_out", "validation_fraction", "test_fraction"),
    "importance",  # of test patients
    *("join_timeout_s", "round_timeout_s", "round_attempts", "resume", "overwrite", "results_dir", "tracking"),
}
without_a_deadline = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


def of_any_setting(rounds, combination):
    config = StudySettings(privacy="patient", grids=SMALL.get(combination["task"], ""), **combination)
    assert max(rounds.worst(config, patients=4, seed=config.seed)) <= MOST


def test_in_a_network_that_has_diverged_rounding_moves_the_sum_no_further(rounds):
    """Found by the three hundred settings: there 32 bits leave three digits of the others' gradients."""
    values = {"modality_dropout": 0.0, "weight_decay": 0.0, "batch_size": 2, "clip_norm": 0.01}
    diverging = {"learning_rate": 1.0, "local_epochs": 2, "outcome": "time-to-event"}
    config = StudySettings(task="subtype_histology", privacy="patient", **values, **diverging)
    assert max(rounds.worst(config, patients=4)) <= MOST


@settings(max_examples=15, derandomize=True, **without_a_deadline)
@given(st.fixed_dictionaries({**DRAWN, "task": st.sampled_from(QUICK)}))
def test_settings_that_may_stand_beside_privacy(rounds, combination):
    of_any_setting(rounds, combination)


@pytest.mark.slow
@settings(max_examples=300, **without_a_deadline)
@given(st.fixed_dictionaries(DRAWN))
def test_three_hundred_settings_that_may_stand_beside_privacy(rounds, combination):
    of_any_setting(rounds, combination)


def test_a_new_setting_is_drawn_here_or_said_to_change_nothing():
    assert set(StudySettings.model_fields) <= set(DRAWN) | ELSEWHERE


@pytest.mark.parametrize("backbone", ["task", "resnet10"])
def test_a_network_whose_backbone_stays_as_it_is(rounds, backbone):
    """A published one has BatchNorm, and is shown all of a patient's images one after the other."""
    config = StudySettings(
        task="recurrence_mri",
        privacy="patient",
        grids=SMALL["recurrence_mri"],
        batch_size=3,
        backbone=backbone,
        trained="heads",
        augmentation="standard",
    )
    assert 0.1 < max(rounds.worst(config, patients=4)) <= MOST


def absurd(patients):
    """One patient with values that no number holds, one with enormous ones."""
    for values in patients.inputs.values():
        values[patients.first[1]] = np.inf
        values[patients.first[2] : patients.first[3]] = 1e30


@pytest.mark.parametrize(
    ("name", "way"),
    [*((name, "auto") for name in task_names()), *((name, way) for name in QUICK for way in GRAD_SAMPLE_MODES[1:])],
)
def test_a_patient_whose_gradient_is_no_number_moves_it_no_further_and_leaves_no_trace(rounds, name, way):
    """nan times 0 is nan: seen in the reply, it would tell that she is there, whatever the noise."""
    config = StudySettings(
        task=name, privacy="patient", grids=SMALL.get(name, ""), batch_size=9, patient_gradients=way, hidden_units=4
    )
    ratios = rounds.worst(config, patients=4, spoil=absurd)
    assert np.isfinite(ratios).all()
    assert max(ratios) <= MOST


@pytest.mark.parametrize("name", QUICK)
def test_masks_by_the_place_in_the_batch_would_be_found(rounds, name, monkeypatch):
    """What was shipped once: dropout of one stream for all, which one patient more turns round for all others."""

    def by_place(self, values):
        mask = torch.rand(values.shape, generator=torch.Generator().manual_seed(3)) >= self.drop_prob
        return values * mask / (1 - self.drop_prob)

    monkeypatch.setattr(dropout.PatientDropout, "forward", by_place)
    config = StudySettings(task=name, privacy="patient", grids=SMALL.get(name, ""), hidden_units=16, clip_norm=0.01)
    assert max(rounds.worst(config, patients=6)) > 1.1
