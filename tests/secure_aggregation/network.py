"""An honest center's way to the sites of a federation, on which messages are lost and sites answer nonsense."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from federation import Federation, federation, numbers

from client.governance.secure_aggregation.sum_session import Session
from server.study.secure_aggregation.summing import Opened, SecureAggregation
from shared_models.secure_aggregation import wire
from shared_models.secure_aggregation.question import Question
from shared_models.secure_aggregation.wire import Message, ProtocolError


@dataclass
class Network:
    """The way from an honest center to the sites of a federation.

    Attributes:
        world: The sites.
        lost: Exchanges in which a site is not reached, by name.
        tamper: What a site's program makes of its reply.
        around: What goes on around one site's answer.
        asked: Exchanges so far.
    """

    world: Federation
    lost: Callable[[str, str], bool] = lambda exchange, name: False
    tamper: Callable[[str, str, Message], Message] = lambda exchange, name, reply: reply
    around: Callable[[str, str], AbstractContextManager[Any]] = lambda exchange, name: nullcontext()
    asked: list[str] = field(default_factory=list)

    def asking(self, value: Question) -> Callable[[str, dict[str, Message]], dict[str, Message | str]]:
        """How to ask sites in the exchanges of one question."""

        def ask(exchange: str, requests: dict[str, Message]) -> dict[str, Message | str]:
            self.asked.append(exchange)
            reached = [name for name in requests if not self.lost(exchange, name)]
            return {name: self._reply(exchange, name, requests[name], value) for name in reached}

        return ask

    def _reply(self, exchange: str, name: str, request: Message, value: Question) -> Message | str:
        world = self.world
        with self.around(exchange, name):
            try:
                session = Session.unpack(world.sessions[name].pack())
                reply = world.send(exchange, name, request, value, session)
            except ProtocolError as error:
                return str(error)
        world.sessions[name] = session
        return self.tamper(exchange, name, reply)


def plain_sum(names: Sequence[str], value: Question) -> tuple[dict[str, Any], dict[str, Any]]:
    """Updates times patients and statistics of all groups, summed in the open."""
    parts = [numbers(name, value) for name in names]
    weights = {"w": 5, "encoders.genomic.w": 3}
    updates = {name: sum(part.updates[name] * weights[name] for part in parts) for name in parts[0].updates}
    return updates, {name: sum(part.statistics[name] for part in parts) for name in parts[0].statistics}


def assert_exact(opened: Opened, value: Question) -> None:
    """Every open group's sum is that of its members among the survivors."""
    for group, block in opened.blocks.items():
        updates, statistics = opened.layout.named(group, block)
        expected = plain_sum(opened.groups[group], value)
        for actual, plain, accuracy in ((updates, expected[0], 2.0**-20), (statistics, expected[1], 1e-12)):
            for name, array in actual.items():
                np.testing.assert_allclose(array, plain[name], rtol=0, atol=accuracy, err_msg=name)


def world_of(folder: Path, sites: int, colluders: int) -> Federation:
    return federation(folder, sites, colluders=colluders)


def run_of(world: Federation) -> SecureAggregation:
    return SecureAggregation(world.terms, "1")


def spoil(field: str, value: object) -> Callable[[Message], Message]:
    def change(reply: Message) -> Message:
        control = wire.parse(reply["control"])
        return {**reply, "control": wire.canonical({**control, field: value})}

    return change
