"""Secure aggregation: what both sides compute so that only a sum over sites is revealed.

Each two sites share a mask that cancels in the sum, and each site adds one of its own. Shares of the secrets behind the
masks lie, encrypted, with the other sites, so that the sum survives a site that drops out (Bonawitz 2017,
10.1145/3133956.3133982, with every site a neighbour of every other).

Keys, their agreement, the shares and their encryption are Flower's (`flwr.common.secure_aggregation.crypto`). Two of
its parts are not used: it folds a mask's seed to 32 bits, which a center can try out one by one, so a mask is AES-256
in counter mode here; and it clips weights to +-8 and rounds them to 22 bits, so numbers are in fixed point here, exact
to the last bit that matters.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode, urlsafe_b64decode
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from shared_models.bounded_json import parse_json
from shared_models.messages.arrays import Arrays

Words = NDArray[np.uint64]

MIN_SITES = 3
"""Of two sites, each knows the other's part from the sum."""

WEIGHTS, STATISTICS = "weights", "statistics"
PATIENTS, LOSS = "patients", "loss"
TRAIN = "train"
_OWNER = re.compile(r"\bencoders\.(?P<modality>[^.]+)\.")


def modality_of(parameter: str) -> str:
    """The modality whose encoder a parameter belongs to; empty for what all sites share."""
    match = _OWNER.search(parameter)
    return match["modality"] if match else ""


def group_of_parameter(parameter: str) -> str:
    """Who adds to a parameter: the sites with training patients, of its modality where it is an encoder's."""
    return modality_of(parameter) or TRAIN


def group_of(array: str) -> str:
    """Who adds to an array of results: the sites that have patients of a part, or training patients of a modality."""
    kind, _, rest = array.partition(".")
    if kind in ("features", PATIENTS):
        return rest.partition(".")[0]
    return kind if kind in ("validation", "test") else TRAIN


def least_survivors(sites: int) -> int:
    """How many sites' shares open a secret: two thirds, so that nobody gets both secrets of one site."""
    return max(MIN_SITES, ceil(2 * sites / 3))


@dataclass(frozen=True)
class Member:
    """A site in one sum, as it announced itself.

    Attributes:
        name: The site's name at the center.
        mask_key: Public key that its pairwise masks are agreed with, PEM.
        share_key: Public key that shares for it are encrypted with, PEM.
        adds: Groups it adds to: parts of which it has patients, modalities that some of its training patients have.
        signature: Of `statement`, by the site's own node key; empty in a simulation.
    """

    name: str
    mask_key: bytes
    share_key: bytes
    adds: tuple[str, ...]
    signature: bytes = b""

    def statement(self, session: str) -> bytes:
        """What a member signs: nobody can put another key, another group or an old sum under its name."""
        parts = [session, self.mask_key.decode(), self.share_key.decode(), *sorted(self.adds)]
        return json.dumps(parts).encode()


def pack_members(members: Sequence[Member]) -> str:
    """Members as text."""
    return json.dumps([asdict(m) for m in members], default=lambda data: b64encode(data).decode())


def unpack_members(text: str) -> list[Member]:
    """The inverse of `pack_members`, by name.

    Raises:
        ValueError: If it is not one, or a name or a key stands twice.
    """
    try:
        members = [_member(**entry) for entry in parse_json(text)]
    except (TypeError, AttributeError) as error:
        msg = f"the members of the sum cannot be read: {error}"
        raise ValueError(msg) from None
    for taken in ([m.name for m in members], [key for m in members for key in (m.mask_key, m.share_key)]):
        if len(set(taken)) != len(taken):
            msg = "a name or a key stands twice among the members of the sum"
            raise ValueError(msg)
    return sorted(members, key=lambda member: member.name)


def _member(name: str, mask_key: str, share_key: str, adds: list[str], signature: str) -> Member:
    keys = (b64decode(mask_key, validate=True), b64decode(share_key, validate=True))
    return Member(str(name), *keys, tuple(map(str, adds)), b64decode(signature, validate=True))


def summed_groups(members: Iterable[Member]) -> set[str]:
    """Groups that may be summed: the sum of one that fewer than three sites add to would show a site's own."""
    counts = Counter(group for member in members for group in set(member.adds))
    return {group for group, count in counts.items() if count >= MIN_SITES}


@dataclass(frozen=True)
class FixedPoint:
    """Numbers as integers modulo `2 ** (64 * words)`, so that masks are uniform and sums exact.

    Attributes:
        words: Of 64 bits each, the lowest first; integers are `(N, words)`, negative ones in two's complement.
        fraction_bits: Of them behind the point.
    """

    words: int
    fraction_bits: int

    def encode(self, values: np.ndarray[Any, Any]) -> Words:
        """`(N,)` real numbers as integers.

        Raises:
            ValueError: If one is not finite, or so large that a sum over a thousand sites might not hold it.
        """
        scaled = np.rint(np.ldexp(np.asarray(values, dtype=np.float64), self.fraction_bits))
        if not (np.abs(scaled) < 2.0 ** (64 * self.words - 11)).all():
            msg = f"a number is not finite or too large for a sum in {64 * self.words} bits"
            raise ValueError(msg)
        fraction, exponent = np.frexp(np.abs(scaled))
        mantissa, shift = np.ldexp(fraction, 53).astype(np.uint64), exponent - 53
        mantissa >>= np.maximum(-shift, 0).astype(np.uint64)  # whole numbers lose nothing
        word, bit = np.divmod(np.maximum(shift, 0), 64)
        integers = np.zeros((len(scaled), self.words + 1), dtype=np.uint64)
        rows, low = np.arange(len(scaled)), bit.astype(np.uint64)
        integers[rows, word] = mantissa << low
        integers[rows, word + 1] = (mantissa >> np.uint64(1)) >> (np.uint64(63) - low)
        integers = integers[:, : self.words]
        return np.where((scaled < 0)[:, None], _negative(integers), integers)

    def decode(self, integers: Words) -> np.ndarray[Any, Any]:
        """The inverse of `encode`, for sums of it too."""
        negative = (integers[:, -1] >> np.uint64(63)).astype(bool)
        sizes = np.where(negative[:, None], _negative(integers), integers).astype(np.float64)
        whole = np.ldexp(sizes, 64 * np.arange(self.words)).sum(axis=1)
        return np.ldexp(np.where(negative, -whole, whole), -self.fraction_bits)

    def read(self, data: bytes) -> Words:
        """Integers from their bytes, the lowest first."""
        return np.frombuffer(data, "<u8").astype(np.uint64).reshape(-1, self.words)


