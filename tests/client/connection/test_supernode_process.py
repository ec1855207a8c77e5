from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from flwr.app import Message, RecordDict
from flwr.proto.fleet_pb2 import PullMessagesRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.constant import TaskType
from flwr.supercore.inflatable import inflatable_utils
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode import start_client_internal
from flwr.supernode.nodestate import NodeStateFactory

from client.connection import supernode_process
from client.connection.supernode_process import ClientApps, Looks, rejoin_after_a_cut_look
from shared_models.patience import FIRST_PULL_S, LONGEST_PULL_S, LONGEST_S, shorten_pulls


@pytest.fixture
def state() -> Any:
    return NodeStateFactory(ObjectStoreFactory()).state()


@pytest.mark.parametrize("kind", [TaskType.CLIENT_APP, TaskType.AGENT_APP])
def test_a_task_of_whatever_kind_starts_the_sites_own_program_once(
    state: Any, kind: TaskType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "flwr-clientapp"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/started\n')
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    started: list[Any] = []
    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command: started.append(real(command)) or started[-1])
    state.create_task(task_type=kind, run_id=7, fab_hash="0" * 64)
    apps = ClientApps("127.0.0.1:9101")
    apps.hand_over(state)
    apps.hand_over(state)
    assert [process.wait(60) for process in started] == [0]
    (line,) = (tmp_path / "started").read_text().splitlines()
    assert line.startswith("--runtime-api-address 127.0.0.1:9101 --token ")


def test_flower_still_sleeps_where_it_is_made_to_sleep_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own two waits, told apart by their lengths, and the function that hands a message over."""
    code = inspect.getsource(start_client_internal)
    assert re.findall(r"\btime\.\w+\([^)]*\)", code) == ["time.sleep(3)", *["time.sleep(0.5)"] * 2]
    assert "_push_messages(\n                state=state," in code
    naps: list[float] = []
    monkeypatch.setattr(supernode_process.time, "sleep", naps.append)
    looked: list[str] = []
    looks = Looks(lambda: looked.append("for a reply"))
    looks.sleep(3)
    looks.sleep(0.5)
    looks.idle_since -= 3600
    looks.asked_at -= 3600
    looks.sleep(3)
    looks.sleep(0.5)
    assert naps == [0.1, 0.01, LONGEST_S, 0.5]
    assert looked == ["for a reply"] * 2


@pytest.mark.parametrize("taken", [True, False])
@pytest.mark.parametrize("replied", [True, False])
def test_a_clientapp_that_ends_without_a_reply_is_answered_for_at_once_and_once(
    state: Any, taken: bool, replied: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "flwr-clientapp"
    program.write_text("#!/bin/sh\nexit 250\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(TaskIdentity, "_run_id", 7)
    monkeypatch.setattr(TaskIdentity, "_node_id", 2)
    monkeypatch.setattr(TaskIdentity, "_task_id", 3)
    asked = Message(RecordDict(), 1, "train")
    asked.metadata.__dict__["_message_id"] = "asked"
    state.set_node_id(1)
    assert state.store_message(asked) is not None
    state.create_task(task_type=TaskType.CLIENT_APP, run_id=7, fab_hash="0" * 64)
    apps = ClientApps("127.0.0.1:9101")
    apps.hand_over(state)
    if taken:
        state.get_messages_legacy(run_ids=[7], is_reply=False)
    if replied:
        reply = Message(RecordDict(), reply_to=asked)
        reply.metadata.__dict__["_message_id"] = "reply"
        state.store_message(reply)
    ((_, process),) = apps.running
    process.wait(60)
    apps.answer_for_ended()
    apps.answer_for_ended()
    (reply,) = state.get_messages_legacy(is_reply=True)
    assert reply.metadata.reply_to_message_id == "asked"
    assert reply.has_error() is not replied
    assert apps.running == []


def test_parts_that_are_on_their_way_are_asked_for_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    pulls = (inflatable_utils.pull_objects, inflatable_utils.pull_and_inflate_object_from_tree)
    for pull in pulls:
        monkeypatch.setattr(pull, "__kwdefaults__", dict(pull.__kwdefaults__))
    shorten_pulls()
    for pull in pulls:
        defaults = {name: one.default for name, one in inspect.signature(pull).parameters.items()}
        assert (defaults["initial_backoff"], defaults["backoff_cap"]) == (FIRST_PULL_S, LONGEST_PULL_S)


class FleetClient:
    """Stands where Flower's does; what it answers looks with is given."""

    def __init__(self, *looks: Exception | list[str]) -> None:
        self.looks, self.calls = list(looks), list[str]()

    def ActivateNode(self, request: Any) -> None:
        self.calls.append("joins")

    def DeactivateNode(self, request: Any) -> None:
        self.calls.append("leaves")

    def PullMessages(self, request: Any) -> Any:
        self.calls.append("looks")
        if isinstance(answer := self.looks.pop(0), Exception):
            raise answer
        return SimpleNamespace(messages_list=answer)


LOOK = PullMessagesRequest(node=Node(node_id=7))
BAD_GATEWAY = httpx.HTTPStatusError("", request=httpx.Request("POST", "https://a"), response=httpx.Response(502))


@pytest.mark.parametrize(
    ("cut", "following", "rejoins"),
    [
        (httpx.RemoteProtocolError(""), [], True),
        (httpx.ReadError(""), [], True),
        (BAD_GATEWAY, [], True),
        (httpx.ReadError(""), ["there after all"], False),
        (httpx.ConnectError("nothing was asked"), [], False),
    ],
)
def test_a_site_whose_look_was_cut_tells_the_center_so_by_joining_anew_unless_the_message_is_there(
    cut: Exception, following: list[str], rejoins: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for method in ("ActivateNode", "PullMessages"):
        monkeypatch.setattr(FleetClient, method, getattr(FleetClient, method))
    rejoin_after_a_cut_look(FleetClient)
    client = FleetClient(cut, following, [])
    client.ActivateNode(None)
    with pytest.raises(type(cut)):
        client.PullMessages(LOOK)
    assert client.PullMessages(LOOK).messages_list == following
    client.PullMessages(LOOK)
    assert client.calls == ["joins", "looks", "looks", *["leaves", "joins"] * rejoins, "looks"]


RETURNS = """
import threading, time
from client.connection import supernode_process

def flower_supernode():
    threading.Thread(target=time.sleep, args=(3600,)).start()  # as its HTTP server, which is no daemon

supernode_process.flower_supernode = flower_supernode
supernode_process.main("127.0.0.1:1")
"""


def test_a_supernode_that_lost_its_connection_ends_although_its_server_runs() -> None:
    ended = subprocess.run([sys.executable, "-P", "-c", RETURNS], timeout=300, check=False)
    assert ended.returncode == supernode_process.CONNECTION_LOST
