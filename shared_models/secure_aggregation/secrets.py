"""Secrets of a site in one secure sum: key pairs, envelopes, shares of secrets, and the keys of masks.

From maintained libraries: P-384, HKDF-SHA256 and AES-256-GCM of `cryptography`, Shamir's sharing of `pycryptodome`,
which Flower installs. Flower's own parts are not used: they fold a mask's seed to 32 bits, encrypt shares without
associated data, and neither commit to shares nor check what they combine to.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shared_models.secure_aggregation.signing import DOMAIN, public_key
from shared_models.secure_aggregation.statements import Keys
from shared_models.secure_aggregation.wire import ProtocolError, canonical, hashed

MASK = "mask"
"""The name under which the private mask key is shared; a seed is shared under `SEED` and its group."""
SEED = "seed."
SCALAR_BYTES, SEED_BYTES, SALT_BYTES, NONCE_BYTES, CHUNK_BYTES = 48, 32, 32, 12, 16


def new_private_key() -> bytes:
    """A private key on P-384, as the 48 bytes of its scalar."""
    return ec.generate_private_key(ec.SECP384R1()).private_numbers().private_value.to_bytes(SCALAR_BYTES, "big")


def new_seed() -> bytes:
    """A seed of a self mask."""
    return os.urandom(SEED_BYTES)


def compressed(key: ec.EllipticCurvePublicKey) -> str:
    """A public key as its compressed point."""
    return key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint).hex()


def public_of(private: bytes) -> str:
    """The public key of a scalar.

    Raises:
        ProtocolError: If it is no private key.
    """
    return compressed(_private_key(private).public_key())


def _private_key(private: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        return ec.derive_private_key(int.from_bytes(private, "big"), ec.SECP384R1())
    except ValueError:
        msg = "a private key is none of P-384"
        raise ProtocolError(msg) from None


def agree(private: bytes, public: str) -> bytes:
    """The secret that two sites agree on, from one's private and the other's public key."""
    return _private_key(private).exchange(ec.ECDH(), public_key(public))


def derive(secret: bytes, salt: str, *info: str) -> bytes:
    """A 32-byte key for one use; `salt` is a hash, `info` says which use."""
    kdf = HKDF(hashes.SHA256(), 32, bytes.fromhex(salt), DOMAIN.encode() + canonical(info))
    return kdf.derive(secret)


def pair_key(agreed: bytes, view: str, one: str, other: str, group: str) -> bytes:
    """Key of the mask that two sites share in one group's block; `agreed` is of their mask keys."""
    return derive(agreed, view, "pair", min(one, other), max(one, other), group)


def self_key(seed: bytes, view: str, name: str, group: str) -> bytes:
    """Key of the mask that a site adds of its own to one group's block."""
    return derive(seed, view, "self", name, group)


def sign_between(one: str, other: str) -> int:
    """With which sign `one` adds the mask that it shares with `other`."""
    return 1 if one < other else -1


def seal(private: bytes, public: str, content: bytes, keys: str, sender: str, receiver: str) -> bytes:
    """An envelope, encrypted for one receiver in one sum; `keys` is H(all K)."""
    key = derive(agree(private, public), keys, "envelope", sender, receiver)
    nonce = os.urandom(NONCE_BYTES)  # two processes may seal under one key: the nonce must not be fixed
    return nonce + AESGCM(key).encrypt(nonce, content, canonical([keys, sender, receiver]))


def unseal(private: bytes, public: str, envelope: bytes, keys: str, sender: str, receiver: str) -> bytes:
    """The inverse of `seal`, at its receiver.

    Raises:
        ProtocolError: If it was not sealed by the sender, for the receiver, in this sum.
    """
    key = derive(agree(private, public), keys, "envelope", sender, receiver)
    try:
        return AESGCM(key).decrypt(envelope[:NONCE_BYTES], envelope[NONCE_BYTES:], canonical([keys, sender, receiver]))
    except (InvalidTag, ValueError):
        msg = "an envelope does not open"
        raise ProtocolError(msg) from None


def split(secret: bytes, threshold: int, holders: int) -> list[bytes]:
    """Shares of a secret of whole 16-byte chunks, for holders 1, 2, ...; any `threshold` of them open it."""
    from Crypto.Protocol.SecretSharing import Shamir

    shares = [b""] * holders
    for start in range(0, len(secret), CHUNK_BYTES):
        for holder, share in Shamir.split(threshold, holders, secret[start : start + CHUNK_BYTES], False):
            shares[holder - 1] += share
    return shares


def combine(shares: Mapping[int, bytes]) -> bytes:
    """The secret that exactly `threshold` shares open, by holder; anything, where they are not of one secret.

    Raises:
        ProtocolError: If they are of different lengths.
    """
    from Crypto.Protocol.SecretSharing import Shamir

    (length, *others) = {len(share) for share in shares.values()}
    if others or not length or length % CHUNK_BYTES:
        msg = "shares of a secret are not of one length"
        raise ProtocolError(msg)
    starts = range(0, length, CHUNK_BYTES)
    chunks = [[(at, share[start : start + CHUNK_BYTES]) for at, share in shares.items()] for start in starts]
    return b"".join(Shamir.combine(chunk, False) for chunk in chunks)


def commitment(salt: bytes, share: bytes) -> str:
    """What a deal says of a share; the salt hides it, and no other pair can be computed."""
    return hashed(b"share", salt, share)


def seed_hash(seed: bytes) -> str:
    """What keys say of a seed."""
    return hashed(b"seed", seed)


def shared_secrets(keys: Keys) -> set[str]:
    """Names of all the secrets that a site deals."""
    return {MASK, *(f"{SEED}{group}" for group in keys.seeds)}


def is_secret_of(keys: Keys, secret: str, value: bytes) -> bool:
    """Whether a value is what the keys promised under the name of a secret."""
    if secret != MASK:
        return seed_hash(value) == keys.seeds.get(secret.removeprefix(SEED))
    try:
        return public_of(value) == keys.mask_key
    except ProtocolError:
        return False
