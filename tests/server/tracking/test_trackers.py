"""TensorBoard's and MLflow's files of a study, read by their own readers, hold what the results hold."""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.app import run_study
from server.study import joining
from server.study.status import Scored
from server.tracking.trackers import require_installed, tracked
from shared_models.agreed import settings_hash
from shared_models.settings import SettingsError
from shared_models.study_settings import StudySettings, parse_study_settings
from simulation.engines.budgets import begin_budgets
from simulation.engines.in_process_grid import InProcessGrid

Hospitals = Callable[..., dict[str, Path]]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "POLL_S", 0.005)


def run(sites: dict[str, Path], settings: dict[str, Any]) -> dict[str, Any]:
    from client.app import app

    config = parse_study_settings(settings)
    begin_budgets(sites, config)
    return run_study(InProcessGrid(app, sites, config.to_flat()), config)


@pytest.mark.report
def test_both_hold_each_round_the_settings_and_the_test_and_reach_no_one(
    hospitals: Hospitals, small_study: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    reached: list[object] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *where, **_: reached.append(where) or [])
    monkeypatch.setattr(socket.socket, "connect", lambda _, where: reached.append(where))
    parts = {"validation-fraction": 0.3, "test-fraction": 0.3}
    sites, study = hospitals({"a": 200, "b": 200}), {**small_study, **parts, "tracking": "tensorboard, mlflow"}
    with monkeypatch.context() as first:
        first.setattr("server.app.try_to_report", lambda *_: None)  # the report is looked at when the study has ended
        run(sites, {**study, "rounds": 1})
    results = run(sites, {**study, "rounds": 2, "resume": True})
    assert not reached

    folder = Path(small_study["results-dir"])
    board = events.EventAccumulator(str(folder / "small" / "tensorboard")).Reload()
    values = {point.step: point.value for point in board.Scalars("validation/value")}
    assert values == pytest.approx({number: value for number, value in results["validation"] if value is not None})
    assert [point.step for point in board.Scalars("update norm/a")] == [1, 2]
    judged = results["targets"]["recurrence"]["internal"]["auc"]
    assert board.Scalars("test internal/recurrence auc")[-1].value == pytest.approx(judged)

    client = mlflow.MlflowClient(tracking_uri=(folder / "mlruns").resolve().as_uri())
    (stored,) = client.search_runs([client.get_experiment_by_name("recurrence_clinical").experiment_id])
    assert (stored.info.run_name, stored.info.status) == ("small", "FINISHED")
    assert stored.data.metrics["test internal/recurrence auc"] == pytest.approx(judged)
    assert stored.data.params["learning-rate"] == str(small_study["learning-rate"])
    rounds = [point.step for point in client.get_metric_history(stored.info.run_id, "round/sites counted")]
    assert rounds == [1, 2]
    files = {file.path for file in client.list_artifacts(stored.info.run_id)}
    assert files == {"report.html", "results.json", "settings.toml"}


def test_a_study_that_resumes_replaces_what_was_written_of_the_round_that_it_repeats(tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for first, value, resume in ((1, 0.5, False), (3, 0.7, True)):
        with tracked(StudySettings(tracking="tensorboard", resume=resume), tmp_path) as trackers:
            for number in range(first, 4):
                trackers.scored("", [Scored(round=number, value=value)])
    board = events.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    points = {point.step: point.value for point in board.Scalars("validation/value")}
    assert points == pytest.approx({1: 0.5, 2: 0.5, 3: 0.7})
    assert len(board.Scalars("validation/value")) == 3, "the round that was repeated is there once"
    assert "settings/text_summary" in board.Tags()["tensors"]


def test_a_tracker_whose_files_cannot_be_made_does_not_end_the_study(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("tensorboard")
    (tmp_path / "tensorboard").write_text("a file where the folder should be")
    with tracked(StudySettings(tracking="tensorboard"), tmp_path) as trackers:
        trackers.scored("", [Scored(round=1, value=0.5)])
    assert "the study continues" in caplog.text


def test_a_tracker_that_is_not_installed_is_said_before_the_study_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"tracking: mlflow is not installed .*\[mlflow\]"):
        require_installed(StudySettings(tracking="mlflow"))
    require_installed(StudySettings())


def test_hospitals_do_not_approve_it_and_another_name_is_refused() -> None:
    assert settings_hash(StudySettings(tracking="mlflow")) == settings_hash(StudySettings())
    with pytest.raises(SettingsError, match="'wandb' is none of tensorboard, mlflow"):
        parse_study_settings({"tracking": "mlflow, wandb"})
