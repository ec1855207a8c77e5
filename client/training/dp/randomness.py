"""Cryptographic randomness of private training: noise, who is drawn, and what is random about a patient.

Whoever can guess the noise can take it off, and a statistics generator can be guessed: torch's takes 32 bits of its
seed. Here all of it is AES-256 in counter mode of `cryptography`, under keys of the operating system or, for what need
not be secret, of a hash. No library makes Gaussian noise of it that is safe on a computer: Opacus's takes torch's
generator, NumPy's generators are none of cryptography, and both leave the floating point to its attackers.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray
from torch import Tensor

KEY_BYTES = 32
BLOCK_BYTES, COUNTER_BYTES = 16, 4
TERMS = 2  # Gaussians in a sum
CHUNK = 1 << 14  # numbers at a time, so that they stay in the processor's cache
GRID_BITS = 34


def secret_key() -> bytes:
    """256 bits of the operating system, for one step; they never leave the site."""
    return os.urandom(KEY_BYTES)


def standard_normals(count: int, key: bytes) -> Tensor:
    """`(count,)` standard Gaussians in float64, the same for the same key; no key may be used for two steps.

    Each is the sum of two over sqrt(2), and each of these is made of 52 bits by the inverse error function: a float has
    more values than that, and a single one's digits would tell which bits it came from (Mironov 2012,
    10.1145/2382196.2382264; Holohan and Braghin 2021, arXiv:2107.10138).
    """
    return torch.cat(list(_normals_in_chunks(count, key)))


def add_noise(total: Tensor, deviation: float, clip_norm: float, key: bytes) -> Tensor:
    """Adds noise of a deviation to a sum of clipped gradients `(P,)`, float64, in place.

    Sum and noise are both rounded to a grid of `clip_norm` / 2^34 at most. So the result is on the grid whatever the
    sum was, and its last digits do not tell (Haney 2022, arXiv:2207.13793); rounding the noise is rounding the result.
    """
    grid = 2.0 ** (math.floor(math.log2(clip_norm)) - GRID_BITS)
    for part, chunk in zip(torch.split(total, CHUNK), _normals_in_chunks(len(total), key), strict=True):
        noise = chunk.mul_(deviation / grid).round_().to(total.device)
        part.div_(grid).round_().add_(noise).mul_(grid)
    return total


def _normals_in_chunks(count: int, key: bytes) -> Iterator[Tensor]:
    """The Gaussians of `standard_normals`, `CHUNK` at a time."""
    size = min(CHUNK, count)
    keystream = Cipher(algorithms.AES(key), modes.CTR(bytes(BLOCK_BYTES))).encryptor()
    zeros, buffer = bytes(8 * TERMS * size), bytearray(8 * TERMS * size + BLOCK_BYTES)
    for start in range(0, count, CHUNK):
        keystream.update_into(zeros, buffer)
        left = min(size, count - start)
        words = torch.frombuffer(buffer, dtype=torch.int64, count=TERMS * size).view(TERMS, size)[:, :left]
        terms = words.bitwise_right_shift_(12).double()  # -2^51 up to 2^51, which a half more makes symmetric
        terms.add_(0.5).mul_(2.0**-51).erfinv_()  # of at most 8.1 deviations
        yield terms.sum(dim=0).mul_(math.sqrt(2.0 / TERMS))


def fingerprints(identifiers: Iterable[str]) -> NDArray[np.uint8]:
    """`(N, 12)`: a hash of each patient's identifier."""
    size = BLOCK_BYTES - COUNTER_BYTES
    hashes = b"".join(hashlib.sha256(str(one).encode()).digest()[:size] for one in identifiers)
    return np.frombuffer(hashes, dtype=np.uint8).reshape(-1, size)


class PatientDraws:
    """Uniform numbers for each patient, from a key and the patient alone: not her place, nor who else is in the batch.

    A patient's blocks of the counter mode are her fingerprint and a count, so that all patients' numbers are one pass
    of the cipher.

    Args:
        key: 256 bits, of one step.
        patients: `(N, 12)`, from `fingerprints`.

    Attributes:
        position: Blocks that were used, the same for all.
    """

    def __init__(self, key: bytes, patients: NDArray[np.uint8]) -> None:
        self._key, self._patients = key, patients
        # ECB of counters, none of them twice under a key, is what counter mode is
        self._cipher = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
        self.position = 0

    def uniform(self, *shape: int) -> Tensor:
        """`(N, *shape)` new numbers in [0, 1), in float64."""
        count, patients = math.prod(shape), len(self._patients)
        blocks = -(-count * 8 // BLOCK_BYTES)
        counters = np.empty((patients, blocks, BLOCK_BYTES), dtype=np.uint8)
        counters[:, :, :-COUNTER_BYTES] = self._patients[:, None]
        numbers = np.arange(self.position, self.position + blocks, dtype=">u4")
        counters[:, :, -COUNTER_BYTES:] = numbers.view(np.uint8).reshape(blocks, COUNTER_BYTES)
        self.position += blocks
        words = np.frombuffer(self._cipher.update(counters.tobytes()), dtype=np.uint64).reshape(patients, 2 * blocks)
        return torch.from_numpy((words[:, :count] >> 11) * 2.0**-53).reshape(patients, *shape)

    def of(self, chosen: NDArray[np.bool_], position: int) -> PatientDraws:
        """The draws of some of the patients, from a position on."""
        some = PatientDraws(self._key, self._patients[chosen])
        some.position = position
        return some


def patient_draws(seed: int, step: int, patients: NDArray[np.uint8]) -> PatientDraws:
    """What is random about each patient in a step of a round: her lesion, the modality that is hidden, dropout.

    None of it needs to be secret: no patient moves a step by more than the clipping norm, whatever the draws are.
    """
    return PatientDraws(hashlib.sha256(f"patients' draws/{seed}/{step}".encode()).digest(), patients)
