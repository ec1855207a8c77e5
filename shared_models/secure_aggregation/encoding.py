"""Numbers of a secure sum in fixed point, as blocks of integers by group, so that masks are uniform and sums exact.

Flower's encoding is not used: it clips weights to +-8 and rounds them to 22 bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import NDArray

from shared_models.secure_aggregation.parameters import FRACTION_BITS, Terms
from shared_models.secure_aggregation.wire import ProtocolError

Words = NDArray[np.uint64]
Reals = NDArray[np.float64]
WORD_BYTES = 8
PIECE = 2**15


@dataclass(frozen=True)
class FixedPoint:
    """Numbers as integers modulo `2 ** (64 * words)`.

    Attributes:
        words: Of 64 bits each, the lowest first; integers are `(N, words)`, negative ones in two's complement.
        fraction_bits: Of them behind the point.
        largest_bits: An integer is smaller than 2 to this power; what is larger is clamped.
    """

    words: int
    fraction_bits: int
    largest_bits: int

    def encode(self, values: np.ndarray[Any, Any]) -> Words:
        """`(N,)` real numbers as integers; one that is not finite as 0, one too large as the largest.

        To refuse them would tell the center something of the site's data.
        """
        known = np.nan_to_num(np.asarray(values, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
        limit = np.nextafter(2.0**self.largest_bits, 0.0)
        with np.errstate(over="ignore"):
            scaled = np.clip(np.rint(np.ldexp(known, self.fraction_bits)), -limit, limit)
        fraction, exponent = np.frexp(np.abs(scaled))
        mantissa, shift = np.ldexp(fraction, 53).astype(np.uint64), exponent - 53
        mantissa >>= np.maximum(-shift, 0).astype(np.uint64)  # whole numbers lose nothing
        word, bit = np.divmod(np.maximum(shift, 0), 64)
        integers = np.zeros((len(scaled), self.words + 1), dtype=np.uint64)
        rows, low = np.arange(len(scaled)), bit.astype(np.uint64)
        integers[rows, word] = mantissa << low
        integers[rows, word + 1] = (mantissa >> np.uint64(1)) >> (np.uint64(63) - low)
        integers, negative = integers[:, : self.words].copy(), scaled < 0  # counts, which are most numbers, never are
        integers[negative] = _negative(integers[negative])
        return integers

    def decode(self, integers: Words) -> Reals:
        """The inverse of `encode`, for sums of it too."""
        negative = (integers[:, -1] >> np.uint64(63)).astype(bool)
        sizes = integers.astype(np.float64)
        sizes[negative] = _negative(integers[negative]).astype(np.float64)
        whole = np.ldexp(sizes, 64 * np.arange(self.words)).sum(axis=1)
        return np.ldexp(np.where(negative, -whole, whole), -self.fraction_bits)

    def read(self, data: bytes) -> Words:
        """Integers from their bytes, the lowest first."""
        return np.frombuffer(data, "<u8").astype(np.uint64, copy=False).reshape(-1, self.words)


def _add(one: Words, other: Words) -> Words:
    total, carry = np.empty_like(one), np.zeros(len(one), dtype=np.uint64)
    for word in range(one.shape[1]):
        partial = one[:, word] + carry
        total[:, word] = partial + other[:, word]
        if word + 1 < one.shape[1]:
            carry = ((partial < carry) | (total[:, word] < partial)).astype(np.uint64)
    return total


def _negative(integers: Words) -> Words:
    one = np.zeros_like(integers)
    one[:, 0] = 1
    return _add(~integers, one)


# An update times its patients is below 2 ** 53, so that 1023 of them fit; a statistic is exact below 2e64.
UPDATES, STATISTICS = FixedPoint(1, FRACTION_BITS, 53), FixedPoint(5, 96, 64 * 5 - 11)


@dataclass(frozen=True, eq=False)
class Block:
    """What one site adds to the sum of one group, or a sum of it.

    Attributes:
        updates: Integers `(W, 1)`.
        statistics: Integers `(S, 5)`.
    """

    updates: Words
    statistics: Words

    @classmethod
    def of(cls, updates: Reals, statistics: Reals, patients: float, terms: Terms) -> Block:
        """Entries of an update, clamped and times the patients behind them, and statistics, in fixed point."""
        bound = terms.update_bound
        known = np.nan_to_num(np.asarray(updates, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
        weight = min(max(float(np.nan_to_num(patients)), 0.0), float(terms.patients_bound))
        return cls(UPDATES.encode(np.clip(known, -bound, bound) * weight), STATISTICS.encode(statistics))

    def plus(self, other: Block) -> Block:
        """The sum of both."""
        return Block(_add(self.updates, other.updates), _add(self.statistics, other.statistics))

    def plus_mask(self, key: bytes, sign: int = 1) -> Block:
        """With, or for `sign` -1 without, the mask of a 32-byte key, which must serve one block only."""
        stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
        return Block(*(_masked(form, integers, stream, sign) for form, integers in self._parts()))

    def _parts(self) -> tuple[tuple[FixedPoint, Words], tuple[FixedPoint, Words]]:
        return (UPDATES, self.updates), (STATISTICS, self.statistics)

    def real(self) -> tuple[Reals, Reals]:
        """Updates times patients, and statistics, as real numbers."""
        return UPDATES.decode(self.updates), STATISTICS.decode(self.statistics)

    def pack(self) -> bytes:
        """Its integers, the updates' first, the lowest byte first."""
        return self.updates.astype("<u8").tobytes() + self.statistics.astype("<u8").tobytes()

    @classmethod
    def unpack(cls, data: bytes, updates: int, statistics: int) -> Block:
        """The inverse of `pack` for so many updates and statistics.

        Raises:
            ProtocolError: If it has another length.
        """
        if len(data) != cls.size(updates, statistics):
            msg = "a block has not the length that its layout says"
            raise ProtocolError(msg)
        border = cls.size(updates, 0)
        return cls(UPDATES.read(data[:border]), STATISTICS.read(data[border:]))

    @staticmethod
    def size(updates: int, statistics: int) -> int:
        """How many bytes so many updates and statistics take."""
        return (updates * UPDATES.words + statistics * STATISTICS.words) * WORD_BYTES


def _masked(form: FixedPoint, integers: Words, stream: CipherContext, sign: int) -> Words:
    """Integers plus, or for `sign` -1 minus, those of a stream; piece by piece, within the processor's cache."""
    total = np.empty_like(integers)
    for start in range(0, len(integers), PIECE):
        part = integers[start : start + PIECE]
        mask = form.read(stream.update(bytes(part.nbytes)))
        total[start : start + PIECE] = _add(part, mask if sign > 0 else _negative(mask))
    return total


def flatten(arrays: Mapping[str, np.ndarray[Any, Any]]) -> Reals:
    """Named arrays as one vector, in the order of their names."""
    parts = [np.asarray(arrays[name], dtype=np.float64).ravel() for name in sorted(arrays)]
    return np.concatenate(parts) if parts else np.zeros(0)


def unflatten(vector: Reals, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray[Any, Any]]:
    """The inverse of `flatten`."""
    sizes = [int(np.prod(shapes[name], dtype=np.int64)) for name in sorted(shapes)]
    parts = np.split(vector, np.cumsum(sizes)[:-1]) if sizes else []
    return {name: part.reshape(shapes[name]) for name, part in zip(sorted(shapes), parts, strict=True)}
