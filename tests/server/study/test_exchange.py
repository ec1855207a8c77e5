from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message, RecordDict
from flwr.app.error import Error
from flwr.clientapp import ClientApp
from flwr.proto.node_pb2 import NodeInfo
from flwr.supercore.inflatable.inflatable_utils import ObjectPushError

from server.study import exchange
from server.study.audit import audit_of
from server.study.exchange import Answer, StudyError, ask, connected, log_problems, wait_for_sites
from shared_models.chained_log import read
from shared_models.study_settings import StudySettings
from simulation.engines.in_process_grid import InProcessGrid

Replies = Callable[[Message], Message | None]


class FakeGrid(InProcessGrid):
    """Sites that come and go, and answer as a test says."""

    def __init__(self, names: Iterable[str], answer: Replies | None = None) -> None:
        super().__init__(ClientApp(), {}, {})
        self.names, self.answer, self.timeout = list(names), answer, 0.0

    def get_nodes(self) -> list[NodeInfo]:
        return [NodeInfo(node_id=number, name=name) for number, name in enumerate(self.names, start=1)]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        self.timeout = timeout or 0.0
        replies = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = f"m{message.metadata.dst_node_id}"
            reply = self.answer(message) if self.answer else Message(RecordDict(), reply_to=message)
            if reply is not None:
                replies.append(reply)
        return replies[::-1]  # they come in any order


def config(**values: Any) -> StudySettings:
    return StudySettings.model_validate({"join_timeout_s": 0.3, "round_timeout_s": 7.0, **values})


def to(names: Iterable[str]) -> dict[str, RecordDict]:
    return dict.fromkeys(names, RecordDict())


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # the audit log stands in results-dir
    monkeypatch.setattr(exchange, "POLL_S", 0.02)


def test_a_node_without_a_name_is_known_by_its_number() -> None:
    assert connected(FakeGrid(["oak", ""])) == {"oak": 1, "node-2": 2}


def test_answers_stand_in_the_order_asked_whatever_the_order_of_the_replies() -> None:
    grid = FakeGrid(["oak", "elm", "ash"])
    answers = ask(grid, to(["elm", "ash", "oak"]), "train", dict, config())
    assert [answer.site for answer in answers] == ["elm", "ash", "oak"]
    assert all(answer.reply is not None for answer in answers)
    assert grid.timeout == 7.0


def test_who_is_away_who_is_late_and_who_failed_are_told_apart() -> None:
    def answer(message: Message) -> Message | None:
        if message.metadata.dst_node_id == 1:
            return None
        if message.metadata.dst_node_id == 2:
            return Message(Error(3, "<class 'RuntimeError'>:<'the table has no column er'>"), reply_to=message)
        if message.metadata.dst_node_id == 3:
            return Message(Error(5, "node unavailable"), reply_to=message)
        return Message(RecordDict(), reply_to=message)

    grid = FakeGrid(["late", "failed", "lost", "good"], answer)
    answers = ask(grid, to(["late", "failed", "lost", "good", "away"]), "train", dict, config())
    assert {answer.site: answer.problem for answer in answers} == {
        "late": "no answer in 7 s",
        "failed": "the table has no column er",
        "lost": "Flower error 5: node unavailable",
        "good": "",
        "away": "not connected",
    }
    assert [answer.site for answer in answers if answer.reply is not None] == ["good"]


def test_an_error_that_the_superlink_makes_itself_is_given_to_the_site_it_answers() -> None:
    def answer(message: Message) -> Message:
        reply = Message(Error(6, "message expired"), reply_to=message)
        reply.metadata.__dict__["_src_node_id"] = 99  # the SuperLink's own
        return reply

    answers = ask(FakeGrid(["oak", "elm"], answer), to(["oak", "elm"]), "train", dict, config())
    assert [answer.problem for answer in answers] == ["Flower error 6: message expired"] * 2


def test_a_reply_from_one_who_was_not_asked_is_nobodys() -> None:
    def answer(message: Message) -> Message:
        reply = Message(RecordDict(), reply_to=message)
        reply.metadata.__dict__["_src_node_id"] = 2
        return reply

    answers = ask(FakeGrid(["oak", "elm"], answer), to(["oak"]), "train", dict, config())
    assert [(answer.site, answer.reply) for answer in answers] == [("oak", None)]


