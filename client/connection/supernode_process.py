"""Replacement of Flower's `flower-supernode`: the same process, which starts its own ClientApps and waits less.

Flower 1.41 starts a SuperExec beside each SuperNode, which asks it for work over HTTP, and ends unnoticed; and it looks
for the center's messages every 3 s, for its own reply every 0.5 s. Here the SuperNode hands a message over once it has
all of it, and its looks follow the wait so far. A ClientApp that ends without a reply, Flower notices when its
heartbeats have been missed for a minute or more, and never if it failed while it replied; here the center learns it at
once.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx
from flwr.common.constant import SubStatus
from flwr.proto.fleet_pb2 import DeactivateNodeRequest
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.servicer.runtime.runtime_handlers import acquire_task
from flwr.supernode.cli.flower_supernode import flower_supernode
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.nodestate.in_memory_nodestate import CLIENT_APP_CRASHED_ERROR

from shared_models.patience import outlast_cut_connections, outlast_failed_heartbeats, pause_s, shorten_pulls

CONNECTION_LOST = 1
FIRST_LOOK_FOR_REPLY_S, LONGEST_LOOK_FOR_REPLY_S = 0.01, 0.5  # it lies in this process
# Whatever the center calls its task: the launcher runs this site's own ClientApp, or refuses.
TASK_TYPES = (TaskType.CLIENT_APP, TaskType.AGENT_APP)


class Looks:
    """Flower's sleeps, as long as the wait has been.

    Attributes:
        idle_since: When the center was last heard of, on the monotonic clock.
        asked_at: When the message that is being answered was handed over.
        while_waiting: What is done before each look for a reply.
    """

    def __init__(self, while_waiting: Callable[[], None]) -> None:
        self.idle_since = self.asked_at = time.monotonic()
        self.while_waiting = while_waiting

    def sleep(self, seconds: float) -> None:
        """Stands for `time.sleep`: of 3 s, until the center has work; of less, until a ClientApp has replied."""
        now = time.monotonic()
        if seconds > LONGEST_LOOK_FOR_REPLY_S:
            time.sleep(pause_s(now - self.idle_since))
        else:
            self.while_waiting()
            time.sleep(pause_s(now - self.asked_at, FIRST_LOOK_FOR_REPLY_S, LONGEST_LOOK_FOR_REPLY_S))


class ClientApps:
    """ClientApps of the message that is being answered: Flower's SuperNode answers one at a time.

    Args:
        address: Where the SuperNode serves them.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.state: Any = None
        self.running: list[tuple[Any, subprocess.Popen[bytes]]] = []

    def hand_over(self, state: Any) -> None:
        """Starts one for each task that waits, as Flower's SuperExec would."""
        self.state, self.running = state, []
        while (given := acquire_task(AcquireTaskRequest(supported_task_types=TASK_TYPES), state)).token:
            program = ["flwr-clientapp", "--runtime-api-address", self.address, "--token", given.token, "--insecure"]
            self.running.append((given.task, subprocess.Popen([*program, "--parent-pid", str(os.getpid())])))

    def answer_for_ended(self) -> None:
        """Answers with an error in place of each that has ended without a reply."""
        for task, process in self.running:
            if process.poll() is not None:
                self.state.get_messages_legacy(run_ids=[task.run_id], is_reply=False)  # what it had not taken yet
                self.state.finish_task(task.task_id, SubStatus.FAILED, CLIENT_APP_CRASHED_ERROR.reason)
                self.state._store_error_replies({task.run_id}, CLIENT_APP_CRASHED_ERROR)
        self.running = [(task, process) for task, process in self.running if process.returncode is None]


def rejoin_after_a_cut_look(client: Any) -> None:
    """From now on a site whose look for a message was cut, and that has none at the next, leaves and joins again.

    The SuperLink gives a message away once. If its answer is cut on the way, as when a proxy is killed, the message is
    lost and nobody is told; by the site's joining anew the center knows it (`server/study/network_grid.py`).

    Args:
        client: Flower's class of clients of the Fleet API.
    """
    activate, pull = client.ActivateNode, client.PullMessages
    joined, cut = list[Any](), threading.Event()

    def activate_and_remember(self: Any, request: Any) -> Any:
        joined[:] = [request]
        return activate(self, request)

    def pull_or_rejoin(self: Any, request: Any) -> Any:
        try:
            response = pull(self, request)
        except (httpx.ReadError, httpx.ReadTimeout, httpx.RemoteProtocolError):
            cut.set()
            raise
        except httpx.HTTPStatusError as error:
            if error.response.status_code in (httpx.codes.BAD_GATEWAY, httpx.codes.GATEWAY_TIMEOUT):
                cut.set()  # between the proxy and the SuperLink
            raise
        if cut.is_set() and not response.messages_list:
            with contextlib.suppress(httpx.HTTPStatusError):  # it has left: an earlier answer was cut, too
                self.DeactivateNode(DeactivateNodeRequest(node_id=request.node.node_id))
            activate(self, joined[0])
        cut.clear()
        return response

    client.ActivateNode, client.PullMessages = activate_and_remember, pull_or_rejoin


def main(address: str) -> None:
    """Runs the SuperNode with the command line's arguments, until a signal or the center ends it.

    Args:
        address: Where it serves its own ClientApps.
    """
    loop: Any = importlib.import_module("flwr.supernode.start_client_internal")
    connection: Any = importlib.import_module("flwr.supernode.fleet_http_connection")
    retries = connection.make_simple_http_retry_invoker
    apps = ClientApps(address)
    looks, push = Looks(apps.answer_for_ended), loop._push_messages

    def hand_over_and_push(state: Any, **others: Any) -> None:
        looks.asked_at = time.monotonic()
        apps.hand_over(state)
        push(state=state, **others)
        looks.idle_since = time.monotonic()

    def patient_retries() -> Any:
        invoker = retries()
        outlast_cut_connections(invoker)
        return invoker

    shorten_pulls()
    rejoin_after_a_cut_look(FleetHttpClient)
    outlast_failed_heartbeats()
    connection.make_simple_http_retry_invoker = patient_retries
    loop.time, loop._push_messages = SimpleNamespace(sleep=looks.sleep), hand_over_and_push
    try:
        flower_supernode()
    except Exception:
        traceback.print_exc()
    # A signal ends the process elsewhere. Flower returns after an error of the center that it does not ask about again,
    # and the thread of its server would hold this process for ever: connected to nothing, and seen by no supervisor.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(CONNECTION_LOST)


if __name__ == "__main__":
    main(sys.argv.pop(1))
