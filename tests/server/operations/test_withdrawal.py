"""A hospital that withdraws from a study that has ended."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from client.__main__ import main as client_main
from server.__main__ import main
from server.operations.center import Center
from server.operations.create import create_center
from server.study.results.results_file import read_results


def test_weights_and_results_are_marked_and_the_next_study_is_without_it(
    finished_study: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.operations.withdrawal.try_to_report", lambda results, folder: None)
    center = tmp_path / "center"
    create_center(Center(center, "center.example.org:443", port=1))
    folder = center / "results" / "small"
    finished_study.folder.rename(folder)
    where = ["--directory", str(center)]
    assert main(["withdraw", "small", "--site", "elm", *where]) == 4
    assert "elm had no part in the study small" in capsys.readouterr().err
    assert main(["withdraw", "small", "--site", "b", "--write", str(tmp_path / "next.toml"), *where]) == 0
    output = capsys.readouterr().out
    assert f"{folder / 'best.safetensors'}: weights, trained on its patients, too" in output
    assert set(read_results(folder / "results.json").withdrawn) == {"b"}
    settings = tomllib.loads((tmp_path / "next.toml").read_text())
    assert (settings["study"], settings["sites"]) == ("small-without-b", "a")
    words = ["--site", str(finished_study.sites["elm"]), "--out", str(tmp_path / "p.csv")]
    assert client_main(["predict", str(folder / "best.safetensors"), *words]) == 0
    assert "b withdrew from the study" in capsys.readouterr().out
