from __future__ import annotations

import json
import os
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from server.__main__ import main
from server.errors import ExitCode
from server.operations.center import Center, open_center
from server.operations.center_status import read_study
from server.operations.create import create_center
from server.study import scoring
from server.study.results.contents import make_results
from server.study.results.replaced_results import REPLACED
from server.study.results.results_file import write_results
from server.study.results.schema import Results
from server.study.weights.checkpoint import LAST, Checkpoint, save_checkpoint
from shared_models.agreed import settings_hash
from shared_models.log_files import FORMAT_VARIABLE
from shared_models.study_settings import StudySettings, parse_study_settings
from shared_models.task import load_task


def empty_results() -> Results:
    config = StudySettings(targets="recurrence")
    last = Checkpoint(config.to_flat(), 1, {}, {}, {})
    task = load_task(config)
    nobody = scoring.unpack({}, task, config)
    return make_results(task, config, last, last, {}, [], (nobody, nobody), {})


@pytest.fixture
def folder(tmp_path: Path) -> str:
    create_center(Center(tmp_path / "center", "center.example.org:443", port=1))  # nothing listens on port 1
    return str(tmp_path / "center")


@pytest.mark.parametrize(
    "command", ["", "init", "start", "register", "unregister", "run", "status", "watch", "audit", "results"]
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


def test_the_chosen_log_format_reaches_the_process(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FORMAT_VARIABLE, "text")
    monkeypatch.chdir(".")
    environments: list[dict[str, str]] = []
    monkeypatch.setattr("os.execve", lambda _program, _words, environment: environments.append(environment))
    monkeypatch.setattr("server.operations.supervisor.supervise", lambda *_: None)
    assert main(["start", "--only", "superexec", "--directory", folder, "--log-format", "json"]) == ExitCode.OK
    assert environments[0][FORMAT_VARIABLE] == "json"


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
        file = write_results(empty_results().model_copy(update={"study": study}), Path(folder) / "results" / study)
        os.utime(file, (now - age, now - age))
    capsys.readouterr()
    assert main(["results", "--json", "--directory", folder]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out)["study"] == "newer"
    assert main(["results", "older", "--json", "--directory", folder]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out)["study"] == "older"
    assert main(["results", "older", "--directory", folder]) == ExitCode.OK
    assert "Weights of round 1 of 1" in capsys.readouterr().out
    assert main(["results", "absent", "--directory", folder]) == ExitCode.FILE
    assert "older, newer" in capsys.readouterr().err


def test_a_study_that_failed_or_that_there_is_not_is_named_with_what_to_do(
    folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_results(empty_results().model_copy(update={"failure": "no site came"}), Path(folder) / "results" / "failed")
    assert main(["results", "failed", "--directory", folder]) == ExitCode.FILE
    text = capsys.readouterr().err
    assert "no site came" in text
    assert "python -m server report failed" in text
    (Path(folder) / "results" / "again" / REPLACED).mkdir(parents=True)
    for verb in ("results", "report"):
        assert main([verb, "again", "--directory", folder]) == ExitCode.FILE
        text = capsys.readouterr().err
        assert "deleted once a round of the run that began with --overwrite counts" in text
        assert "python -m server watch again" in text
    for words in (["export", "failed", "--format", "safetensors", "--out", "model"], ["compare", "absent", "failed"]):
        assert main([*words, "--directory", folder]) == ExitCode.FILE
        assert f"no network of a study '{words[1]}'" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["results", "old"], ["results", "old", "--json"]])
def test_results_of_an_earlier_release_are_refused_and_stay_as_they_are(
    folder: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    file = Path(folder) / "results" / "old" / "results.json"
    file.parent.mkdir()
    file.write_text('{"study": "old"}')
    assert main([*words, "--directory", folder]) == ExitCode.FILE
    assert "schema version none, and this release reads version" in capsys.readouterr().err
    assert main(["run", "--set", "study=old", "--directory", folder]) == ExitCode.FILE
    assert "run the study under another `study` name" in capsys.readouterr().err
    assert file.read_text() == '{"study": "old"}'


def test_a_checkpoint_of_an_earlier_release_stops_a_study_before_it_starts_and_shows_in_the_status(
    folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = Path(folder) / "results" / "old" / "last.safetensors"
    file.parent.mkdir()
    file.write_bytes(save({"model:w": np.ones(2)}, metadata={"study": "{}"}))
    assert main(["run", "--set", "study=old", "--set", "resume=true", "--directory", folder]) == ExitCode.FILE
    assert "written by an earlier release" in capsys.readouterr().err
    study = read_study(open_center(Path(folder)), "old")
    assert study["progress"] is None
    assert "Continue with the release that wrote it" in study["problem"]


def test_a_resumed_study_with_more_rounds_says_before_it_starts_that_hospitals_must_approve_anew(
    folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = parse_study_settings({"study": "elms", "rounds": 3})
    save_checkpoint(Checkpoint(config.to_flat(), 3, {}, {}, {}), Path(folder) / "results" / "elms" / LAST)
    words = ["run", "--directory", folder, "--set", "study=elms", "--set", "resume=true"]
    assert main([*words, "--set", "rounds=3"]) == ExitCode.SUPERLINK_UNREACHABLE
    assert "approve" not in capsys.readouterr().out.replace("hospitals take part that approved these", "")
    assert main([*words, "--set", "rounds=5"]) == ExitCode.SUPERLINK_UNREACHABLE
    assert "rounds is 5, was 3: hospitals approved the study as it was" in capsys.readouterr().out


def test_a_rule_that_a_study_cannot_have_is_said_before_it_starts(
    folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--directory", folder, "--set", "strategy=krumm"]) == ExitCode.CONFIGURATION
    assert "there is no rule 'krumm'; did you mean 'krum'?" in capsys.readouterr().err
    secure = ["--set", "secure-aggregation=true", "--set", "min-sites=3"]
    assert main(["run", "--directory", folder, "--set", "strategy=krum", *secure]) == ExitCode.CONFIGURATION
    assert "krum compares the sites' single updates" in capsys.readouterr().err


def test_a_study_is_written_as_hospitals_approve_it_and_has_the_same_hash(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study, written = tmp_path / "recurrence.toml", tmp_path / "study.toml"
    study.write_text('study = "recurrence"\nrounds = 3\n')
    words = ["run", str(study), "--set", "rounds=4", "--directory", folder, "--write", str(written)]
    assert main(words) == ExitCode.OK
    output = capsys.readouterr().out
    config = parse_study_settings(tomllib.loads(written.read_text()))
    assert (config.study, config.rounds) == ("recurrence", 4)
    assert f"Settings {settings_hash(config)}" in output
    assert main(words) == ExitCode.FILE  # it may hold a person's remarks
    assert "a file already" in capsys.readouterr().err
    assert main(["run", str(written), "--set", "resume=true", "--directory", folder]) == ExitCode.SUPERLINK_UNREACHABLE
    assert f"Settings {settings_hash(config)}" in capsys.readouterr().out