def _add(one: Words, other: Words) -> Words:
    total, carry = np.empty_like(one), np.zeros(len(one), dtype=np.uint64)
    for word in range(one.shape[1]):
        partial = one[:, word] + carry
        total[:, word] = partial + other[:, word]
        carry = ((partial < carry) | (total[:, word] < partial)).astype(np.uint64)
    return total


def _negative(integers: Words) -> Words:
    one = np.zeros_like(integers)
    one[:, 0] = 1
    return _add(~integers, one)


# A weight times its patients: 2**-24 of one patient's, up to 5e8. A statistic: any number that arrays.py lets pass.
FIXED = {WEIGHTS: FixedPoint(1, 24), STATISTICS: FixedPoint(5, 96)}


@dataclass(frozen=True, eq=False)
class Vector:
    """What one site adds to a sum, or a sum of it: integers `(W, 1)` of weights and `(S, 5)` of statistics."""

    weights: Words
    statistics: Words

    @classmethod
    def of(cls, weights: np.ndarray[Any, Any], statistics: np.ndarray[Any, Any]) -> Vector:
        """Real numbers in fixed point."""
        return cls(FIXED[WEIGHTS].encode(weights), FIXED[STATISTICS].encode(statistics))

    def plus(self, other: Vector) -> Vector:
        """The sum of both."""
        return Vector(_add(self.weights, other.weights), _add(self.statistics, other.statistics))

    def plus_mask(self, key: bytes, sign: int = 1) -> Vector:
        """With, or for `sign` -1 without, the mask of a 32-byte key, which must serve one sum only."""
        stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
        mask = [FIXED[name].read(stream.update(bytes(part.nbytes))) for name, part in self.pack().items()]
        return self.plus(Vector(*(part if sign > 0 else _negative(part) for part in mask)))

    def real(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Weights and statistics as real numbers."""
        return FIXED[WEIGHTS].decode(self.weights), FIXED[STATISTICS].decode(self.statistics)

    def pack(self) -> Arrays:
        """As arrays."""
        return {WEIGHTS: self.weights, STATISTICS: self.statistics}

    @classmethod
    def unpack(cls, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Vector:
        """The inverse of `pack`.

        Raises:
            ValueError: If it is not one.
        """
        for name, form in FIXED.items():
            if name not in arrays or arrays[name].dtype != np.uint64 or arrays[name].shape[1:] != (form.words,):
                msg = f"the {name} of a sum are not integers of {64 * form.words} bits"
                raise ValueError(msg)
        return cls(arrays[WEIGHTS], arrays[STATISTICS])


def pairwise_key(own_private: bytes, other_public: bytes) -> bytes:
    """The 32 bytes that two sites agree on, from one's private and the other's public key (PEM)."""
    return urlsafe_b64decode(agreed_key(own_private, other_public))


def agreed_key(own_private: bytes, other_public: bytes) -> bytes:
    """The same as Flower's `encrypt` takes it."""
    from flwr.common.secure_aggregation.crypto.symmetric_encryption import generate_shared_key
    from flwr.supercore.primitives.asymmetric import bytes_to_private_key, bytes_to_public_key

    return generate_shared_key(bytes_to_private_key(own_private), bytes_to_public_key(other_public))


def sign_between(one: str, other: str) -> int:
    """With which sign `one` adds the mask that it shares with `other`."""
    return 1 if one > other else -1


def flatten(arrays: Mapping[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """Named arrays as one vector, in the order of their names."""
    parts = [np.asarray(arrays[name], dtype=np.float64).ravel() for name in sorted(arrays)]
    return np.concatenate(parts) if parts else np.zeros(0)


def unflatten(vector: np.ndarray[Any, Any], shapes: Mapping[str, Sequence[int]]) -> Arrays:
    """The inverse of `flatten`.

    Raises:
        ValueError: If the shapes do not take all of it.
    """
    sizes = [int(np.prod(shapes[name], dtype=np.int64)) for name in sorted(shapes)]
    if sum(sizes) != len(vector):
        msg = f"{len(vector)} numbers do not fill arrays of {sum(sizes)}"
        raise ValueError(msg)
    parts = np.split(vector, np.cumsum(sizes)[:-1]) if sizes else []
    return {name: part.reshape(shapes[name]) for name, part in zip(sorted(shapes), parts, strict=True)}
