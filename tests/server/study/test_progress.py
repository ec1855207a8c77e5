"""Progress of a study: one state, on the page, in the terminal and in the log, while real sites train."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from rich.console import Console

from client.app import app as client_app
from server.app import run_study
from server.errors import CenterError, ExitCode
from server.operations import watch
from server.operations.center import Center
from server.operations.notify import notifier
from server.report.status_page import draw_status
from server.study.exchange import StudyError
from server.study.progress import PAGE, Progress
from server.study.results.replaced_results import REPLACED
from server.study.status import STATUS, Scored, SiteProgress, StudyProgress, now, read_status
from server.study.study_log import LOG
from shared_models.study_settings import parse_study_settings
from simulation.engines.in_process_grid import InProcessGrid

Hospitals = Callable[..., dict[str, Path]]


class Watched(ClientApp):
    """The real ClientApp; before each message it keeps what the status says, and a site may fail in a round."""

    def __init__(self, status: Path, fails: tuple[int, int] = (0, 0)) -> None:
        super().__init__()
        self.status, self.fails, self.seen = status, fails, list[StudyProgress]()

    def __call__(self, message: Message, context: Context) -> Message:
        self.seen.append(read_status(self.status))
        if message.metadata.message_type == "train" and (int(message.metadata.group_id), context.node_id) == self.fails:
            raise RuntimeError("the tables <b>moved</b>")
        return client_app(message, context)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every change is written when it happens."""
    monkeypatch.setattr("server.study.progress.EVERY_S", 0.0)


def test_a_study_shows_each_step_of_each_site_and_what_it_ends_with(
    hospitals: Hospitals, small_study: dict[str, Any], at_once: None
) -> None:
    config = parse_study_settings(
        {**small_study, "sites": "a,b,far", "secure-aggregation": "off", "join-timeout-s": 0.1}
        | {"validation-fraction": 0.4}
    )
    folder, sites = Path(config.results_dir) / config.study, hospitals({"a": 150, "b": 150})
    app = Watched(folder / STATUS, fails=(2, 2))
    small = config.model_copy(update={"min_sites": 1})
    results = run_study(InProcessGrid(app, sites, small.to_flat()), small)

    of_b = next(s for s in app.seen if s.round == 2 and s.sites["a"].doing == "answered" and s.stage == "training")
    assert (of_b.sites["b"].doing, of_b.sites["b"].message, of_b.sites["far"].doing) == ("working", "train", "away")
    assert of_b.sites["a"].at_site_s is not None
    assert of_b.left_s is not None
    ended = read_status(folder / STATUS)
    assert (ended.state, ended.round, ended.missing) == ("completed", 3, results["missing"])
    assert [(one.round, one.counted, one.asked) for one in ended.done] == [(1, 2, 2), (2, 1, 2), (3, 2, 2)]
    assert (ended.sites["b"].counted, ended.sites["b"].missed) == (2, 1)
    assert {one.round: one.value for one in ended.curve} == pytest.approx(dict(results["validation"]), abs=1e-6)
    assert all(one.low < one.value < one.high for one in ended.curve)
    assert ended.sites["b"].norm == pytest.approx(results["rounds"][2]["updates"]["b"]["norm"])
    assert [(one.site, one.text) for one in ended.problems if one.site == "b"] == [("b", "the tables <b>moved</b>")]

    page, log = (folder / PAGE).read_text(), (folder / LOG).read_text()
    assert "tables &lt;b&gt;moved" in page
    assert 'http-equiv="refresh"' not in page
    assert "far, which it names" in page
    assert [f"round {number}/3: " in log for number in (1, 2, 3)] == [True] * 3
    assert "b: the tables <b>moved</b>" in log
    assert all((folder / name).stat().st_mode & 0o077 == 0 for name in (STATUS, PAGE, LOG))


def test_a_study_that_fails_says_so_and_why(hospitals: Hospitals, small_study: dict[str, Any]) -> None:
    config = parse_study_settings({**small_study, "min-sites": 3, "join-timeout-s": 0.1})
    with pytest.raises(StudyError):
        run_study(InProcessGrid(client_app, hospitals({"a": 150, "b": 150}), config.to_flat()), config)
    state = read_status(Path(config.results_dir) / config.study / STATUS)
    assert (state.state, state.stage) == ("failed", "ended")
    assert state.failure.startswith("only 2 of at least 3 sites came")


