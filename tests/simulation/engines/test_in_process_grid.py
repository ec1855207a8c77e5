from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

import client.session
from client.cohort.load import Cohort, load_cohort
from client.config.site import SiteConfig
from server.study.exchange import StudyError, ask, connected
from shared_models.study_settings import parse_study_settings
from simulation.engines.budgets import only_here
from simulation.engines.in_process import run_in_process
from simulation.engines.in_process_grid import InProcessGrid
from simulation.splits import divide

CONFIG = parse_study_settings({})


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # the audit log stands in results-dir


@pytest.fixture
def echo() -> ClientApp:
    """Says who was asked, with which settings, and how often before."""
    app = ClientApp()

    @app.query("ask")
    def answer(message: Message, context: Context) -> Message:
        if message.content["request"].get("fail"):
            msg = "nobody at home"
            raise RuntimeError(msg)
        asked = int(context.state["asked"]["times"]) if "asked" in context.state else 0
        context.state["asked"] = ConfigRecord({"times": asked + 1})
        facts = {
            "site": Path(str(context.node_config["site-config"])).stem,
            "node": context.node_id,
            "asked": asked,
            "rounds": context.run_config["rounds"],
        }
        return Message(RecordDict({"facts": ConfigRecord(facts)}), reply_to=message)

    return app


@pytest.fixture
def grid(echo: ClientApp) -> InProcessGrid:
    return InProcessGrid(echo, {"oak": Path("oak.yaml"), "elm": Path("elm.yaml")}, {"rounds": 7})


def content(**values: Any) -> RecordDict:
    return RecordDict({"request": ConfigRecord(values)})


def test_each_site_is_a_node_under_its_name(grid: InProcessGrid) -> None:
    assert connected(grid) == {"oak": 1, "elm": 2}
    assert list(grid.get_node_ids()) == [1, 2]


def test_each_site_answers_from_its_own_context_which_it_keeps(grid: InProcessGrid) -> None:
    for times in range(2):
        answers = ask(grid, dict.fromkeys(["elm", "oak"], content()), "query.ask", dict, CONFIG)
        assert [answer.site for answer in answers] == ["elm", "oak"]
        for answer, node in zip(answers, (2, 1), strict=True):
            assert answer.reply is not None
            expected = {"site": answer.site, "node": node, "asked": times, "rounds": 7}
            assert dict(answer.reply["facts"]) == expected


def test_a_site_that_raises_is_an_answer_without_content(grid: InProcessGrid) -> None:
    assert [
        answer.problem for answer in ask(grid, dict.fromkeys(["oak"], content(fail=True)), "query.ask", dict, CONFIG)
    ] == ["nobody at home"]
    unknown = ask(grid, dict.fromkeys(["oak"], content()), "query.unknown", dict, CONFIG)[0]
    assert unknown.reply is None
    assert "unknown" in unknown.problem


def test_replies_are_handed_out_once(grid: InProcessGrid) -> None:
    messages = [Message(content(), dst_node_id=node, message_type="query.ask") for node in (1, 2)]
    identifiers = grid.push_messages(messages)
    assert len(set(identifiers)) == 2
    replies = list(grid.pull_messages(identifiers))
    assert [reply.metadata.reply_to_message_id for reply in replies] == list(identifiers)
    assert [reply.metadata.src_node_id for reply in replies] == [1, 2]
    assert list(grid.pull_messages(identifiers)) == []


def test_who_is_asked_what_is_told_first(echo: ClientApp) -> None:
    asked: list[tuple[str, str, str]] = []
    grid = InProcessGrid(echo, {"oak": Path("oak.yaml")}, {"rounds": 1}, on_message=lambda *what: asked.append(what))
    ask(grid, dict.fromkeys(["oak"], content()), "query.ask", dict, CONFIG, group="3")
    assert asked == [("oak", "query.ask", "3")]


def test_a_study_gives_the_same_numbers_twice(
    hospitals: Callable[..., dict[str, Path]], small_study: dict[str, Any]
) -> None:
    sites = hospitals({"a": 400, "b": 350})  # fewer would have cells too small to leave
    one, other = (
        run_in_process(sites, parse_study_settings({**small_study, "results-dir": f"{small_study['results-dir']}{n}"}))
        for n in (1, 2)
    )
    for part in ("sites", "targets", "validation", "best_round"):
        assert one[part] == other[part]
    seeded = run_in_process(sites, parse_study_settings({**small_study, "study": "seeded", "seed": 1}))
    assert seeded["targets"] != one["targets"]


def test_a_second_process_with_the_same_study_at_the_same_sites_is_refused(
    hospitals: Callable[..., dict[str, Path]], small_study: dict[str, Any], tmp_path: Path
) -> None:
    sites, elsewhere = hospitals({"a": 60, "b": 60}), {**small_study, "results-dir": str(tmp_path / "elsewhere")}
    code = (
        "import sys; from pathlib import Path; from simulation.engines.budgets import only_here; "
        "from shared_models.study_settings import parse_study_settings as parse\n"
        "with only_here({'b': Path(sys.argv[1])}, parse({'study': 'small'})): print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(sites["b"])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        other.stdout.readline()
        with pytest.raises(StudyError, match="another run of the study small uses the site b now"):
            run_in_process(sites, parse_study_settings(elsewhere))
        other.communicate()
    with only_here(sites, parse_study_settings(elsewhere)):
        pass


def test_many_sites_are_each_opened_once(
    hospitals: Callable[..., dict[str, Path]],
    small_study: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[str] = []

    def load_counted(site: SiteConfig, *rest: Any) -> Cohort:
        opened.append(site.site)
        return load_cohort(site, *rest)

    monkeypatch.setattr(client.session, "load_cohort", load_counted)
    sites = divide(hospitals({"oak": 360})["oak"], tmp_path / "sites", into=18)
    run_in_process(sites, parse_study_settings({**small_study, "rounds": 2}))
    assert sorted(opened) == sorted(sites)
