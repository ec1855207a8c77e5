"""Signed statements of sites in secure aggregation: enrolment, keys, deal, view and survivors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

from shared_models.secure_aggregation import wire
from shared_models.secure_aggregation.parameters import MAX_SITES

POINT_BYTES = 49
"""Of a compressed point of P-384."""
MAX_SUM = 2**53
MAX_MODALITIES, MAX_KNOWN = 32, 96
"""Of one site: its deal, which all others must read, grows with them."""


class Statement(Protocol):
    """One of the five."""

    kind: ClassVar[str]


@dataclass(frozen=True)
class Facts:
    """From which it follows, by code, in what a site takes part and which groups it adds to.

    Attributes:
        trains: It has training patients, and is not one that only evaluates.
        validation: It has validation patients.
        test: It has test patients.
        modalities: That some of its training patients have.
        known: `PART.TARGET` of each target that is known of some patients of a part of its split, and `test.TABLE` of
            each table that some of its training or test patients have, `test.tested.TABLE` of its test patients.
    """

    trains: bool
    validation: bool
    test: bool
    modalities: tuple[str, ...] = ()
    known: tuple[str, ...] = ()

    @classmethod
    def read(cls, value: object) -> Facts:
        """From JSON."""
        fields = wire.fields(value, "trains", "validation", "test", "modalities", "known")
        trains, validation, test = (wire.truth(fields[part]) for part in ("trains", "validation", "test"))
        modalities, known = wire.names(fields["modalities"]), wire.names(fields["known"])
        if len(modalities) > MAX_MODALITIES or len(known) > MAX_KNOWN:
            msg = f"a site has more than {MAX_MODALITIES} modalities, or {MAX_KNOWN} targets and tables in its parts"
            raise wire.ProtocolError(msg)
        return cls(trains, validation, test, modalities, known)


@dataclass(frozen=True)
class Enrolment:
    """E: who a site is in one approval, for good.

    Attributes:
        approval: Hash of the settings that were approved.
        name: Of the site.
        node_key: Its public key, a compressed point of P-384.
        facts: What it has.
    """

    kind: ClassVar[str] = "E"
    approval: str
    name: str
    node_key: str
    facts: Facts

    @classmethod
    def read(cls, value: object) -> Enrolment:
        """From JSON."""
        fields = wire.fields(value, "approval", "name", "node_key", "facts")
        key = wire.hexadecimal(fields["node_key"], POINT_BYTES)
        return cls(wire.hash_of(fields["approval"]), wire.name(fields["name"]), key, Facts.read(fields["facts"]))


@dataclass(frozen=True)
class Keys:
    """K: fresh public keys of a site, for one sum.

    Attributes:
        approval: As in its enrolment.
        run: Of the study.
        sum: Number of the sum; it rises.
        name: Of the site.
        mask_key: Public key that its pair masks are agreed with.
        share_key: Public key that envelopes to and from it are encrypted with.
        seeds: Hash of the seed of its self mask, by group.
    """

    kind: ClassVar[str] = "K"
    approval: str
    run: str
    sum: int
    name: str
    mask_key: str
    share_key: str
    seeds: Mapping[str, str]

    @classmethod
    def read(cls, value: object) -> Keys:
        """From JSON."""
        fields = wire.fields(value, "approval", "run", "sum", "name", "mask_key", "share_key", "seeds")
        return cls(
            wire.hash_of(fields["approval"]),
            wire.name(fields["run"]),
            wire.whole(fields["sum"], 1, MAX_SUM),
            wire.name(fields["name"]),
            wire.hexadecimal(fields["mask_key"], POINT_BYTES),
            wire.hexadecimal(fields["share_key"], POINT_BYTES),
            {group: wire.hash_of(seed) for group, seed in wire.mapped(fields["seeds"]).items()},
        )


@dataclass(frozen=True)
class Deal:
    """D: what a site dealt to the others, once for each K of its own.

    Attributes:
        roster: H(R).
        keys: H(all K).
        own_keys: H(K) of the dealer: a proof against it needs this deal, and no other.
        name: Of the dealer.
        threshold: t, how many shares open a secret.
        envelopes: Hash of the envelope, by receiver.
        shares: By receiver and secret, the commitment to a share.
    """

    kind: ClassVar[str] = "D"
    roster: str
    keys: str
    own_keys: str
    name: str
    threshold: int
    envelopes: Mapping[str, str]
    shares: Mapping[str, Mapping[str, str]]

    @classmethod
    def read(cls, value: object) -> Deal:
        """From JSON."""
        fields = wire.fields(value, "roster", "keys", "own_keys", "name", "threshold", "envelopes", "shares")
        return cls(
            wire.hash_of(fields["roster"]),
            wire.hash_of(fields["keys"]),
            wire.hash_of(fields["own_keys"]),
            wire.name(fields["name"]),
            wire.whole(fields["threshold"], 1, MAX_SITES),
            {name: wire.hash_of(envelope) for name, envelope in wire.mapped(fields["envelopes"]).items()},
            {
                name: {secret: wire.hash_of(share) for secret, share in wire.mapped(shares).items()}
                for name, shares in wire.mapped(fields["shares"]).items()
            },
        )


@dataclass(frozen=True)
class View:
    """V: all that a site's masks depend on, as it saw it. Each site computes its own; none is ever received."""

    kind: ClassVar[str] = "V"
    approval: str
    run: str
    roster: str
    sum: int
    message: str
    round: int
    attempt: int
    model: str
    statistics: str
    request: str
    layout: str
    sites: int
    colluders: int
    threshold: int
    keys: str
    present: Mapping[str, str]
    groups: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Survivors:
    """S: over which sites a sum is opened, and which groups of it.

    Attributes:
        view: H(V).
        sites: U, sorted.
        groups: Those with enough members among them, sorted.
    """

    kind: ClassVar[str] = "S"
    view: str
    sites: tuple[str, ...]
    groups: tuple[str, ...]
