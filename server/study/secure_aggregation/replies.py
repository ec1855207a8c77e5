"""Replies to secure aggregation, read at the center: an invalid reply is an error, never a crash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from shared_models.secure_aggregation import wire
from shared_models.secure_aggregation.blame import Share, read_share
from shared_models.secure_aggregation.encoding import Block
from shared_models.secure_aggregation.layout import Layout
from shared_models.secure_aggregation.membership import require
from shared_models.secure_aggregation.signing import SIGNATURE_BYTES, Signed, digest, read_signed, verify
from shared_models.secure_aggregation.statements import Deal, Enrolment, Keys, Statement
from shared_models.secure_aggregation.wire import BLOCK, Message

MAX_ENVELOPE_BYTES = 2**20
Envelopes = dict[str, str]


@dataclass(frozen=True)
class Enrolled:
    """A reply to `enrol`; the roster is empty until the site knows one."""

    enrolment: Signed[Enrolment]
    keys: Signed[Keys]
    roster: tuple[Signed[Enrolment], ...]

    @classmethod
    def read(cls, message: Message) -> Enrolled:
        """From a reply.

        Raises:
            ProtocolError: If it is none.
        """
        parts = wire.unpack(message, "enrolment", "keys", "roster")
        roster = tuple(read_signed(entry, Enrolment) for entry in wire.listed(parts["roster"]))
        return cls(read_signed(parts["enrolment"], Enrolment), read_signed(parts["keys"], Keys), roster)


@dataclass(frozen=True)
class Masked:
    """A reply to `answer`.

    Attributes:
        sizes: Bytes of its block of each group.
        message: Where the blocks are; they may lie on disk, so one is taken at a time.
    """

    signature: str
    complaints: tuple[str, ...]
    layout: Layout
    keys: Signed[Keys] | None
    sizes: Mapping[str, int]
    message: Message

    @classmethod
    def read(cls, message: Message) -> Masked:
        """From a reply; what it signed is checked once the layout is known."""
        parts = wire.unpack(message, "signature", "complaints", "layout", "keys", blocks=True)
        return cls(
            wire.hexadecimal(parts["signature"], *SIGNATURE_BYTES),
            wire.names(parts["complaints"]),
            Layout.read(parts["layout"]),
            None if parts["keys"] is None else read_signed(parts["keys"], Keys),
            wire.block_sizes(message),
            message,
        )

    def block(self, group: str) -> Block:
        """Its masked numbers of a group.

        Raises:
            ProtocolError: If they are not so many as its layout says.
        """
        return Block.unpack(self.message[f"{BLOCK}{group}"], *self.layout.sizes(group))


def read_deal(value: object, envelopes: object) -> tuple[Signed[Deal], Envelopes]:
    """A deal, with the envelopes that it names."""
    signed: Signed[Deal] = read_signed(value, Deal)
    sealed = {
        name: wire.hexadecimal(envelope, 0, MAX_ENVELOPE_BYTES) for name, envelope in wire.mapped(envelopes).items()
    }
    hashes = {name: wire.hashed(bytes.fromhex(envelope)) for name, envelope in sealed.items()}
    require(hashes == signed.statement.envelopes, "its envelopes are not those that it signed")
    return signed, sealed


def read_confirmed(
    message: Message, node_key: str, statement: Statement
) -> tuple[str, tuple[Signed[Deal], Envelopes] | None]:
    """A signature of S, and the next deal if there is one."""
    parts = wire.unpack(message, "signature", "deal", "envelopes")
    signature = wire.hexadecimal(parts["signature"], *SIGNATURE_BYTES)
    require(verify(node_key, statement, signature), "it did not sign over which sites the sum is")
    return signature, None if parts["deal"] is None else read_deal(parts["deal"], parts["envelopes"])


def read_shares(message: Message) -> dict[str, dict[str, Share]]:
    """Shares by dealer and secret."""
    by_dealer = wire.mapped(wire.unpack(message, "shares")["shares"])
    return {
        name: {secret: read_share(share) for secret, share in wire.mapped(shares).items()}
        for name, shares in by_dealer.items()
    }


@dataclass
class Dealt:
    """All that must be there before a question: keys and deals of the sites that are present."""

    kind: str
    keys: dict[str, Signed[Keys]]
    deals: dict[str, Signed[Deal]] = field(default_factory=dict)
    envelopes: dict[str, Envelopes] = field(default_factory=dict)

    @property
    def statements(self) -> Sequence[Keys]:
        """All K, by name."""
        return [self.keys[name].statement for name in sorted(self.keys)]

    @property
    def number(self) -> int:
        """Of the sum."""
        return self.statements[0].sum

    @property
    def present(self) -> Mapping[str, str]:
        """H(D) by site."""
        return {name: digest(deal.statement) for name, deal in self.deals.items()}

    def request_to(self, name: str) -> Message:
        """Of exchange 3."""
        envelopes = {dealer: self.envelopes[dealer][name] for dealer in self.deals if dealer != name}
        deals = [deal.to_json() for deal in self.deals.values()]
        return wire.pack({"sum": self.number, "deals": deals, "envelopes": envelopes})
