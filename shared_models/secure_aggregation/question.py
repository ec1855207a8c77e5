"""Question of a secure aggregation: hashes of what reached the handler that answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from shared_models.secure_aggregation.wire import canonical, hashed

Arrays = Mapping[str, np.ndarray[Any, Any]]
Scalar = str | int | float | bool | bytes
NUMBERING = ("round", "attempt")


def hash_arrays(arrays: Arrays) -> str:
    """Hash of named arrays: names, types, shapes and every bit."""
    parts = []
    for name, array in sorted(arrays.items()):
        plain = np.asarray(array, order="C")
        head = canonical([name, plain.dtype.newbyteorder("<").str, list(plain.shape)])
        parts += [head, plain.astype(plain.dtype.newbyteorder("<"), copy=False).tobytes()]
    return hashed(*parts)


def _hash_values(values: Mapping[str, Scalar]) -> str:
    parts = [(name, type(value).__name__, _text(value)) for name, value in sorted(values.items())]
    return hashed(*(part.encode() for entry in parts for part in entry))


def _text(value: Scalar) -> str:
    if isinstance(value, float):
        return value.hex()
    return value.hex() if isinstance(value, bytes) else str(value)


NO_MODEL = hash_arrays({})


@dataclass(frozen=True)
class Question:
    """One message of a study, as a site's handler got it and as the center sent it.

    Attributes:
        kind: Of the message.
        round: Of the study; 0 before training. A group's block is asked in one kind only in each round.
        attempt: Of the round, from 1.
        model: `hash_arrays` of the weights.
        statistics: `hash_arrays` of the statistics.
        request: H of everything else that the handler reads.
        inputs: H(model, statistics, request without its round): what makes it the same question in another round.
    """

    kind: str
    round: int
    attempt: int
    model: str
    statistics: str
    request: str
    inputs: str

    @classmethod
    def of(
        cls, kind: str, round_: int, attempt: int, model: Arrays, statistics: Arrays, values: Mapping[str, Scalar]
    ) -> Question:
        """From what reached the handler; it must read nothing that is not among these."""
        weights, sums = hash_arrays(model), hash_arrays(statistics)
        same = {name: value for name, value in values.items() if name not in NUMBERING}
        inputs = hashed(weights.encode(), sums.encode(), _hash_values(same).encode())
        request = _hash_values({**values, "round": round_, "attempt": attempt})
        return cls(kind, round_, attempt, weights, sums, request, inputs)

    @property
    def subject(self) -> str:
        """What its numbers are of: the model, whatever else is asked of it; where there is none, all inputs."""
        return f"inputs/{self.inputs}" if self.model == NO_MODEL else f"model/{self.model}"
