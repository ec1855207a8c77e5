"""Messages of secure aggregation: what its protocol says (docs/secure_aggregation.md), as bytes that it reads itself.

Four of them go before and after the questions of the study: `query.enrol` and `query.deal` before the first one,
`query.confirm` and `query.open` after each. The question and its reply carry a part of it, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
from flwr.app import ConfigRecord, RecordDict

from shared_models.messages.fields import data, flag, whole
from shared_models.messages.parts import VALUES, Parts, refuse
from shared_models.messages.payload import Payload, Reply, Request, carries
from shared_models.secure_aggregation.wire import BLOCK, CONTROL, MAX_CONTROL_BYTES

PROTOCOL = data(MAX_CONTROL_BYTES)
MAX_ATTEMPT = 1_000_000
MASKED, CONTENT = "masked", "content"
R = TypeVar("R", bound=Reply)


@dataclass(frozen=True, kw_only=True)
class EnrolReply(Payload):
    """Who a site is, and its keys for the next sum."""

    content: bytes = carries(
        PROTOCOL,
        "its name, its public key, whether it has training, validation and test patients and of which modalities, and "
        "fresh public keys, signed",
    )


@dataclass(frozen=True, kw_only=True)
class EnrolRequest(Request[EnrolReply]):
    """Asks who takes part."""

    KIND: ClassVar[str] = "query.enrol"
    REPLY: ClassVar[type[Payload]] = EnrolReply

    content: bytes = carries(PROTOCOL, "the run, and the number of the sum")


@dataclass(frozen=True, kw_only=True)
class DealReply(Payload):
    """Shares of what a site's masks are made of."""

    content: bytes = carries(PROTOCOL, "for each other hospital a share, encrypted for it; commitments to them, signed")
    verified: bool = carries(flag(), "whether it has the other hospitals' public keys from themselves")


@dataclass(frozen=True, kw_only=True)
class DealRequest(Request[DealReply]):
    """Tells who takes part, and asks for shares of their secrets."""

    KIND: ClassVar[str] = "query.deal"
    REPLY: ClassVar[type[Payload]] = DealReply

    content: bytes = carries(PROTOCOL, "all who enrolled, and their keys, as they signed them")


@dataclass(frozen=True, kw_only=True)
class ConfirmReply(Payload):
    """A site's agreement on whom a sum is over."""

    content: bytes = carries(PROTOCOL, "its signature; shares for the next sum, as in `query.deal`")


@dataclass(frozen=True, kw_only=True)
class ConfirmRequest(Request[ConfirmReply]):
    """Tells whose masked numbers have come."""

    KIND: ClassVar[str] = "query.confirm"
    REPLY: ClassVar[type[Payload]] = ConfirmReply

    content: bytes = carries(PROTOCOL, "whose masked numbers have come, what they signed, and keys for the next sum")


@dataclass(frozen=True, kw_only=True)
class OpenReply(Payload):
    """The shares that open a sum."""

    content: bytes = carries(PROTOCOL, "shares of the masks of those who are in the sum, and of the keys of others")


@dataclass(frozen=True, kw_only=True)
class OpenRequest(Request[OpenReply]):
    """Asks for the shares that open the sum."""

    KIND: ClassVar[str] = "query.open"
    REPLY: ClassVar[type[Payload]] = OpenReply

    content: bytes = carries(PROTOCOL, "the signatures of those who agree on whom it is over")


EXCHANGES: tuple[type[Request[Any]], ...] = (EnrolRequest, DealRequest, ConfirmRequest, OpenRequest)


@dataclass(frozen=True, kw_only=True)
class JoinSum(Payload):
    """What a question holds besides, for a site whose answer is added up."""

    content: bytes = carries(PROTOCOL, "the number of the sum, all deals, and the others' shares for this hospital")
    attempt: int = carries(whole(1, MAX_ATTEMPT), "how often this has been asked")

    @classmethod
    def read_if_there(cls, parts: Parts) -> Self | None:
        """Takes it out of a question's parts; None where the question comes without it."""
        return cls.read_from(parts) if CONTENT in parts.values else None

    def pack_with(self, question: RecordDict) -> RecordDict:
        """A packed question with it; the arrays are those of the question itself, in memory once for all sites."""
        values, own = question[VALUES], Parts()
        assert isinstance(values, ConfigRecord)
        self.write_to(own)
        return RecordDict({**question, VALUES: ConfigRecord({**values, **own.values})})


@dataclass(frozen=True)
class MaskedReply(Generic[R]):
    """A reply whose numbers are added up.

    Attributes:
        shown: What the center sees of this site alone; what is only summed is empty in it.
        message: What the protocol says, with the masked numbers, which mean something in the sum alone.
    """

    shown: R
    message: Mapping[str, bytes]

    def pack(self) -> RecordDict:
        """As Flower's records: the masked numbers as arrays of bytes, which it sends in pieces."""
        parts = Parts()
        self.shown.write_to(parts)
        parts.values[CONTENT] = self.message[CONTROL]
        blocks = {name.removeprefix(BLOCK): block for name, block in self.message.items() if name != CONTROL}
        parts.arrays[MASKED] = {group: np.frombuffer(block, np.uint8) for group, block in blocks.items()}
        return parts.pack()

    @classmethod
    def unpack(cls, content: RecordDict, reply: type[R]) -> Self:
        """The inverse of `pack`.

        Raises:
            ValueError: As `Payload.unpack`.
        """
        parts = Parts.of(content)
        message = {CONTROL: PROTOCOL.read(CONTENT, parts)}
        for group, block in parts.take_arrays(MASKED).items():
            if block.dtype != np.uint8 or block.ndim != 1:
                refuse(f"the masked numbers are {block.dtype}{block.shape}, expected bytes")
            message[f"{BLOCK}{group}"] = block.tobytes()
        shown = reply.read_from(parts)
        parts.require_nothing_left()
        return cls(shown, message)
