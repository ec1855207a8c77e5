"""Messages of secure aggregation: keys, shares, masked numbers, unmasking."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Self, TypeVar

from flwr.app import RecordDict

from shared_models.messages.arrays import Arrays
from shared_models.messages.fields import Named, Parts, data, names, text
from shared_models.messages.payload import Payload, Reply, Request, carries

SESSION, MEMBERS, SHAPES, SECRET = text(64), text(1_000_000), text(1_000_000), data(10_000)
MASKED = "masked"
R = TypeVar("R", bound=Reply)


@dataclass(frozen=True, kw_only=True)
class KeysReply(Payload):
    """A site announces itself for one sum."""

    member: str = carries(MEMBERS, "its public keys, signed, and the parts of the sum that it adds to")


@dataclass(frozen=True, kw_only=True)
class KeysRequest(Request[KeysReply]):
    """Asks who takes part in a sum."""

    KIND: ClassVar[str] = "query.keys"
    REPLY: ClassVar[type[Payload]] = KeysReply

    session: str = carries(SESSION, "the sum's own number")
    purpose: str = carries(text(64), "the message whose replies will be summed")


@dataclass(frozen=True, kw_only=True)
class SharesReply(Payload):
    """Shares of what a site's masks are made of."""

    envelopes: Mapping[str, bytes] = carries(Named(SECRET), "for each other site a share, encrypted for it")


@dataclass(frozen=True, kw_only=True)
class SharesRequest(Request[SharesReply]):
    """Tells who is in a sum, and asks for shares of their secrets."""

    KIND: ClassVar[str] = "query.shares"
    REPLY: ClassVar[type[Payload]] = SharesReply

    session: str = carries(SESSION, "the sum's own number")
    members: str = carries(MEMBERS, "all who announced themselves")


@dataclass(frozen=True, kw_only=True)
class UnmaskReply(Payload):
    """The shares that open a sum."""

    shares: Mapping[str, bytes] = carries(Named(SECRET), "a share of each member's mask, or of its key if it is gone")


@dataclass(frozen=True, kw_only=True)
class UnmaskRequest(Request[UnmaskReply]):
    """Asks for the shares that open the sum over those who are left."""

    KIND: ClassVar[str] = "query.unmask"
    REPLY: ClassVar[type[Payload]] = UnmaskReply

    session: str = carries(SESSION, "the sum's own number")
    survivors: tuple[str, ...] = carries(names(), "whose masked numbers have come")


@dataclass(frozen=True, kw_only=True)
class JoinSum(Payload):
    """What a request with secure sums holds besides: which sum it is for, and the others' shares."""

    session: str = carries(SESSION, "the sum's own number")
    envelopes: Mapping[str, bytes] = carries(Named(SECRET), "all shares, as `FROM>TO`, encrypted")

    def pack_with(self, request: Request[Any]) -> RecordDict:
        """A request of a sum."""
        parts = Parts()
        request.write_to(parts)
        self.write_to(parts)
        return parts.pack()


@dataclass(frozen=True)
class MaskedReply(Generic[R]):
    """A reply in a study with secure sums.

    Attributes:
        shown: What the center sees of this site alone; what is only summed is empty in it.
        masked: Masked numbers, which mean something in the sum alone.
        layout: Shapes of the arrays that they stand for, as JSON.
    """

    shown: R
    masked: Arrays
    layout: str

    def pack(self) -> RecordDict:
        """As Flower's records."""
        parts = Parts()
        self.shown.write_to(parts)
        parts.arrays[MASKED], parts.values["layout"] = self.masked, self.layout
        return parts.pack()

    @classmethod
    def unpack(cls, content: RecordDict, reply: type[R]) -> Self:
        """The inverse of `pack`.

        Raises:
            ValueError: As `Payload.unpack`.
        """
        parts = Parts.of(content)
        masked, layout = parts.take_arrays(MASKED), SHAPES.read("layout", parts)
        shown = reply.read_from(parts)
        parts.require_nothing_left()
        return cls(shown, masked, layout)
