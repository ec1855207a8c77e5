"""Sites of a federation by their real code, of which some tell a hostile center all that they know.

The center's knowledge is kept as it grows: all replies, all secrets of corrupt sites, and of every masked block which
masks are in it, by the very bytes of their keys.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec

from client.governance.secure_aggregation.exchanges import answer, confirm, deal, enrol, open_sum
from client.governance.secure_aggregation.record import Record
from client.governance.secure_aggregation.sum_session import Session, Site, Sum
from shared_models.secure_aggregation import wire
from shared_models.secure_aggregation.blame import Share
from shared_models.secure_aggregation.encoding import Block
from shared_models.secure_aggregation.layout import Contribution
from shared_models.secure_aggregation.parameters import Terms
from shared_models.secure_aggregation.question import Question
from shared_models.secure_aggregation.secrets import compressed
from shared_models.secure_aggregation.signing import digest, read_signed
from shared_models.secure_aggregation.statements import Deal, Facts, Keys, Survivors, View
from shared_models.secure_aggregation.wire import Message, ProtocolError

ALL = Facts(True, True, True, ("genomic",), ("test.x", "validation.x"))
EXCHANGES = {"enrol": enrol, "deal": deal, "confirm": confirm, "open": open_sum}
_files = itertools.count()


@cache
def node_key(name: str) -> ec.EllipticCurvePrivateKey:
    """A site's node key; making one takes time."""
    return ec.generate_private_key(ec.SECP384R1())


def point(name: str) -> str:
    """Its public half."""
    return compressed(node_key(name).public_key())


def question(kind: str = "train", round_: int = 1, attempt: int = 1, model: float = 1.0, **values: Any) -> Question:
    """A question over a model of one number."""
    return Question.of(kind, round_, attempt, {"w": np.array([model])}, {}, values)


def numbers(name: str, value: Question) -> Contribution:
    """What a site contributes, the same for the same model."""
    chance = np.random.default_rng([*name.encode(), int(value.model[:8], 16)])
    training = value.kind in ("train", "query.prepare")
    updates = {"w": chance.normal(size=2), "encoders.genomic.w": chance.normal(size=2)} if value.kind == "train" else {}
    statistics = {"patients.train": np.array(5.0), "patients.genomic": np.array(3.0)} if training else {}
    if value.kind in ("train", "evaluate.validation"):
        statistics["validation.x"] = chance.normal(size=2)
    if value.kind == "evaluate.test":
        statistics["test.x"] = chance.normal(size=2)
    return Contribution(updates, statistics, {"train": 5, "genomic": 3})


@dataclass(frozen=True)
class Event:
    """One site's masked answer, as it reached the center.

    Attributes:
        site: Whose.
        own: H(K).
        view: What it saw.
        question: Over which.
        masks: By group, keys and signs of the masks in its block.
        points: Mask keys of all sites, as it was told.
    """

    site: str
    own: str
    view: View
    question: Question
    masks: dict[str, list[tuple[bytes, int]]]
    points: dict[str, str]


