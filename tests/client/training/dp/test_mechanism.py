"""Accounting of private training: which noise, and what is refused before anything is charged."""

from __future__ import annotations

import pytest

from client.config.policy import Limit, Policy
from client.errors import SiteError
from client.governance.ledger import epsilon
from client.training.dp.mechanism import mechanism
from shared_models.settings import SettingsError
from shared_models.study_settings import StudySettings, parse_study_settings

SGD = StudySettings(optimizer="sgd", learning_rate=1.0, weight_decay=0.0, modality_dropout=0.0, privacy="patient")


def test_a_target_epsilon_gives_the_least_noise_that_keeps_below_it():
    policy = Policy(delta=1e-3)
    config = SGD.model_copy(update={"target_epsilon": 3.0, "rounds": 10, "local_epochs": 2, "batch_size": 16})
    asked = mechanism(config, 100, policy)
    assert asked.steps * asked.passes * config.rounds == 120
    spent = epsilon([(asked.noise_multiplier, asked.sample_rate, 120)], Limit(8.0, 1e-3))
    assert 2.9 < spent <= 3.0
    assert mechanism(config, 999, policy).noise_multiplier < asked.noise_multiplier


def test_a_target_never_leads_below_the_sites_least_noise():
    config = SGD.model_copy(update={"target_epsilon": 1000.0, "rounds": 1})
    assert mechanism(config, 100, Policy(minimum_noise=0.8)).noise_multiplier == 0.8


def test_an_epsilon_that_no_noise_reaches_is_refused():
    config = SGD.model_copy(update={"target_epsilon": 1e-9, "rounds": 10_000})
    with pytest.raises(SiteError, match="no noise reaches"):
        mechanism(config, 10, Policy(delta=1e-8))


@pytest.mark.parametrize("mixing", [{"oversampling": "smotenc"}, {"normalisation": "local"}])
def test_what_mixes_patients_is_refused_with_privacy(mixing):
    with pytest.raises(SettingsError, match="privacy"):
        parse_study_settings({"task": "relapse_mammogram", "privacy": "patient", **mixing})


@pytest.mark.parametrize(("patients", "delta"), [(100, 0.01), (1000, 1e-3), (10_000, 1e-4)])
def test_a_delta_at_which_a_whole_record_might_leave_is_refused(patients, delta):
    with pytest.raises(SiteError, match="delta is not below") as caught:
        mechanism(SGD, patients, Policy(delta=delta))
    assert caught.value.public == "the site's delta is too large for the number of its training patients"
    mechanism(SGD, patients - 1, Policy(delta=delta))
