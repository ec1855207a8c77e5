from __future__ import annotations

import json
import os
import time
import tomllib
from pathlib import Path

import pytest

from server.__main__ import main
from server.errors import ExitCode
from server.operations.center import Center
from server.operations.create import create_center
from shared_models.agreed import settings_hash
from shared_models.study_settings import parse_study_settings


@pytest.fixture
def folder(tmp_path: Path) -> str:
    create_center(Center(tmp_path / "center", "center.example.org:443", port=1))  # nothing listens on port 1
    return str(tmp_path / "center")


@pytest.mark.parametrize(
    "command", ["", "init", "start", "register", "unregister", "run", "status", "audit", "results"]
)
def test_help_shows_an_example_and_the_exit_codes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main([*command.split(), "--help"])
    text = capsys.readouterr().out
    assert raised.value.code == 0
    assert f"python -m server {command}".strip() in text
    assert "6 SuperLink not reachable" in text


@pytest.mark.parametrize(
    "words", [["bogus"], ["init", "--port", "0"], ["start", "--only", "superlink", "--no-proxy"], []]
)
def test_usage(words: list[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(words)
    assert raised.value.code == ExitCode.USAGE


def test_new_center_without_an_address(tmp_path: Path) -> None:
    assert main(["init", "--directory", str(tmp_path / "center")]) == ExitCode.USAGE
    assert not (tmp_path / "center").exists()


def test_no_center(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--directory", str(tmp_path)]) == ExitCode.CONFIGURATION
    assert "python -m server init" in capsys.readouterr().err


def test_superlink_that_does_not_run(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--directory", folder]) == ExitCode.SUPERLINK_UNREACHABLE
    assert "start.sh" in capsys.readouterr().err


def test_misspelt_setting(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--set", "round=3", "--directory", folder]) == ExitCode.CONFIGURATION
    assert "did you mean 'rounds'?" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--set", "rounds=4", "--set", "seed=3"], ["--set", "rounds=4", "seed=3"]])
def test_no_setting_of_the_command_line_is_dropped(tmp_path: Path, words: list[str]) -> None:
    study, written = tmp_path / "recurrence.toml", tmp_path / "written.toml"
    study.write_text('study = "recurrence"\n')
    assert main(["run", *words, str(study), "--write", str(written)]) == ExitCode.OK
    config = tomllib.loads(written.read_text())
    assert (config["study"], config["rounds"], config["seed"]) == ("recurrence", 4, 3)


def test_study_file_that_is_missing_or_no_toml(folder: str, tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    assert main(["run", str(study), "--directory", folder]) == ExitCode.FILE
    study.write_text("rounds 3")
    assert main(["run", str(study), "--directory", folder]) == ExitCode.CONFIGURATION


def test_unwritable_place(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--address", "c.example.org", "--directory", "/proc/center"]) == ExitCode.FILE
    assert "/proc/center" in capsys.readouterr().err


def test_results_are_the_last_written_or_the_named(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["results", "--directory", folder]) == ExitCode.FILE
    now = time.time()
    for age, study in enumerate(("newer", "older")):
        file = Path(folder) / "results" / study / "results.json"
        file.parent.mkdir()
        file.write_text(json.dumps({"study": study}))
        os.utime(file, (now - age, now - age))
    capsys.readouterr()
    assert main(["results", "--json", "--directory", folder]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out) == {"study": "newer"}
    assert main(["results", "older", "--json", "--directory", folder]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out) == {"study": "older"}
    assert main(["results", "absent", "--directory", folder]) == ExitCode.FILE
    assert "older, newer" in capsys.readouterr().err


def test_a_study_is_written_as_hospitals_approve_it_and_has_the_same_hash(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study, written = tmp_path / "recurrence.toml", tmp_path / "study.toml"
    study.write_text('study = "recurrence"\nrounds = 3\n')
    words = ["run", str(study), "--set", "rounds=4", "--directory", folder, "--write", str(written)]
    assert main(words) == ExitCode.OK
    said = capsys.readouterr().out
    config = parse_study_settings(tomllib.loads(written.read_text()))
    assert (config.study, config.rounds) == ("recurrence", 4)
    assert f"Settings {settings_hash(config)}" in said
    assert main(words) == ExitCode.FILE  # it may hold a person's remarks
    assert "File exists" in capsys.readouterr().err
    assert main(["run", str(written), "--set", "resume=true", "--directory", folder]) == ExitCode.SUPERLINK_UNREACHABLE
    assert f"Settings {settings_hash(config)}" in capsys.readouterr().out
