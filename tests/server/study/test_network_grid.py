from __future__ import annotations

import time
from collections.abc import Iterable

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.proto.node_pb2 import NodeInfo

from server.study import network_grid
from server.study.network_grid import NetworkGrid
from shared_models.messages.compact import COMPACT, compact
from shared_models.patience import FIRST_S, LONGEST_S, SHARE, pause_s
from simulation.engines.in_process_grid import InProcessGrid

WORDS = RecordDict({"values": ConfigRecord({"words": "as they were"})})


class SlowGrid(InProcessGrid):
    """A SuperLink whose replies come at the given looks."""

    def __init__(self, *looks: int) -> None:
        super().__init__(ClientApp(), {}, {})
        self.looks, self.looked, self.waiting = looks, 0, dict[str, Message]()
        self.restarted_at_look = 999

    def get_nodes(self) -> list[NodeInfo]:
        """Two sites, of which the second has another SuperNode from one look on."""
        second = "later" if self.looked >= self.restarted_at_look else "at first"
        return [NodeInfo(node_id=n, last_activated_at=came) for n, came in enumerate(("at first", second))]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        for number, message in enumerate(messages):
            message.metadata.__dict__["_message_id"] = f"m{number}"
            assert list(message.content) == [COMPACT]
            self.waiting[f"m{number}"] = Message(compact(WORDS), reply_to=message)
        return list(self.waiting)

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        self.looked += 1
        come = [name for name in message_ids if self.looks[int(name[1:])] <= self.looked]
        return [self.waiting.pop(name) for name in come]


def asked(count: int) -> list[Message]:
    return [Message(RecordDict(WORDS), dst_node_id=number, message_type="train") for number in range(count)]


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between looks, which take no time here."""
    taken, now = list[float](), [0.0]

    def sleep(seconds: float) -> None:
        taken.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(network_grid.time, "monotonic", lambda: now[0])
    return taken


def test_replies_come_as_they_were_sent_each_once(naps: list[float]) -> None:
    grid = SlowGrid(1, 3)
    replies = list(NetworkGrid(grid).send_and_receive(asked(2), timeout=60.0))
    assert [reply.content["values"]["words"] for reply in replies] == ["as they were"] * 2
    assert (grid.looked, len(naps)) == (3, 2)


def test_looks_become_rarer_as_the_wait_grows(naps: list[float]) -> None:
    list(NetworkGrid(SlowGrid(200)).send_and_receive(asked(1), timeout=3600.0))
    assert naps[0] == FIRST_S
    assert naps == sorted(naps)
    assert naps[-1] == LONGEST_S
    assert all(nap <= max(FIRST_S, SHARE * sum(naps[:index])) + 1e-9 for index, nap in enumerate(naps))


def test_at_the_time_out_it_looks_once_more_and_gives_what_came(naps: list[float]) -> None:
    grid = SlowGrid(1, 999)
    replies = list(NetworkGrid(grid).send_and_receive(asked(2), timeout=7.0))
    assert len(replies) == 1
    assert sum(naps) == pytest.approx(7.0)
    assert grid.looked == len(naps) + 1


def test_a_message_that_ended_with_its_supernode_is_not_waited_for(naps: list[float]) -> None:
    grid = SlowGrid(60, 999)
    grid.restarted_at_look = 50
    replies = list(NetworkGrid(grid).send_and_receive(asked(2), timeout=3600.0))
    assert [reply.metadata.src_node_id for reply in replies if reply.has_error()] == [1]
    assert [reply.content["values"]["words"] for reply in replies if reply.has_content()] == ["as they were"]
    assert grid.looked == 60
    assert sum(naps) < 600


def test_a_long_wait_is_looked_after_every_three_seconds_at_most() -> None:
    assert [pause_s(waited) for waited in (0.0, 2.0, 10.0, 60.0, 1e5)] == [0.1, 0.1, 0.5, 3.0, 3.0]
