"""Line of a site to its center that can be cut, slowed or broken: a relay of TCP on this machine."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from typing import Literal

CHUNK_BYTES = 16 * 1024
SLOW_BYTES_PER_S = 50_000  # an answer of a small study takes seconds
BREAKS_AFTER_BYTES = 40_000  # within an answer, at most
State = Literal["open", "cut", "stalled", "slow", "breaking"]


class Line:
    """A relay from a port of its own to the center's.

    Args:
        port: The center's, on this machine.

    Attributes:
        port: Where the site connects to.
        state: Whether bytes pass: `cut` closes and refuses connections, `stalled` holds their bytes back, `slow` lets
            `SLOW_BYTES_PER_S` through, `breaking` closes each connection in the middle of what it carries.
    """

    def __init__(self, port: int) -> None:
        self._center, self._listener = port, socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.state: State = "open"
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def become(self, state: State) -> None:
        """From now on; `cut` ends the connections that are there."""
        self.state = state
        if state == "cut":
            for connection in list(self._open):
                _close(connection)

    def _accept(self) -> None:
        while True:
            site, _ = self._listener.accept()
            if self.state == "cut":
                _close(site)
                continue
            try:
                center = socket.create_connection(("127.0.0.1", self._center))
            except OSError:  # the center's proxy is away
                _close(site)
                continue
            self._open |= {site, center}
            for one, other in ((site, center), (center, site)):
                threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        left = random.randrange(1, BREAKS_AFTER_BYTES)
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                while self.state == "stalled":
                    time.sleep(0.05)
                if self.state == "slow":
                    time.sleep(len(data) / SLOW_BYTES_PER_S)
                if self.state == "breaking" and (left := left - len(data)) < 0:
                    break
                target.sendall(data)
        for connection in (source, target):
            self._open.discard(connection)
            _close(connection)


def _close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