def test_a_reply_that_cannot_be_read_is_a_problem_by_name_and_noted_as_rejected() -> None:
    def read_odd(content: RecordDict) -> RecordDict:
        msg = "round is missing"
        raise ValueError(msg)

    answers = ask(FakeGrid(["oak"]), to(["oak"]), "train", read_odd, config())
    assert log_problems(answers, config()) == {"oak": "the reply cannot be read: round is missing"}
    events = [(line["event"], line.get("why")) for line in read(audit_of(Path("runs/study")))]
    assert events == [
        ("sent", None),
        ("received", None),
        ("rejected", "the reply cannot be read: round is missing"),
    ]


class LosingGrid(FakeGrid):
    """A SuperLink that is killed while it takes a request, so many times."""

    def __init__(self, losses: int) -> None:
        super().__init__(["oak", "elm"])
        self.losses, self.sent = losses, list[list[Message]]()

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        self.sent.append(list(messages))
        if len(self.sent) <= self.losses:
            raise ObjectPushError("0" * 64, 1, "session")
        return super().send_and_receive(messages, timeout=timeout)


def test_a_request_that_the_superlink_lost_is_sent_again_as_it_was() -> None:
    grid = LosingGrid(losses=1)
    answers = ask(grid, to(["oak", "elm"]), "train", dict, config())
    assert all(answer.reply is not None for answer in answers)
    first, second = grid.sent
    assert [id(message) for message in first] == [id(message) for message in second]


def test_a_request_that_cannot_be_sent_is_a_round_without_answers_and_not_the_end() -> None:
    grid = LosingGrid(losses=99)
    answers = ask(grid, to(["oak", "elm"]), "train", dict, config())
    assert [answer.reply for answer in answers] == [None, None]
    assert len(grid.sent) == exchange.SEND_ATTEMPTS


def test_nobody_to_ask_is_no_message() -> None:
    def never(message: Message) -> Message:
        raise AssertionError

    assert ask(FakeGrid([], never), to(["oak"]), "train", dict, config()) == [Answer("oak", None, "not connected")]


def test_whoever_is_there_will_do_once_they_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange.time, "sleep", lambda seconds: pytest.fail("it waits for others"))
    assert wait_for_sites(FakeGrid(["oak", "elm"]), config(join_timeout_s=60)) == ["elm", "oak"]


def test_named_sites_are_waited_for_and_others_are_not_asked() -> None:
    grid = FakeGrid(["oak", "stranger"])
    polls = iter(range(100))

    def come() -> list[NodeInfo]:
        if next(polls) == 3:
            grid.names.append("elm")
        return FakeGrid.get_nodes(grid)

    grid.get_nodes = come  # type: ignore[method-assign]
    assert wait_for_sites(grid, config(sites="oak, elm", join_timeout_s=30)) == ["elm", "oak"]


def test_at_the_time_out_enough_named_sites_go_on_without_the_rest() -> None:
    assert wait_for_sites(FakeGrid(["oak", "elm"]), config(sites="oak,elm,ash", min_sites=2)) == ["elm", "oak"]


def test_too_few_say_who_came_who_did_not_and_what_to_do() -> None:
    with pytest.raises(StudyError) as error:
        wait_for_sites(FakeGrid(["oak", "stranger"]), config(sites="oak,elm,ash", min_sites=2))
    message = str(error.value)
    assert "only 1 of at least 2 sites came" in message
    assert "(oak); missing: ash, elm" in message
    assert "python -m client --site NAME" in message


def test_problems_are_those_without_content_and_the_rejected() -> None:
    answers = [Answer("oak", RecordDict()), Answer("elm", None, "not connected"), Answer("ash", RecordDict())]
    asked = config()
    assert log_problems(answers, asked, {"ash": "update rejected: NaN"}) == {
        "elm": "not connected",
        "ash": "update rejected: NaN",
    }
    noted = [
        (line["event"], line["site"], line["why"]) for line in read(audit_of(Path(asked.results_dir) / asked.study))
    ]
    assert noted == [("rejected", "ash", "update rejected: NaN")]
