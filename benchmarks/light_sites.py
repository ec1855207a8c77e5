"""Light sites for the center's memory: they answer at once, with weights that nobody trained."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.clientapp import ClientApp

from client.governance.secure_aggregation import exchanges
from client.governance.secure_aggregation.record import Record
from client.governance.secure_aggregation.sum_session import Session, Site
from shared_models.messages import Arrays, FromRelease, InFold, JoinSum, MaskedReply, Request, TrainReply, TrainRequest
from shared_models.messages.arrays import PACKED
from shared_models.messages.parts import Parts
from shared_models.messages.secure import EXCHANGES
from shared_models.secure_aggregation.groups import TRAIN
from shared_models.secure_aggregation.layout import LOSS, PATIENTS, Contribution
from shared_models.secure_aggregation.statements import Facts
from shared_models.secure_aggregation.study import question_of, terms_of
from shared_models.secure_aggregation.wire import CONTROL
from shared_models.study_settings import StudySettings
from simulation.engines.in_process_grid import InProcessGrid

SITE_PATIENTS, MODALITY = 50, "mammography"
STEPS = {kind.KIND: kind for kind in EXCHANGES}


def names_of(count: int) -> list[str]:
    """Names of so many sites."""
    return [f"site{number:02d}" for number in range(count)]


class LightSites(InProcessGrid):
    """Sites that answer each question with the same reply, whose arrays lie in files.

    Args:
        count: How many.
        reply: The reply.
        folder: Where its arrays are.
    """

    def __init__(self, count: int, reply: TrainReply, folder: Path) -> None:
        super().__init__(ClientApp(), {name: Path() for name in names_of(count)}, {})
        packed = reply.pack()
        self._others = RecordDict(
            {name: record for name, record in packed.items() if not isinstance(record, ArrayRecord)}
        )
        self._files = {name: folder / name for name in packed.array_records}
        for name, file in self._files.items():
            file.write_bytes(b"".join(array.data for array in packed.array_records[name].values()))

    def _handle(self, message: Message) -> Message:
        content = RecordDict(dict(self._others))
        for name, file in self._files.items():
            data = file.read_bytes()
            content[name] = ArrayRecord({PACKED: Array("uint8", (len(data),), "safetensors", data)} if data else {})
        return Message(content, reply_to=message)


class SecureLightSites(InProcessGrid):
    """Sites that mask the same change by the protocol's own code, in a process of their own.

    Args:
        count: How many.
        change: Of each weight.
        config: The study.
        folder: Where the sites' records are.
    """

    def __init__(self, count: int, change: Arrays, config: StudySettings, folder: Path) -> None:
        super().__init__(ClientApp(), {name: Path() for name in names_of(count)}, {})
        self._connection, far_end = multiprocessing.Pipe()
        context, arguments = multiprocessing.get_context("spawn"), (far_end, count, change, config, folder)
        context.Process(target=serve, args=arguments, daemon=True).start()

    def _handle(self, message: Message) -> Message:
        name = self._names[message.metadata.dst_node_id]
        self._connection.send((name, message.metadata.message_type, message.content))
        return Message(self._connection.recv(), reply_to=message)


def serve(connection: Connection, count: int, change: Arrays, config: StudySettings, folder: Path) -> None:
    """Answers for all sites until the other end is closed."""
    terms, facts = terms_of(config), Facts(trains=True, validation=False, test=False, modalities=(MODALITY,))
    sites = {
        name: Site(name, facts, ec.generate_private_key(ec.SECP384R1()), terms, Record(folder / name, terms.approval))
        for name in names_of(count)
    }
    sessions = {name: Session() for name in sites}
    while True:
        try:
            name, kind, content = connection.recv()
        except EOFError:
            return
        connection.send(answer(sites[name], sessions[name], kind, content, change))


def answer(site: Site, session: Session, kind: str, content: RecordDict, change: Arrays) -> RecordDict:
    """What a site answers to one message."""
    parts = Parts.of(content)
    FromRelease.read_if_there(parts)
    InFold.read_if_there(parts)
    if kind in STEPS:
        request: Request[Any] = STEPS[kind].read_from(parts)
        step = getattr(exchanges, {"open": "open_sum"}.get(name := kind.removeprefix("query."), name))
        reply, facts = step(site, session, {CONTROL: request.content})  # type: ignore[attr-defined]
        more = {"verified": bool(facts.get("verified"))} if name == "deal" else {}
        packed: RecordDict = STEPS[kind].REPLY(content=reply[CONTROL], **more).pack()  # type: ignore[call-arg]
        return packed
    question = TrainRequest.read_from(parts)
    joining = JoinSum.read_from(parts)
    patients = {TRAIN: float(SITE_PATIENTS), MODALITY: float(SITE_PATIENTS)}
    statistics = {f"{PATIENTS}.{group}": np.array(count) for group, count in patients.items()}
    contribution = Contribution(change, {**statistics, LOSS: np.array(0.5 * SITE_PATIENTS)}, patients)
    asked = question_of(question, joining.attempt)
    reply, _ = exchanges.answer(site, session, {CONTROL: joining.content}, asked, lambda: contribution)
    shown = TrainReply(model=change, patients=SITE_PATIENTS, loss=0.5, validation={}).without_sums()
    return MaskedReply(shown, reply).pack()
