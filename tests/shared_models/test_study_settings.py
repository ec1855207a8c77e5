import tomllib
from pathlib import Path

import pytest

from shared_models.settings import SettingsError
from shared_models.study_settings import StudySettings, parse_study_settings
from shared_models.task import load_task


def test_pyproject_is_the_schema_that_flower_lets_a_study_override() -> None:
    pyproject = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert pyproject["tool"]["flwr"]["app"]["config"] == StudySettings().to_flat()


def test_flat_and_back_is_the_same() -> None:
    config = parse_study_settings({"study": "x", "strategy": "fedprox", "time-edges-days": "10, 20"})
    assert parse_study_settings(config.to_flat()) == config
    assert config.edges == (10.0, 20.0)


def test_mu_counts_only_under_fedprox() -> None:
    assert parse_study_settings({"proximal-mu": 0.5}).mu == 0.0
    assert parse_study_settings({"proximal-mu": 0.5, "strategy": "fedprox"}).mu == 0.5


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"learning-rat": 1}, "unknown key 'learning_rat': did you mean 'learning_rate'?"),
        ({"rounds": 0}, "rounds: Input should be greater than or equal to 1 (found 0)"),
        ({"strategy": "fed/sgd"}, "strategy: String should match pattern"),
        ({"learning-rate-schedule": "linear"}, "learning_rate_schedule: Input should be 'constant'"),
        ({"study": "../evil"}, "study: String should match pattern"),
        ({"time-edges-days": "20,10"}, "expected ascending positive days"),
        ({"time-edges-days": "10,inf"}, "expected ascending positive days"),
        ({"time-edges-days": "nan"}, "expected ascending positive days"),
        ({"grids": "mri: " + "9" * 400 + "x1x1 at 1x1x1 mm"}, "cannot read"),
        ({"features": "clinical: " + "a" * 200_001}, "at most 200000 characters"),
        ({"strategy": "postgresql://oak:se/cr@et@host/db"}, "(found 'postgresql://***@host/db')"),
        ({"report": "[" * 100_000}, "expected a table"),
        ({"validation-fraction": 0.6, "test-fraction": 0.4}, "must leave patients to train on"),
        ({"learning-rate": float("nan")}, "learning_rate"),
        ({"features": "clinical age"}, "features: cannot read 'clinical age'"),
    ],
)
def test_a_wrong_value_is_named_with_its_source(values: dict[str, object], complaint: str) -> None:
    with pytest.raises(SettingsError) as error:
        parse_study_settings(values, "studies/x.toml")
    assert str(error.value).startswith("studies/x.toml: ")
    assert complaint in str(error.value)


def test_every_problem_of_a_file_is_told_at_once() -> None:
    wrong = {"grids": "mri 3", "features": "clinical age", "time-edges-days": "3, a", "local-epochs": "x"}
    wrong |= {"rounds": 3, "warmup-rounds": 3, "privacy": "patient", "oversampling": "smotenc", "test-fraction": 0.9}
    wrong |= {"secure-aggregation": "on", "min-sites": 2, "patients-bound": 2**40, "threshold": "best", "roundz": 3}
    with pytest.raises(SettingsError) as error:
        parse_study_settings(wrong)
    message = {line.split(": ")[1] for line in str(error.value).splitlines()}
    blamed = {key.replace("-", "_") for key in wrong} - {"rounds", "oversampling", "min_sites", "roundz"}
    assert message == blamed | {"(top level)"}


def test_a_setting_is_not_compared_with_one_that_is_wrong_itself() -> None:
    with pytest.raises(SettingsError) as error:
        parse_study_settings({"rounds": "many", "warmup-rounds": 30})
    assert len(str(error.value).splitlines()) == 1


def test_the_tables_a_study_lists_are_all_its_tables() -> None:
    listed = load_task(parse_study_settings({"task": "recurrence_mri", "features": "clinical: age_years"}))
    assert list(listed.modalities) == ["mri", "clinical"]
    assert list(load_task(parse_study_settings({"task": "recurrence_mri"})).modalities) == [
        "mri",
        "radiomics",
        "clinical",
        "genomic",
    ]
    with pytest.raises(SettingsError, match="recurrence_clinical has no table radiomics"):
        load_task(parse_study_settings({"features": "radiomics: volume"}))


def test_a_task_is_trained_by_its_own_settings_with_its_own_optimizer_only() -> None:
    plain = StudySettings()
    own = parse_study_settings({"task": "recurrence_clinical"})
    assert (own.optimizer, own.learning_rate, own.weight_decay) == ("sgd", 0.1, 0.03)
    assert parse_study_settings({"task": "recurrence_clinical", "learning-rate": 0.02}).weight_decay == 0.03
    other = parse_study_settings({"task": "recurrence_clinical", "optimizer": "adamw"})
    assert (other.learning_rate, other.local_epochs) == (plain.learning_rate, plain.local_epochs)  # not its rate of .1
    assert parse_study_settings({"task": "relapse_mammogram", "optimizer": "adamw"}).local_epochs == 3