def running(**changes: Any) -> StudyProgress:
    began = "2026-11-28T07:00:00+00:00"
    site = SiteProgress(
        doing="working", message="train", asked=now(), since=now(), norm=0.25, epsilon=1.234, delta=1e-4
    )
    facts: dict[str, Any] = {"study": "elms", "task": "t", "strategy": "fedavg", "rounds": 9, "started": began}
    facts |= {"updated": now(), "round": 4, "stage": "training", "round_began": now(), "left_s": 75.0}
    facts |= {"curve": [Scored(round=3, value=0.7, low=0.6, high=0.8)], "best_round": 3}
    return StudyProgress(**facts | {"sites": {"oak": site, "elm": SiteProgress(doing="away", since=now())}} | changes)


def test_the_terminal_shows_the_same_and_ends_as_the_study_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    center = Center(tmp_path, "center.example.org:443", port=1)
    folder = center.results / "elms"
    states = [running(), running(state="failed", failure="round 4 failed", stage="ended")]
    (folder / REPLACED).mkdir(parents=True)
    (folder / STATUS).write_text(states[0].model_dump_json())
    monkeypatch.setattr(watch.time, "sleep", lambda s: (folder / STATUS).write_text(states[1].model_dump_json()))
    console = Console(file=io.StringIO(), width=200)
    with pytest.raises(CenterError, match="round 4 failed") as raised:
        watch.watch(center, "elms", console)
    output = console.file.getvalue()  # type: ignore[attr-defined]
    assert raised.value.exit_code == ExitCode.RUN_FAILED
    assert "Round 4 of 9" in output
    assert "about 1 min 15 s left" in output
    assert f"The earlier results wait in {folder / REPLACED}" in output
    assert "Awaited: oak since" in output or "awaited: oak since" in output
    assert "not connected: elm since" in output.lower()
    with pytest.raises(CenterError, match="studies with a status: elms"):
        watch.watch(center, "oaks", console)


def test_a_command_is_told_once_of_each_thing_that_waits_for_a_person_and_of_the_end(tmp_path: Path) -> None:
    file, script = tmp_path / "told.jsonl", tmp_path / "tell.sh"
    script.write_text(f'#!/bin/sh\ncat >> "{file}"; echo >> "{file}"\n')
    script.chmod(0o700)
    tell = notifier(f"'{script}' 'one word; two'")
    waits = running(stage="waiting for sites")
    waits.sites["oak"].problem = "the site has not approved this study"
    assert [tell.look(state) for state in (waits, waits, running(state="completed"))] == ["", "", ""]
    content = [json.loads(line) for line in file.read_text().splitlines()]
    expected = [("approval", "oak"), ("away", "elm"), ("completed", "elms")]
    assert [(one["event"], one["about"]) for one in content] == expected
    assert "did not run" in notifier(str(tmp_path / "nowhere")).look(waits)
    with pytest.raises(CenterError, match="the notification has no command"):
        notifier("'")


def test_a_study_whose_process_is_gone_is_told_of(tmp_path: Path) -> None:
    center = Center(tmp_path, "center.example.org:443", port=1)
    (center.results / "elms").mkdir(parents=True)
    (center.results / "elms" / STATUS).write_text(running(updated="2026-11-28T07:01:00+00:00").model_dump_json())
    with pytest.raises(CenterError, match="the study's process is gone"):
        watch.watch(center, "", Console(file=io.StringIO()))


def test_the_page_reloads_itself_loads_nothing_and_the_table_has_all(capsys: pytest.CaptureFixture[str]) -> None:
    page = draw_status(running())
    assert "training: asked at" in page
    assert 'http-equiv="refresh"' in page
    assert "<script" not in page
    assert "default-src 'none'" in page
    console = Console(width=200)
    console.print(watch.table(running()))
    shown = capsys.readouterr().out
    for text in ("1.23 at δ 0.0001", "0.25", "0.70 (0.60 to 0.80)"):
        assert text in page.replace("</td>", "") or text in shown, text
    assert "1.23 at δ 0.0001" in shown


def test_200_sites_are_one_small_page_and_nothing_written_is_half(tmp_path: Path) -> None:
    progress = Progress(running(), tmp_path, draw_status)
    for number in range(30):
        progress.asked([f"hospital-{one:03d}" for one in range(200)], "train")
        assert json.loads((tmp_path / STATUS).read_text())["study"] == "elms"
        progress.heard(f"hospital-{number:03d}", 1e9, 1e9 + 5)
    progress.end({})
    assert len((tmp_path / PAGE).read_bytes()) < 150_000
    assert [path.name for path in tmp_path.glob(".draft*")] == []
