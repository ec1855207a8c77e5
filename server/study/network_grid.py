"""Flower's grid as a deployment uses it: compact messages, looks that follow the wait, and no wait for what is lost."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping

from flwr.app import Error, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from shared_models.messages.compact import compact, expand, size_of
from shared_models.patience import LONGEST_S, outlast_cut_connections, pause_s

FETCHED_BYTES = 32 * 2**20
GONE = Error(ErrorCode.NODE_UNAVAILABLE, "the site's SuperNode ended with the message; another one is there")


class NetworkGrid(Grid):
    """A grid whose messages go over a network.

    Args:
        grid: Flower's.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        if invoker := getattr(grid, "_retry_invoker", None):  # of the one that goes over HTTP
            outlast_cut_connections(invoker)

    def set_run(self, run: Run) -> None:
        """Sets the run."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """The run."""
        return self._grid.run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """A message, as the abstract class asks for; new code calls `Message` itself."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """The nodes that are connected."""
        return self._grid.get_node_ids()

    def get_nodes(self) -> Iterable[NodeInfo]:
        """The nodes with the names that their keys were registered under."""
        return self._grid.get_nodes()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Sends messages, compact where they are small."""
        messages = list(messages)
        for message in messages:
            message.content = compact(message.content)
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies to these messages that are there now."""
        replies = list(self._grid.pull_messages(message_ids))
        for reply in replies:
            if reply.has_content():
                reply.content = expand(reply.content)
        return replies

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        """Sends messages and gives each reply when it is there, with a last look when the time is over.

        So many are fetched at once as fit in `FETCHED_BYTES`, if they are as large as what was sent: Flower has all
        that it fetches in memory.

        A SuperNode that ends takes a message that it has begun with it. Flower says so while the site is away, to who
        looks just then: the site may be back between two looks, and no answer would ever come.
        """
        messages, activations = list(messages), self._activations()
        sent = zip(self.push_messages(messages), messages, strict=True)
        pending = {identifier: message for identifier, message in sent if identifier}
        at_once = max(1, FETCHED_BYTES // max([1, *(size_of(message.content) for message in messages)]))
        started = time.monotonic()
        while pending:
            waited_s = time.monotonic() - started
            for some in _batched([*pending], at_once):
                for reply in self.pull_messages(some):
                    pending.pop(reply.metadata.reply_to_message_id, None)
                    yield reply
            if waited_s > LONGEST_S:  # a SuperNode that was there has taken its message by then
                for identifier in self._lost(pending, activations):
                    yield Message(GONE, reply_to=pending.pop(identifier))
            if not pending or (timeout is not None and waited_s >= timeout):
                break
            left_s = timeout - waited_s if timeout is not None else float("inf")
            time.sleep(min(pause_s(waited_s), max(left_s, 0.0)))

    def _activations(self) -> dict[int, str]:
        """When each node's present SuperNode came."""
        return {node.node_id: node.last_activated_at for node in self.get_nodes()}

    def _lost(self, pending: Mapping[str, Message], before: Mapping[int, str]) -> list[str]:
        """The messages whose node has another SuperNode now than when they were sent."""
        now = self._activations()
        nodes = {identifier: message.metadata.dst_node_id for identifier, message in pending.items()}
        return [name for name, node in nodes.items() if now.get(node, before.get(node)) != before.get(node)]


def _batched(names: list[str], size: int) -> list[list[str]]:
    return [names[start : start + size] for start in range(0, len(names), size)]
