"""Message with masked numbers that lie on disk: of all sites together they would take the center's memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from server.study.weights.spool import Spool
from shared_models.secure_aggregation.wire import CONTROL, Message


class SpooledMessage(Mapping[str, bytes]):
    """A message whose blocks are read from a spool, each time that one is asked for.

    They cannot be added up as they come: over which sites the sum is, and what its numbers mean, is known when all
    answers are there.
    """

    def __init__(self, message: Message, spool: Spool) -> None:
        self._control = message[CONTROL]
        blocks = {name: np.frombuffer(block, np.uint8) for name, block in message.items() if name != CONTROL}
        self._blocks = spool.store(blocks)

    def __getitem__(self, name: str) -> bytes:
        """A part of it."""
        return self._control if name == CONTROL else self._blocks[name].tobytes()

    def __iter__(self) -> Iterator[str]:
        """Names of its parts."""
        return iter((CONTROL, *self._blocks))

    def __len__(self) -> int:
        """How many there are."""
        return 1 + len(self._blocks)
