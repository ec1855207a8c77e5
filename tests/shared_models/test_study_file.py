import doctest

import pytest

from shared_models import study_file
from shared_models.settings import SettingsError
from shared_models.study_file import UnreadableStudyError, parse_assignments, read_study, separate_assignments


def test_assignments_win_over_the_file_however_their_keys_are_spelt(tmp_path):
    file = tmp_path / "study.toml"
    file.write_text('study = "recurrence"\nmin-sites = 3\nrounds = 7\n')
    config = read_study(file, ["min_sites=4", "rounds=8", "rounds=9"])
    assert (config.study, config.min_sites, config.rounds) == ("recurrence", 4, 9)


def test_assignments_are_toml_or_text():
    assert parse_assignments(["rounds=3", "learning-rate=0.1", "strategy=fedprox", "resume=true", "sites=a, b=c"]) == {
        "rounds": 3,
        "learning-rate": 0.1,
        "strategy": "fedprox",
        "resume": True,
        "sites": "a, b=c",
    }


@pytest.mark.parametrize(
    ("words", "separated"),
    [
        (["--set", "a=1", "b=2"], ["--set", "a=1", "--set", "b=2"]),
        (["--set", "a=1", "--set", "b=2", "c=3"], ["--set", "a=1", "--set", "b=2", "--set", "c=3"]),
        (["--set=a=1", "b=2"], ["--set=a=1", "--set", "b=2"]),
        (["run", "--set", "a=1", "study.toml", "x=1"], ["run", "--set", "a=1", "study.toml", "x=1"]),
        (["--set", "a=1", "--write=b"], ["--set", "a=1", "--write=b"]),
        (["--set"], ["--set"]),
        (["a=1"], ["a=1"]),
    ],
)
def test_only_assignments_that_follow_set_are_its_own(words, separated):
    assert separate_assignments(words) == separated


@pytest.mark.parametrize(
    ("content", "complaints"),
    [
        (b"rounds = 0\nronds = 2", ["found:    (top level): unknown key 'ronds': did you mean 'rounds'?"]),
        (
            b'rounds = 0\noptimizer = "lion"',
            [
                "found:    rounds: Input should be greater than or equal to 1 (found 0)\n            optimizer: ",
                "to do:    correct them; docs/study_settings.md explains every key",
            ],
        ),
        (b"rounds 3", ["found:    Expected '=' after a key", "expected: TOML"]),
        (b"\xff\xfe", ["expected: TOML"]),
        (b"x = " + b"[" * 100_000, ["expected: TOML"]),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_what_is_wrong_in_it(tmp_path, content, complaints):
    file = tmp_path / "study.toml"
    file.write_bytes(content)
    with pytest.raises(SettingsError) as refused:
        read_study(file)
    text = str(refused.value)
    assert text.startswith(f"the study's settings cannot be used\n  where:    {file}\n  found:    ")
    for complaint in complaints:
        assert complaint in text
    assert str(file) not in refused.value.public
    assert not isinstance(refused.value, UnreadableStudyError)


@pytest.mark.parametrize(
    ("assignments", "where", "complaint"),
    [
        (["rounds"], "--set\n", "expected: KEY=VALUE"),
        (["study=x", "round=3"], "--set study=x and --set round=3\n", "did you mean 'rounds'?"),
    ],
)
def test_an_assignment_that_cannot_be_used_is_named(assignments, where, complaint):
    with pytest.raises(SettingsError) as refused:
        read_study(None, assignments)
    assert f"where:    {where}" in str(refused.value)
    assert complaint in str(refused.value)


def test_a_missing_file_and_a_folder_are_unreadable(tmp_path):
    for path in (tmp_path, tmp_path / "none.toml"):
        with pytest.raises(UnreadableStudyError, match="to do"):
            read_study(path)


def test_the_example_in_the_docstring_is_what_happens():
    ran = doctest.testmod(study_file)
    assert (ran.failed, ran.attempted > 0) == (0, True)


def test_a_misspelt_strategy_is_told_with_the_other_mistakes() -> None:
    with pytest.raises(SettingsError) as error:
        read_study(None, ["strategy=fedmedain", "rounds=0"], ["fedavg", "fedmedian"])
    assert "strategy: there is no rule 'fedmedain'; did you mean 'fedmedian'?" in error.value.found
    assert "rounds: Input should be greater than or equal to 1" in error.value.found
