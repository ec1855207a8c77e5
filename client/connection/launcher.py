"""Launcher that a SuperNode starts as `flwr-clientapp`: asks the warm process for a child, and relays it.

Run by its path with `python -I -S`, so that it starts in milliseconds: the standard library only, none of our modules.
The child has this process's arguments and standard streams; signals that come here go there, and its status comes
back. If there is no answer, this process becomes a fresh one that does the same, seconds later.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import suppress

STARTED = b"+"
ANSWER_S = 10.0
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


def main(folder: str, arguments: list[str]) -> int:
    """Runs one message.

    Args:
        folder: Where the warm process listens.
        arguments: Flower's.

    Returns:
        The exit status; 1 for a child that was killed.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)  # a signal waits until there is somebody to forward it to
    connection = call(folder, arguments)
    if connection is None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
        command = [sys.executable, "-P", "-m", "client.connection.clientapp", *arguments]
        os.execv(sys.executable, command)
    return stand_in(connection)


def call(folder: str, arguments: list[str]) -> socket.socket | None:
    """Asks for a child; None if none has started, and then none will."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(ANSWER_S)
    body = b"".join(os.fsencode(argument) + b"\0" for argument in arguments)
    with suppress(OSError):
        _connect(connection, folder)
        socket.send_fds(connection, [len(body).to_bytes(4)], [0, 1, 2])
        connection.sendall(body)
        if connection.recv(1) == STARTED:
            connection.settimeout(None)
            return connection
    connection.close()
    return None


def stand_in(connection: socket.socket) -> int:
    """Forwards signals to the child until it ends, and returns its status."""

    def forward(number: int, _frame: object) -> None:
        with suppress(OSError):
            connection.send(bytes([number]))

    for number in FORWARDED:
        signal.signal(number, forward)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    with suppress(OSError):
        if status := connection.recv(1):
            return status[0]
    return 1


def _connect(connection: socket.socket, folder: str) -> None:
    here = os.open(".", os.O_RDONLY)
    os.chdir(folder)  # a socket's path may have 107 characters, a site's folder more
    try:
        connection.connect("warm.sock")
    finally:
        os.fchdir(here)
        os.close(here)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
