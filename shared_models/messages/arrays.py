"""Named arrays as one Flower array record: safetensors both ways, never pickle."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord
from safetensors import SafetensorError
from safetensors.numpy import load, save

from shared_models.messages.bfloat16 import fits, of_upper_half, upper_half

PACKED = "safetensors"
BFLOAT16 = "bfloat16:"
"""How the name begins, on the way, of an array of which only the upper half of each number travels."""
MAX_HEADER_BYTES = 1_000_000

Arrays = dict[str, np.ndarray[Any, Any]]


def pack_arrays(arrays: Mapping[str, np.ndarray[Any, Any]]) -> ArrayRecord:
    """Named arrays as a Flower record that holds one array: the bytes of a safetensors file.

    Flower 1.41 sends each array of a record in a request of its own, so that a small network's thirty tensors take
    longer on the way than in training. Numbers of float32 whose lower half is 0 travel without it.
    """
    if not arrays:
        return ArrayRecord()
    content = save(
        dict(
            (f"{BFLOAT16}{name}", upper_half(array)) if fits(array) else (name, np.asarray(array, order="C"))
            for name, array in arrays.items()
        )
    )
    return ArrayRecord({PACKED: Array("uint8", (len(content),), "safetensors", content)})


def unpack_arrays(record: ArrayRecord) -> Arrays:
    """The arrays of such a record, by name; nothing in it is ever unpickled.

    Raises:
        ValueError: If it is not one.
    """
    if not record:
        return {}
    try:
        if list(record) != [PACKED]:
            raise KeyError(PACKED)
        return _expanded(load(_with_short_header(record[PACKED].data)))
    except (KeyError, SafetensorError, ValueError) as error:
        msg = f"the arrays are not in safetensors: {type(error).__name__}: {error}"
        raise ValueError(msg) from None


def _expanded(arrays: Arrays) -> Arrays:
    expanded = {}
    for name, array in arrays.items():
        own = name.removeprefix(BFLOAT16)
        if own in expanded or (own != name and (own in arrays or array.dtype != np.uint16)):
            msg = f"{own[:80]} is there twice, or is {array.dtype} and not the upper half of float32"
            raise ValueError(msg)
        expanded[own] = array if own == name else of_upper_half(array)
    return expanded


def _with_short_header(content: bytes) -> bytes:
    """The bytes of a file whose header, of all arrays' names and shapes, does not take seconds to read."""
    length = int.from_bytes(content[:8], "little")
    if length > MAX_HEADER_BYTES:
        msg = f"their header has {length:,} bytes, at most {MAX_HEADER_BYTES:,} are read"
        raise ValueError(msg)
    return content


def hash_arrays(arrays: Mapping[str, np.ndarray[Any, Any]]) -> str:
    """SHA-256 of named arrays, their types, shapes and bytes, in 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
