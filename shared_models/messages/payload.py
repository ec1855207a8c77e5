"""A message as a frozen dataclass whose fields say how they travel, and to people what leaves a hospital and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar, cast

from flwr.app import RecordDict

from shared_models.messages.arrays import Arrays
from shared_models.messages.fields import Kind, TableSums, Tensors
from shared_models.messages.parts import Parts

RELEASE = "release"
"""What the center adds to every request: `release.py`."""
InSums = Literal["shown", "yes or no", "summed"]
"""What the center sees of each site in a study with secure aggregation: all, only whether there are any, or nothing."""


def carries(kind: Kind, what: str, **default: Any) -> Any:
    """A field of a request.

    Args:
        kind: How it travels, and what it may be.
        what: What it is, for the table of messages.
        default: Of a field that most studies leave empty, its `default_factory`.
    """
    return dataclasses.field(metadata={"kind": kind, "what": what}, **default)


def leaves(kind: Kind, what: str, why: str, in_sums: InSums = "shown", **default: Any) -> Any:
    """A field of a reply: something that leaves a hospital.

    Args:
        kind: How it travels, and what it may be.
        what: What leaves, in the hospital's words.
        why: What the center does with it.
        in_sums: What the center sees of it in a study with secure aggregation.
        default: Of a field that most studies leave empty, its `default_factory`.
    """
    return dataclasses.field(metadata={"kind": kind, "what": what, "why": why, "in_sums": in_sums}, **default)


class Payload:
    """What a message holds; a frozen dataclass of fields made by `carries` or `leaves`."""

    def pack(self) -> RecordDict:
        """As Flower's records."""
        parts = Parts()
        self.write_to(parts)
        return parts.pack()

    @classmethod
    def unpack(cls, content: RecordDict) -> Self:
        """The inverse of `pack`.

        Raises:
            ValueError: If anything is missing, too much, of another type, out of its bounds or not finite.
        """
        parts = Parts.of(content)
        payload = cls.read_from(parts)
        parts.require_nothing_left()
        return payload

    def write_to(self, parts: Parts) -> None:
        """Adds this payload to a message's parts."""
        for name, facts in fields_of(type(self)).items():
            facts["kind"].write(name, getattr(self, name), parts)

    @classmethod
    def read_from(cls, parts: Parts) -> Self:
        """Takes this payload out of a message's parts.

        Raises:
            ValueError: As `unpack`.
        """
        return cls(**{name: facts["kind"].read(name, parts) for name, facts in fields_of(cls).items()})


P_co = TypeVar("P_co", bound=Payload, covariant=True)


class Request(Payload, Generic[P_co]):
    """What the center asks of a site.

    Attributes:
        KIND: Flower's message type.
        REPLY: What answers it.
        round: The round that it belongs to; 0 before the first, and where it belongs to none.
    """

    KIND: ClassVar[str]
    REPLY: ClassVar[type[Payload]]
    round: int = 0

    @classmethod
    def unpack(cls, content: RecordDict) -> Self:
        """The inverse of `pack`; a request may also say the release that it comes from.

        Raises:
            ValueError: As that of any payload.
        """
        parts = Parts.of(content)
        parts.values.pop(RELEASE, None)
        request = cls.read_from(parts)
        parts.require_nothing_left()
        return request

    @property
    def question(self) -> str:
        """SHA-256 of what is asked of patients; empty where that is always the same."""
        return ""

    @property
    def frozen_hash(self) -> str:
        """Hash of what the study has frozen before round 1; empty before there is anything."""
        return ""

    @property
    def reply_kind(self) -> type[P_co]:
        """`REPLY`, as its own type."""
        return cast("type[P_co]", self.REPLY)


class Reply(Payload):
    """What a site answers: all that leaves it.

    Attributes:
        WHEN: When that is, in the hospital's words.
    """

    WHEN: ClassVar[str]

    def to_sum(self) -> dict[str, Arrays]:
        """The arrays that a study with secure aggregation adds up, by field."""
        return {name: _parts_of(self, name).arrays[name] for name in self.summed_arrays()}

    @classmethod
    def summed_arrays(cls) -> list[str]:
        """The fields whose arrays are added up."""
        arrays = (Tensors, TableSums)
        fields = fields_of(cls).items()
        return [name for name, facts in fields if facts["in_sums"] == "summed" and isinstance(facts["kind"], arrays)]

    def without_sums(self) -> Self:
        """What the center sees of this site alone in a study with secure aggregation."""
        shown: dict[str, Any] = {}
        for name, facts in fields_of(type(self)).items():
            if facts["in_sums"] == "summed":
                shown[name] = facts["kind"].empty
            elif facts["in_sums"] == "yes or no":
                shown[name] = {key: min(count, 1) for key, count in getattr(self, name).items()}
        return dataclasses.replace(self, **shown)  # type: ignore[type-var]

    @classmethod
    def of_sum(cls, arrays: Mapping[str, Arrays], **values: Any) -> Self:
        """A reply made of sums over sites; fields that are not among them are empty.

        Raises:
            ValueError: If the arrays are not those of such a reply.
        """
        parts = Parts(arrays={name: dict(named) for name, named in arrays.items()})
        kinds = {name: facts["kind"] for name, facts in fields_of(cls).items()}
        read = {name: kinds[name].read(name, parts) for name in cls.summed_arrays()}
        return cls(**{**{name: kind.empty for name, kind in kinds.items()}, **read, **values})


def fields_of(payload: type[Payload]) -> dict[str, Mapping[str, Any]]:
    """The fields of a payload by name: their `kind`, `what`, and for a reply `why` and `in_sums`."""
    return {field.name: field.metadata for field in dataclasses.fields(payload)}  # type: ignore[arg-type]


def _parts_of(reply: Reply, name: str) -> Parts:
    parts = Parts()
    fields_of(type(reply))[name]["kind"].write(name, getattr(reply, name), parts)
    return parts