@dataclass
class Federation:
    """Sites, those that are corrupt, and what the center has seen."""

    folder: Path
    facts: dict[str, Facts]
    corrupt: frozenset[str]
    terms: Terms = field(default_factory=lambda: Terms("ab" * 32, 1, 9))
    partners: bool = True
    events: list[Event] = field(default_factory=list)
    keys: dict[str, Keys] = field(default_factory=dict)
    deals: dict[str, Deal] = field(default_factory=dict)
    shares: dict[tuple[str, str, str], Share] = field(default_factory=dict)
    confirmed: list[tuple[str, Survivors]] = field(default_factory=list)
    released: list[tuple[str, View, Survivors]] = field(default_factory=list)
    private: dict[str, bytes] = field(default_factory=dict)
    refusals: list[tuple[str, str]] = field(default_factory=list)
    refuses: tuple[type[Exception], ...] = (ProtocolError,)
    contribute: Callable[[str, Question], Contribution] = numbers

    def __post_init__(self) -> None:
        number = next(_files)
        known = {name: point(name) for name in self.facts} if self.partners else {}
        self.sites = {
            name: Site(
                name,
                facts,
                node_key(name),
                self.terms,
                Record(self.folder / f"{number}-{name}.sqlite", self.terms.approval),
                {other: key for other, key in known.items() if other != name},
                self.partners,
            )
            for name, facts in self.facts.items()
        }
        self.sessions = {name: Session() for name in self.facts}

    @property
    def honest(self) -> list[str]:
        """Names of the sites that are not corrupt."""
        return [name for name in self.facts if name not in self.corrupt]

    def ask(
        self, exchange: str, name: str, request: Message, asked: Question | None = None, session: Session | None = None
    ) -> dict[str, Any] | None:
        """What one site answers to one message; None: it refused."""
        try:
            reply = self.send(exchange, name, request, asked, session or self.sessions[name])
        except self.refuses as error:
            self.refusals.append((exchange, str(error)))
            return None
        return dict(wire.parse(reply["control"]))

    def send(self, exchange: str, name: str, request: Message, asked: Question | None, session: Session) -> Message:
        """One message to one site, of whose reply the center learns."""
        if exchange == "answer":
            assert asked is not None
            return self._answer(name, session, request, asked)
        reply, _ = EXCHANGES[exchange](self.sites[name], session, request)
        self._learn(exchange, name, session, wire.parse(reply["control"]), wire.parse(request["control"])["sum"])
        return reply

    def _answer(self, name: str, session: Session, request: Message, asked: Question) -> Message:
        with _watched() as masks:
            reply, audit = answer(self.sites[name], session, request, asked, lambda _: self.contribute(name, asked))
        known = session.sums[audit["sum"]]
        if "repeated" not in audit:
            assert known.view is not None
            points = {keys.name: keys.mask_key for keys in known.keys}
            self.events.append(Event(name, digest(known.own.statement), known.view, asked, dict(masks), points))
            self._hold(name, known)
        self._store_keys(name, session, wire.parse(reply["control"])["keys"])
        return reply

    def _learn(self, exchange: str, name: str, session: Session, control: dict[str, Any], number: int) -> None:
        self._store_keys(name, session, control.get("keys"))
        if control.get("deal"):
            signed: Deal = read_signed(control["deal"], Deal).statement
            self.deals[signed.own_keys] = signed
            for known in session.sums.values():
                self._hold(name, known)
        known = session.sums[number]
        if exchange == "confirm":
            assert known.survivors is not None
            self.confirmed.append((digest(known.own.statement), known.survivors))
        if exchange == "open":
            assert known.view is not None
            assert known.survivors is not None
            self.released.append((name, known.view, known.survivors))
            own = {keys.name: digest(keys) for keys in known.keys}
            for dealer, shares in control["shares"].items():
                for secret, (salt, share) in shares.items():
                    self.shares[own[dealer], secret, name] = (bytes.fromhex(salt), bytes.fromhex(share))

    def _store_keys(self, name: str, session: Session, keys: Any) -> None:
        if keys:
            statement = read_signed(keys, Keys).statement
            self.keys[digest(statement)] = statement
            if name in self.corrupt:
                self.private |= {k.own.statement.mask_key: k.mask_key for k in session.sums.values()}

    def _hold(self, name: str, known: Sum) -> None:
        """What a corrupt site holds, the center holds."""
        own = {keys.name: digest(keys) for keys in known.keys}
        for dealer, shares in known.shares.items() if name in self.corrupt else ():
            for secret, share in shares.items():
                self.shares[own[dealer], secret, name] = share

    def fork(self, name: str) -> Session:
        """The memory of a site as a second process finds it."""
        return Session.unpack(self.sessions[name].pack())

    def restart(self, name: str) -> None:
        """A site forgets all that is not on its disk."""
        self.sessions[name] = Session()


@contextmanager
def _watched() -> Iterator[dict[str, list[tuple[bytes, int]]]]:
    """The masks that go into the blocks of one answer, by group."""
    written: dict[str, list[tuple[bytes, int]]] = {}
    plain_block, plain_mask = Contribution.block, Block.plus_mask

    def block(self: Contribution, group: str, terms: Terms) -> Block:
        written[group] = []
        return plain_block(self, group, terms)

    def plus_mask(self: Block, key: bytes, sign: int = 1) -> Block:
        written[list(written)[-1]].append((key, sign))
        return plain_mask(self, key, sign)

    Contribution.block, Block.plus_mask = block, plus_mask  # type: ignore[method-assign]
    try:
        yield written
    finally:
        Contribution.block, Block.plus_mask = plain_block, plain_mask  # type: ignore[method-assign]


def federation(folder: Path, sites: int, corrupt: int = 0, **terms: Any) -> Federation:
    """Sites `s0`, `s1`, ..., all with everything; the last ones are corrupt."""
    names = [f"s{index}" for index in range(sites)]
    approved = replace(Terms("ab" * 32, max(1, corrupt), 9), **terms)
    return Federation(folder, dict.fromkeys(names, ALL), frozenset(names[sites - corrupt :]), approved)


def with_groups(folder: Path, sites: int, corrupt: int, members: int, **terms: Any) -> Federation:
    """The same, of which only the first honest sites and the corrupt ones have `genomic` and know the target `x`."""
    world = federation(folder, sites, corrupt, **terms)
    bare = replace(ALL, modalities=(), known=())
    return replace(world, facts={n: bare if n in world.honest[members:] else ALL for n in world.facts})


def pick(names: Sequence[str], without: str) -> list[str]:
    """All names but one."""
    return [name for name in names if name != without]
