"""The center's own audit log: what it sent, what came back, and why something did not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.app import app
from client.config.site import load_site
from client.governance import audit as at_the_site
from client.governance.chained_log import read as read_at_the_site
from server.__main__ import main
from server.app import run_study
from server.errors import CenterError, ExitCode
from server.operations.center import Center
from server.operations.create import create_center
from server.study.audit import audit_of, note
from shared_models.chained_log import read
from shared_models.study_settings import parse_study_settings
from simulation.engines.in_process_grid import InProcessGrid


def test_a_study_is_a_line_a_message_with_the_hash_that_the_site_noted(
    hospitals: Callable[..., dict[str, Path]], small_study: dict[str, Any]
) -> None:
    sites = hospitals({"a": 80, "b": 90, "c": 70})
    with sites["c"].open("a") as file:
        file.write("policy: {tasks: [recurrence_mri]}\n")
    config = parse_study_settings({**small_study, "rounds": 2})
    run_study(InProcessGrid(app, sites, config.to_flat()), config)
    path = audit_of(Path(config.results_dir) / config.study)
    lines = read(path)
    own = [line for line in lines if line["site"] == "a"]
    assert [(line["event"], line["message"], line["round"]) for line in own[:6]] == [
        ("sent", "query.prepare", 0),
        ("received", "query.prepare", 0),
        ("sent", "train", 1),
        ("received", "train", 1),
        ("sent", "train", 2),
        ("received", "train", 2),
    ]
    noted = read_at_the_site(at_the_site.audit_of(load_site(sites["a"])))
    assert [line["sha256"] for line in own if line["event"] == "received"] == [line["sha256"] for line in noted]
    refused = [line for line in lines if line["site"] == "c" and line["event"] != "sent"]
    assert {(line["event"], line["why"]) for line in refused} == {
        ("no answer", "the site's own policy does not allow this study")
    }
    assert not any(f"{name}-{number:04d}" in path.read_text() for name in "abc" for number in range(90))


def test_the_command_shows_it_and_finds_a_changed_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    center = Center(tmp_path / "center", "center.example.org:443", port=1)
    create_center(center)
    note(center.results, {"event": "register", "site": "duke", "key": "SHA256:abc"}, {"event": "start", "study": "s"})
    words = ["audit", "--directory", str(center.directory)]
    assert main(words) == ExitCode.OK
    output = capsys.readouterr().out
    assert "duke" in output
    assert "2 lines, unbroken" in output
    path = audit_of(center.results)
    path.write_text(path.read_text().replace("duke", "ucsf"))
    assert main(words) == ExitCode.FILE
    assert "line 1" in capsys.readouterr().err
    path.write_text(path.read_text().splitlines(keepends=True)[0])
    with pytest.raises(CenterError, match="not as it was written"):
        note(center.results, {"event": "start", "study": "s"})


def test_a_study_whose_log_was_changed_anywhere_does_not_go_on(
    hospitals: Callable[..., dict[str, Path]], small_study: dict[str, Any]
) -> None:
    sites = hospitals({"a": 80, "b": 90})
    config = parse_study_settings({**small_study, "rounds": 1})
    run_study(InProcessGrid(app, sites, config.to_flat()), config)
    path = audit_of(Path(config.results_dir) / config.study)
    path.write_text(path.read_text().replace('"site": "b"', '"site": "c"', 1))
    resumed = config.model_copy(update={"resume": True})
    with pytest.raises(CenterError, match="not as it was written"):
        run_study(InProcessGrid(app, sites, resumed.to_flat()), resumed)


def test_what_cannot_be_noted_is_not_sent(
    hospitals: Callable[..., dict[str, Path]], small_study: dict[str, Any]
) -> None:
    sites = hospitals({"a": 80, "b": 90})
    config = parse_study_settings(small_study)
    path = audit_of(Path(config.results_dir) / config.study)
    path.parent.mkdir(parents=True)
    path.write_text("no record\n")
    with pytest.raises(CenterError, match="not as it was written"):
        run_study(InProcessGrid(app, sites, config.to_flat()), config)
    assert not at_the_site.audit_of(load_site(sites["a"])).exists()


def test_a_study_that_does_not_exist_is_told_from_one_without_messages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    center = Center(tmp_path / "center", "center.example.org:443", port=1)
    create_center(center)
    note(center.results / "first", {"event": "sent", "site": "duke", "study": "first"})
    words = ["audit", "--directory", str(center.directory)]
    assert main([*words, "first"]) == ExitCode.OK
    assert main([*words, "frist"]) == ExitCode.FILE
    assert "studies with one: first" in capsys.readouterr().err
