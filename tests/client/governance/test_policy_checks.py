import pytest

from client.config.policy import Policy
from client.governance.policy_checks import refusals
from shared_models.study_settings import StudySettings
from shared_models.task import load_task


@pytest.mark.parametrize(("rounds", "refused"), [(19, []), (20, []), (21, ["21 rounds, at most 20"])])
def test_a_study_may_have_as_many_rounds_as_the_policy_says_and_not_one_more(rounds: int, refused: list[str]) -> None:
    config = StudySettings(rounds=rounds)
    assert refusals(Policy(maximum_rounds=20), config, load_task(config)) == refused


@pytest.mark.parametrize(("noise", "refused"), [(1.0, []), (0.9, ["a noise multiplier of 0.9, at least 1"])])
def test_the_least_noise_itself_is_enough(noise: float, refused: list[str]) -> None:
    config = StudySettings(privacy="patient", noise_multiplier=noise)
    assert refusals(Policy(minimum_noise=1.0), config, load_task(config)) == refused
