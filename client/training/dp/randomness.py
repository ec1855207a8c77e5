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
from collections.abc import Iterable

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray
from torch import Tensor

KEY_BYTES = 32
BLOCK_BYTES, COUNTER_BYTES = 16, 4
TERMS = 4  # Gaussians in a sum
CHUNK = 1 << 16  # numbers at a time, so that they stay in the processor's cache
GRID_BITS = 34


def secret_key() -> bytes:
    """256 bits of the operating system, for one step; they never leave the site."""
    return os.urandom(KEY_BYTES)


def standard_normals(count: int, key: bytes) -> Tensor:
    """`(count,)` standard Gaussians in float64, the same for the same key; no key may be used for two steps.

    Each is the sum of four over 2, each of these from 52 bits by the inverse error function: from the sum's digits
    nobody can tell which bits it came from (Mironov 2012, 10.1145/2382196.2382264; Holohan and Braghin 2021,
    arXiv:2107.10138).
    """
    keystream = Cipher(algorithms.AES(key), modes.CTR(bytes(BLOCK_BYTES))).encryptor()
    zeros, buffer = bytes(8 * TERMS * CHUNK), bytearray(8 * TERMS * CHUNK + BLOCK_BYTES)
    words = torch.frombuffer(buffer, dtype=torch.int64, count=TERMS * CHUNK)
    terms = torch.empty(TERMS, CHUNK, dtype=torch.float64)
    found = torch.empty(count, dtype=torch.float64)
    for start in range(0, count, CHUNK):
        size = min(CHUNK, count - start)
        keystream.update_into(zeros, buffer)
        terms.copy_((words >> 12).view_as(terms))  # -2^51 up to 2^51, which a half more makes symmetric
        terms.add_(0.5).mul_(2.0**-51).erfinv_()  # of at most 8.1 deviations
        torch.sum(terms[:, :size], dim=0, out=found[start : start + size])
    return found.mul_(math.sqrt(2.0 / TERMS))


def add_noise(total: Tensor, deviation: float, clip_norm: float, key: bytes) -> Tensor:
    """A sum of clipped gradients `(P,)` with noise of a deviation, in float64.

    Sum and noise are both rounded to a grid of `clip_norm` / 2^34 at most. So the result is on the grid whatever the
    sum was, and its last digits do not tell (Haney 2022, arXiv:2207.13793); rounding the noise is rounding the result.
    """
    grid = 2.0 ** (math.floor(math.log2(clip_norm)) - GRID_BITS)
    noise = standard_normals(len(total), key).mul_(deviation / grid).round_().to(total.device)
    return total.double().div_(grid).round_().add_(noise).mul_(grid)


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
        # ECB of counters, none of them twice under a key, is what counter mode is
        cipher = Cipher(algorithms.AES(self._key), modes.ECB()).encryptor()
        words = np.frombuffer(cipher.update(counters.tobytes()), dtype=np.uint64).reshape(patients, 2 * blocks)
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
