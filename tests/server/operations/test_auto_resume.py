"""Which runs are resumed by themselves, and how often."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from server.operations import auto_resume, bundle
from server.operations.auto_resume import LOST, resume_lost
from server.operations.bundle import start_study
from server.operations.center import Center
from server.operations.superlink import Run
from server.study.weights.checkpoint import LAST, Checkpoint, save_checkpoint
from shared_models.log_files import LOG_BYTES
from shared_models.study_settings import StudySettings


class SuperLink:
    """The runs of a center whose SuperLink is asked for nothing else."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.center, self.runs = Center(folder, "center.example.org:443"), dict[int, Run]()
        self.center.results.mkdir(parents=True)
        monkeypatch.setattr(bundle, "start_run", lambda *_: self.begin())
        monkeypatch.setattr(auto_resume, "list_runs", lambda _: list(self.runs.values()))

    def begin(self) -> int:
        number = len(self.runs) + 1
        self.runs[number] = Run(number, "elms", "running", "", "", "")
        return number

    def end(self, number: int, details: str = LOST, state: str = "finished:failed") -> None:
        self.runs[number] = Run(number, "elms", state, details, "", "")

    def settings(self, number: int) -> dict[str, Any]:
        record = bundle.recorded_runs(self.center)[str(number)]
        return auto_resume._settings_of(self.center, record).to_flat()

    def reach(self, config: StudySettings, number: int) -> None:
        save_checkpoint(Checkpoint(config.to_flat(), number, {}, {}, {}), self.center.results / "elms" / LAST)

    def resumed(self) -> list[int]:
        return resume_lost(self.center, lambda line: None)


@pytest.fixture
def superlink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SuperLink:
    return SuperLink(tmp_path / "center", monkeypatch)


def test_a_lost_run_continues_with_its_own_settings_a_bounded_number_of_times_without_a_round(
    superlink: SuperLink,
) -> None:
    config = StudySettings(study="elms", auto_resume=2, overwrite=True, rounds=7)
    start_study(superlink.center, config)
    assert superlink.resumed() == [], "it runs"
    superlink.end(1)
    assert superlink.resumed() == [2]
    assert (superlink.settings(2)["resume"], superlink.settings(2)["overwrite"]) == (False, True), "no checkpoint yet"
    assert superlink.resumed() == [], "a run is resumed once"
    superlink.reach(config, 3)
    superlink.end(2)
    assert superlink.resumed() == [3]
    again = superlink.settings(3)
    assert (again["resume"], again["overwrite"], again["rounds"]) == (True, False, 7)
    superlink.end(3)
    assert superlink.resumed() == [4]
    superlink.end(4)
    assert superlink.resumed() == [], "twice without a round between"
    superlink.reach(config, 4)
    assert superlink.resumed() == [5]


@pytest.mark.parametrize(
    ("details", "state"),
    [("ServerApp failed with exception: too few sites", "finished:failed"), ("", "finished:stopped")],
)
def test_a_run_that_ended_for_a_reason_is_left_to_a_person(superlink: SuperLink, details: str, state: str) -> None:
    start_study(superlink.center, StudySettings(study="elms"))
    superlink.end(1, details, state)
    assert superlink.resumed() == []


def test_no_lost_run_is_resumed_beside_a_later_one_of_its_study_or_where_it_shall_not(superlink: SuperLink) -> None:
    start_study(superlink.center, StudySettings(study="elms"))
    start_study(superlink.center, StudySettings(study="elms"))
    superlink.end(1)
    assert superlink.resumed() == []
    start_study(superlink.center, StudySettings(study="never", auto_resume=0))
    superlink.end(3)
    assert superlink.resumed() == []


def test_full_logs_of_the_other_processes_are_emptied(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    for name, size in {"superlink.log": LOG_BYTES, "proxy-refused.log": LOG_BYTES - 1}.items():
        with (logs / name).open("wb") as file:
            file.truncate(size)
    auto_resume._empty_full_logs(Center(tmp_path, "center.example.org:443"))
    sizes = {file.name: file.stat().st_size for file in logs.iterdir()}
    assert sizes == {"superlink.log": 0, "superlink.log.1": LOG_BYTES, "proxy-refused.log": LOG_BYTES - 1}
