"""Signatures and hashes of the statements of a secure sum, each under the domain of its kind.

The node key of a site signs the domain and the statement's canonical JSON. What refers to a statement holds its hash,
never that of its signature, which another signature of the same statement would change.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from shared_models.secure_aggregation import wire
from shared_models.secure_aggregation.statements import Facts, Statement
from shared_models.secure_aggregation.wire import ProtocolError

DOMAIN = "breast-federation/secagg/2/"
SIGNATURE_BYTES = (8, 110)

T = TypeVar("T", bound=Statement)


@dataclass(frozen=True)
class Signed(Generic[T]):
    """A statement and its signature."""

    statement: T
    signature: str

    def to_json(self) -> dict[str, Any]:
        """For a message."""
        return {"statement": to_json(self.statement), "signature": self.signature}

    def verify(self, node_key: str) -> bool:
        """Whether the site of that key signed it."""
        return verify(node_key, self.statement, self.signature)


def read_signed(value: object, of: type[Any]) -> Signed[Any]:
    """A signed statement from a message; its signature is not checked yet.

    Raises:
        ProtocolError: If it is none.
    """
    fields = wire.fields(value, "statement", "signature")
    return Signed(of.read(fields["statement"]), wire.hexadecimal(fields["signature"], *SIGNATURE_BYTES))


def to_json(statement: Statement) -> dict[str, Any]:
    """The fields of a statement."""
    return {key: vars(value) if isinstance(value, Facts) else value for key, value in vars(statement).items()}


def content(statement: Statement) -> bytes:
    """What is signed and hashed."""
    return f"{DOMAIN}{statement.kind}\0".encode() + wire.canonical(to_json(statement))


def digest(statement: Statement) -> str:
    """H of one statement."""
    return wire.hashed(content(statement))


def digest_all(statements: Iterable[Any]) -> str:
    """H of statements of one kind, in the order of their sites' names."""
    return wire.hashed(*(content(one) for one in sorted(statements, key=lambda one: one.name)))


def sign(node_key: ec.EllipticCurvePrivateKey, statement: Statement) -> str:
    """The signature of a site's node key."""
    return node_key.sign(content(statement), ec.ECDSA(hashes.SHA384())).hex()


def signed(node_key: ec.EllipticCurvePrivateKey, statement: T) -> Signed[T]:
    """The statement with it."""
    return Signed(statement, sign(node_key, statement))


def verify(node_key: str, statement: Statement, signature: str) -> bool:
    """Whether it is the signature of that public key."""
    try:
        public_key(node_key).verify(bytes.fromhex(signature), content(statement), ec.ECDSA(hashes.SHA384()))
    except (InvalidSignature, ValueError):
        return False
    return True


@lru_cache(maxsize=4096)
def public_key(point: str) -> ec.EllipticCurvePublicKey:
    """A public key from its compressed point.

    Raises:
        ProtocolError: If there is no such point.
    """
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), bytes.fromhex(point))
    except ValueError:
        msg = "a public key is no point of P-384"
        raise ProtocolError(msg) from None
