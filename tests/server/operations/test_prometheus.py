from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from server.__main__ import main
from server.errors import CenterError, ExitCode
from server.operations.center import Center
from server.operations.create import create_center
from server.operations.prometheus import Sample, exposition, write_metrics
from server.study.status import STATUS, DoneRound, SiteProgress, StudyProgress

STATED: dict[str, Any] = {
    "certificate": {"ends": "2027-01-01T00:00:00+00:00"},
    "sites": [{"site": "duke", "state": "online"}, {"site": "oak", "state": "offline"}],
    "runs": [
        {"run_id": "2", "study": "pilot", "state": "finished:failed"},
        {"run_id": "1", "study": "pilot", "state": "finished:completed"},
    ],
    "study": {"name": "pilot", "progress": None, "problem": ""},
}


@pytest.fixture
def center(tmp_path: Path) -> Center:
    center = Center(tmp_path / "center", "center.example.org:443", port=1)  # nothing listens on port 1
    create_center(center)
    return center


def values(file: Path) -> dict[str, float]:
    lines = [line.rpartition(" ") for line in file.read_text().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_state_of_the_center_and_its_study(center: Center, tmp_path: Path) -> None:
    sites = {"duke": SiteProgress(epsilon=1.25, delta=1e-5), "oak": SiteProgress()}
    progress = StudyProgress(
        study="pilot", task="recurrence_clinical", strategy="fedavg", rounds=20, round=4, started="", private=True,
        updated="2026-11-28T12:00:00+00:00", sites=sites,
        done=[DoneRound(round=n, attempt=1, seconds=n + 0.5, asked=2, counted=2) for n in (2, 3)],
    )  # fmt: skip
    (center.results / "pilot").mkdir(parents=True)
    (center.results / "pilot" / STATUS).write_text(progress.model_dump_json())
    file = tmp_path / "federation.prom"
    write_metrics(center, STATED, file)
    written = values(file)
    assert written.pop("federation_status_time_seconds") > 1_700_000_000
    assert written.pop('federation_study_updated_seconds{study="pilot"}') == 1795867200
    assert written.pop("federation_certificate_end_seconds") == 1798761600
    states = {name: value for name, value in written.items() if "study_state" in name}
    assert [name for name, value in states.items() if value] == ['federation_study_state{study="pilot",state="failed"}']
    assert {name: value for name, value in written.items() if name not in states} == {
        "federation_superlink_up": 1,
        "federation_sites_online": 1,
        'federation_site_online{site="duke"}': 1,
        'federation_site_online{site="oak"}': 0,
        'federation_study_rounds{study="pilot"}': 20,
        'federation_study_round{study="pilot"}': 4,
        'federation_study_round_duration_seconds{study="pilot"}': 3.5,
        'federation_site_epsilon{study="pilot",site="duke",delta="1e-05"}': 1.25,
    }
    assert file.stat().st_mode & 0o777 == 0o644


def test_file_says_that_the_superlink_is_away(center: Center, tmp_path: Path) -> None:
    words = ["status", "--directory", str(center.directory), "--prometheus"]
    file = tmp_path / "federation.prom"
    assert main([*words, str(file)]) == ExitCode.SUPERLINK_UNREACHABLE
    written = values(file)
    assert set(written) == {"federation_superlink_up", "federation_status_time_seconds"}
    assert written["federation_superlink_up"] == 0
    with pytest.raises(SystemExit) as raised:
        main([*words, str(tmp_path / "federation.txt")])
    assert raised.value.code == ExitCode.USAGE


def test_damaged_status_leaves_the_file_as_it_was(center: Center, tmp_path: Path) -> None:
    (center.results / "pilot").mkdir(parents=True)
    (center.results / "pilot" / STATUS).write_text('{"study": ')
    file = tmp_path / "federation.prom"
    file.write_text("of before\n")
    with pytest.raises(CenterError, match=STATUS):
        write_metrics(center, STATED, file)
    assert file.read_text() == "of before\n"


def test_labels_are_escaped() -> None:
    text = exposition([Sample("site_online", True, {"site": 'a\\b"c\nd'})])
    assert text.splitlines()[1:] == [
        "# TYPE federation_site_online gauge",
        'federation_site_online{site="a\\\\b\\"c\\nd"} 1.0',
    ]
