import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_models.schedules import at_round, learning_rate
from shared_models.settings import SettingsError
from shared_models.study_settings import StudySettings, parse_study_settings

SCHEDULES = ("constant", "cosine", "step")


def rates(schedule: str, rounds: int, warmup: int = 0) -> list[float]:
    config = StudySettings(
        learning_rate=0.1,
        rounds=rounds,
        learning_rate_schedule=schedule,
        warmup_rounds=warmup,  # type: ignore[arg-type]
    )
    return [learning_rate(config, number) for number in range(1, rounds + 1)]


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("constant", 0, [0.1, 0.1, 0.1, 0.1]),
        ("cosine", 0, [0.1, 0.1 * 0.8535533905932737, 0.05, 0.1 * 0.1464466094067262]),
        ("step", 0, [0.1, 0.1, 0.01, 0.001]),
        ("constant", 1, [0.05, 0.1, 0.1, 0.1]),
        ("step", 2, [0.1 / 3, 0.2 / 3, 0.1, 0.01]),
    ],
)
def test_a_schedule_gives_these_very_rates(schedule: str, warmup: int, expected: list[float]) -> None:
    assert rates(schedule, 4, warmup) == pytest.approx(expected, rel=1e-12)


@given(st.sampled_from(SCHEDULES), st.integers(1, 60), st.data())
def test_a_rate_rises_in_the_warm_up_and_never_after_it_and_is_never_zero(
    schedule: str, rounds: int, data: st.DataObject
) -> None:
    warmup = data.draw(st.integers(0, rounds - 1))
    by_round = rates(schedule, rounds, warmup)
    assert all(0 < rate <= 0.1 for rate in by_round)
    assert by_round[: warmup + 1] == sorted(by_round[: warmup + 1])
    assert by_round[warmup:] == sorted(by_round[warmup:], reverse=True)
    assert by_round[warmup] == 0.1


def test_all_other_settings_stay_as_they_are_in_every_round() -> None:
    config = StudySettings(rounds=9, learning_rate_schedule="cosine")
    assert at_round(config, 5).model_dump(exclude={"learning_rate"}) == config.model_dump(exclude={"learning_rate"})
    assert at_round(config, 1) == config


def test_a_warm_up_that_never_ends_is_refused() -> None:
    assert parse_study_settings({"rounds": 3, "warmup-rounds": 2}).warmup_rounds == 2
    with pytest.raises(SettingsError, match="warmup_rounds: expected fewer than rounds = 3"):
        parse_study_settings({"rounds": 3, "warmup-rounds": 3})
