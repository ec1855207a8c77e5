"""Proof that a dealer cheated: shares as its signed deal commits to them, which do not open what its keys promised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared_models.secure_aggregation import wire
from shared_models.secure_aggregation.secrets import combine, commitment, is_secret_of, shared_secrets
from shared_models.secure_aggregation.signing import Signed, digest, read_signed
from shared_models.secure_aggregation.statements import Deal, Keys
from shared_models.secure_aggregation.wire import ProtocolError

MAX_SHARE_BYTES = 48
Share = tuple[bytes, bytes]


def read_share(value: object) -> Share:
    """A salt and a share, from a message or an envelope.

    Raises:
        ProtocolError: If it is none.
    """
    parts = wire.listed(value)
    if len(parts) != 2:
        msg = "a share is not a salt and a share"
        raise ProtocolError(msg)
    return bytes.fromhex(wire.hexadecimal(parts[0], 32)), bytes.fromhex(wire.hexadecimal(parts[1], 16, MAX_SHARE_BYTES))


def share_to_json(share: Share) -> list[str]:
    """The inverse of `read_share`."""
    return [part.hex() for part in share]


def fits(deal: Deal, receiver: str, secret: str, share: Share) -> bool:
    """Whether a share is the one that a deal commits to."""
    return deal.shares.get(receiver, {}).get(secret) == commitment(*share)


def opened(deal: Deal, shares: Mapping[str, Share]) -> bytes | None:
    """What the first `threshold` shares open, by receiver; None: they are of different lengths.

    A receiver's place among all receivers of the deal is its place in the sharing.
    """
    places = {receiver: place for place, receiver in enumerate(sorted(deal.shares), 1)}
    chosen = sorted(shares)[: deal.threshold]
    try:
        return combine({places[receiver]: shares[receiver][1] for receiver in chosen})
    except ProtocolError:
        return None


@dataclass(frozen=True)
class Proof:
    """What convinces everyone who holds the roster.

    Attributes:
        keys: K of the dealer.
        deal: D of the dealer for that K.
        secret: Name of the secret.
        shares: Of it, by receiver, at least the deal's threshold.
    """

    keys: Signed[Keys]
    deal: Signed[Deal]
    secret: str
    shares: Mapping[str, Share]

    def to_json(self) -> dict[str, Any]:
        """For a message."""
        shares = {receiver: share_to_json(share) for receiver, share in self.shares.items()}
        return {"keys": self.keys.to_json(), "deal": self.deal.to_json(), "secret": self.secret, "shares": shares}

    @classmethod
    def read(cls, value: object) -> Proof:
        """From a message.

        Raises:
            ProtocolError: If it is none.
        """
        fields = wire.fields(value, "keys", "deal", "secret", "shares")
        shares = {receiver: read_share(share) for receiver, share in wire.mapped(fields["shares"]).items()}
        keys, deal = read_signed(fields["keys"], Keys), read_signed(fields["deal"], Deal)
        return cls(keys, deal, wire.name(fields["secret"]), shares)

    def holds(self, approval: str, node_keys: Mapping[str, str]) -> bool:
        """Whether it proves that `keys.statement.name` cheated; never one that followed the protocol."""
        keys, deal = self.keys.statement, self.deal.statement
        node_key = node_keys.get(keys.name)
        return (
            node_key is not None
            and keys.approval == approval
            and deal.name == keys.name
            and deal.own_keys == digest(keys)
            and self.keys.verify(node_key)
            and self.deal.verify(node_key)
            and self.secret in shared_secrets(keys)
            and len(self.shares) >= deal.threshold
            and all(fits(deal, receiver, self.secret, share) for receiver, share in self.shares.items())
            and ((value := opened(deal, self.shares)) is None or not is_secret_of(keys, self.secret, value))
        )
