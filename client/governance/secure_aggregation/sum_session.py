"""Session state of secure aggregation at a site: secrets, in memory only, and the answers given."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from client.governance.secure_aggregation.record import Record
from shared_models.secure_aggregation.blame import Share, read_share, share_to_json
from shared_models.secure_aggregation.parameters import Terms
from shared_models.secure_aggregation.question import Question
from shared_models.secure_aggregation.secrets import compressed
from shared_models.secure_aggregation.signing import Signed, read_signed, to_json
from shared_models.secure_aggregation.statements import Enrolment, Facts, Keys, Survivors, View
from shared_models.secure_aggregation.wire import Message, ProtocolError


@dataclass(frozen=True)
class Site:
    """Who answers, and what this site knows without the center.

    Attributes:
        name: At the center.
        facts: Of its patients.
        node_key: Its private key, on P-384.
        terms: What it approved.
        record: Of this approval, on its disk.
        partners: Public keys of other sites by name, compressed points that came from the sites themselves.
        verified_only: Its policy takes no sites but those.
    """

    name: str
    facts: Facts
    node_key: ec.EllipticCurvePrivateKey
    terms: Terms
    record: Record
    partners: Mapping[str, str] = field(default_factory=dict)
    verified_only: bool = False

    @property
    def enrolment(self) -> Enrolment:
        """E."""
        return Enrolment(self.terms.approval, self.name, compressed(self.node_key.public_key()), self.facts)


@dataclass
class Sum:
    """One sum at one site.

    Attributes:
        own: Its K.
        mask_key: The private half.
        share_key: The private half.
        seeds: Of its self masks by group.
        keys: All K, once it has dealt.
        deal: H(D) of its own.
        threshold: t as it dealt.
        shares: By dealer and secret, the shares that it holds, also of its own secrets.
        view: Its V, once it has masked.
        question: Over which.
        survivors: Its S, once it has signed it.
        replies: By exchange, what it answered, and the fingerprint of what it was asked.
    """

    own: Signed[Keys]
    mask_key: bytes
    share_key: bytes
    seeds: dict[str, bytes]
    keys: list[Keys] = field(default_factory=list)
    deal: str = ""
    threshold: int = 0
    shares: dict[str, dict[str, Share]] = field(default_factory=dict)
    view: View | None = None
    question: Question | None = None
    survivors: Survivors | None = None
    replies: dict[str, tuple[str, Message]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """For the memory of another process."""
        return {
            "own": self.own.to_json(),
            "private": [self.mask_key.hex(), self.share_key.hex()],
            "seeds": {group: seed.hex() for group, seed in self.seeds.items()},
            "keys": [to_json(keys) for keys in self.keys],
            "dealt": [self.deal, self.threshold],
            "shares": {n: {s: share_to_json(share) for s, share in held.items()} for n, held in self.shares.items()},
            "view": self.view and to_json(self.view),
            "question": self.question and asdict(self.question),
            "survivors": self.survivors and to_json(self.survivors),
            "replies": {
                exchange: [asked, {key: b64encode(value).decode() for key, value in reply.items()}]
                for exchange, (asked, reply) in self.replies.items()
            },
        }

    @classmethod
    def read(cls, content: dict[str, Any]) -> Sum:
        """The inverse of `to_json`."""
        view, survivors, question = content["view"], content["survivors"], content["question"]
        groups = {group: tuple(sites) for group, sites in view["groups"].items()} if view else {}
        mask_key, share_key = map(bytes.fromhex, content["private"])
        return cls(
            own=read_signed(content["own"], Keys),
            mask_key=mask_key,
            share_key=share_key,
            seeds={group: bytes.fromhex(seed) for group, seed in content["seeds"].items()},
            keys=[Keys.read(keys) for keys in content["keys"]],
            deal=content["dealt"][0],
            threshold=content["dealt"][1],
            shares={n: {s: read_share(share) for s, share in held.items()} for n, held in content["shares"].items()},
            view=View(**{**view, "groups": groups}) if view else None,
            question=Question(**question) if question else None,
            survivors=_read_survivors(survivors) if survivors else None,
            replies={
                exchange: (asked, {key: b64decode(value) for key, value in reply.items()})
                for exchange, (asked, reply) in content["replies"].items()
            },
        )


def _read_survivors(content: dict[str, Any]) -> Survivors:
    return Survivors(content["view"], tuple(content["sites"]), tuple(content["groups"]))


@dataclass
class Session:
    """The sums of one run that a site is in: the one that is under way, and the next.

    Attributes:
        run: Of the study.
        sums: By number.
    """

    run: str = ""
    sums: dict[int, Sum] = field(default_factory=dict)

    def at(self, number: int) -> Sum:
        """A sum.

        Raises:
            ProtocolError: If this site has forgotten it, or never knew it.
        """
        if number not in self.sums:
            msg = "a message of a sum that this site does not know"
            raise ProtocolError(msg)
        return self.sums[number]

    def forget_before(self, number: int) -> None:
        """Erases the secrets of older sums."""
        self.sums = {other: known for other, known in self.sums.items() if other >= number}

    def pack(self) -> bytes:
        """For the memory of another process; it holds secrets, and must not reach a disk or a log."""
        return json.dumps([self.run, {number: known.to_json() for number, known in self.sums.items()}]).encode()

    @classmethod
    def unpack(cls, data: bytes) -> Session:
        """The inverse of `pack`; it reads only what this site wrote."""
        run, sums = json.loads(data)
        return cls(run, {int(number): Sum.read(content) for number, content in sums.items()})
