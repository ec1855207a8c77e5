"""Replacement of Flower's `flwr-clientapp`: runs one message with this site's own code, bundle guarded.

`client.app` is imported here, before Flower puts the center's bundle on `sys.path`: it keeps a module that is there.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

import httpcore  # noqa: F401  # httpx imports it at its first request: here once, not in each message's process
from flwr.supernode.cli import flwr_clientapp

import client.app  # noqa: F401
from client.connection.bundle_guard import guard_installation
from shared_models.messages.compact import COMPACT, compact, expand
from shared_models.patience import outlast_failed_heartbeats, shorten_pulls

if TYPE_CHECKING:
    from flwr.app import Context, Message


def main() -> None:
    """Answers the message that `sys.argv` names, as Flower's SuperNode hands it over, then exits."""
    sys.argv[0] = "flwr-clientapp"
    shorten_pulls()
    outlast_failed_heartbeats()
    take_compact_messages()
    guard_installation()
    flwr_clientapp()


def take_compact_messages() -> None:
    """From now on a message that came compact is read as what it holds, and answered the same way."""
    flower: Any = importlib.import_module("flwr.supernode.runtime.run_clientapp")
    pull, push, came = flower.pull_task_input, flower.push_message, list[str]()

    def pull_and_expand(*arguments: object) -> tuple[Any, ...]:
        message, *others = pull(*arguments)
        if message.has_content() and COMPACT in message.content:
            came.append(COMPACT)
            message.content = expand(message.content)
        return message, *others

    def compact_and_push(connection: object, message: Message, context: Context) -> None:
        if came and message.has_content():
            message.content = compact(message.content)
        push(connection, message, context)

    flower.pull_task_input, flower.push_message = pull_and_expand, compact_and_push


if __name__ == "__main__":
    main()
