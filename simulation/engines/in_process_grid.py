"""In-process Flower grid: passes the ServerApp's messages straight to the ClientApp.

Flower's own simulation starts Ray, whose start and messages cost more than a small study's training.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from flwr.app import Context, Message, RecordDict
from flwr.app.error import Error
from flwr.clientapp import ClientApp
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

log = logging.getLogger("simulation")


class InProcessGrid(Grid):
    """Hands each message to `client_app` with the context of the site it is for.

    Args:
        client_app: The hospital's app.
        sites: Site name to its settings file.
        run_config: Flower's flat run config.
        on_message: Called with the site's name, the message's type and its group before each message.
    """

    def __init__(
        self,
        client_app: ClientApp,
        sites: dict[str, Path],
        run_config: dict[str, Any],
        on_message: Callable[[str, str, str], None] | None = None,
    ) -> None:
        self._app = client_app
        self._names = dict(enumerate(sites, start=1))
        self._contexts = {
            node: Context(
                run_id=1,
                node_id=node,
                node_config={"site-config": str(sites[name].resolve())},
                state=RecordDict(),
                run_config=run_config,
            )
            for node, name in self._names.items()
        }
        self._on_message = on_message or (lambda site, kind, group: None)
        self._replies: dict[str, Message] = {}
        self._numbers = itertools.count(1)
        self._run = Run.create_empty(run_id=1)
        # A Message takes its sender from here; in a deployment Flower's own process sets it.
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, SUPERLINK_NODE_ID, 1

    def set_run(self, run: Run) -> None:
        """Sets the run."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """A message, as the abstract class asks for; new code calls `Message` itself."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """One node a site."""
        return list(self._names)

    def get_nodes(self) -> Iterable[NodeInfo]:
        """The nodes with their sites' names."""
        return [NodeInfo(node_id=node, name=name) for node, name in self._names.items()]

    def push_messages(self, messages: Iterable[Message]) -> Sequence[str]:
        """Runs the ClientApp on each message and keeps the replies."""
        identifiers = []
        for message in messages:
            identifier = str(next(self._numbers))
            message.metadata.__dict__["_message_id"] = identifier
            identifiers.append(identifier)
            self._replies[identifier] = self._handle(message)
        return identifiers

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies to these messages."""
        return [self._replies.pop(identifier) for identifier in list(message_ids) if identifier in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        """Sends one after the other; a site in the same process cannot be late, so there is nothing to time out."""
        del timeout
        for message in messages:
            yield from self.pull_messages(self.push_messages([message]))

    def _handle(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        self._on_message(self._names[node], message.metadata.message_type, message.metadata.group_id)
        try:
            return self._app(message, self._contexts[node])
        except Exception as error:
            reason = f"{type(error)}:<'{error}'>"
            return Message(Error(code=ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason=reason), reply_to=message)
