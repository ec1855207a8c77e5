from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console

from server.operations.center_status import print_status


def shown(**changes: Any) -> str:
    status: dict[str, Any] = {
        "center": {"address": "center.example.org:443", "directory": "/srv/center"},
        "certificate": {"ends": (datetime.now(UTC) + timedelta(days=200)).isoformat()},
        "disk": {"free_bytes": 2**40},
        "sites": [],
        "runs": [],
        "study": {"name": "", "progress": None, "problem": ""},
    }
    console = Console(file=io.StringIO(), width=80)
    print_status({**status, **changes}, console)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_new_center_says_what_comes_next() -> None:
    text = shown()
    assert "python -m server register" in text
    assert "python -m server run" in text
    assert "renew" not in text


def test_certificate_that_ends_soon_is_announced() -> None:
    ends = (datetime.now(UTC) + timedelta(days=12, hours=1)).isoformat()
    assert "12 days. renew it: python -m server init --renew" in " ".join(shown(certificate={"ends": ends}).split())


def test_a_disk_that_is_nearly_full_is_announced() -> None:
    assert "only 3.0 MiB free" in " ".join(shown(disk={"free_bytes": 3 * 2**20}).split())
    assert "free" not in shown()


def test_rows_fit_a_terminal_and_a_failure_is_told() -> None:
    run = {
        "run_id": "10748755413142104008",
        "study": "pilot",
        "state": "finished:failed",
        "started": "2026-11-21T02:58:46Z",
        "finished": "2026-11-21T02:59:13Z",
        "details": "only 0 of at least [1] sites came",
    }
    site = {"site": "duke", "node_id": "7", "state": "online", "last_seen": "2026-11-21T02:58:46Z"}
    done = {"round": 3, "rounds": 20, "best_round": 2, "best_value": 0.7512}
    study = {"name": "pilot", "progress": done, "problem": ""}
    text = shown(runs=[run], sites=[site], study=study)
    assert "│ 10748755413142104008 │ pilot │ failed │ 2026-11-21 02:58 │" in text
    assert "│ duke │ online │ 2026-11-21T02:58:46Z │" in text
    assert "pilot failed: only 0 of at least [1] sites came" in text
    assert "3 of 20 rounds" in text
    assert "Best so far: round 2, validation 0.751" in text
