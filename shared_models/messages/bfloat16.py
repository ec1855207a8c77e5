"""Rounding of arrays to bfloat16: half the bytes of float32, the same range of numbers, eight bits of precision.

A number is rounded to the nearest, of two equally near ones to the even. What was rounded is still float32 to all who
compute with it; its lower 16 bits are 0 and do not travel (`shared_models/messages/arrays.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
BITS = 16
LOWER = np.uint32(0xFFFF)


def rounded(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Numbers that bfloat16 holds, nearest to these, which are finite; those beyond its largest become that."""
    bits = np.ascontiguousarray(array, dtype=np.float32).view(np.uint32)
    half = np.uint32(0x7FFF) + ((bits >> BITS) & np.uint32(1))
    up = (bits + half) & ~LOWER
    down = bits & ~LOWER
    largest = (up & np.uint32(0x7F800000)) == np.uint32(0x7F800000)
    return np.where(largest, down, up).view(np.float32).reshape(np.shape(array))


def rounded_arrays(arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    """Those of float32 rounded, all others as they are."""
    return {name: rounded(array) if array.dtype == np.float32 else array for name, array in arrays.items()}


def change_of(trained: Mapping[str, NDArray[Any]], received: Mapping[str, NDArray[Any]]) -> Arrays:
    """What training changed of each float32 array, rounded; other arrays as they are after it.

    A change is a small number with eight bits of its own, where a weight with eight bits would swallow it.
    """
    return {
        name: rounded(array - received[name]) if array.dtype == np.float32 else array for name, array in trained.items()
    }


def changed_by(received: Mapping[str, NDArray[Any]], change: Mapping[str, NDArray[Any]]) -> Arrays:
    """The inverse of `change_of`, but for rounding; an array that fits none of those received stays as it came."""
    return {
        name: (before + array).astype(np.float32)
        if array.dtype == np.float32 and (before := received.get(name)) is not None and before.shape == array.shape
        else array
        for name, array in change.items()
    }


def fits(array: NDArray[Any]) -> bool:
    """Whether bfloat16 holds each number of an array of float32 as it is."""
    if array.dtype != np.float32 or not array.size:
        return False
    return not (np.ascontiguousarray(array).view(np.uint32) & LOWER).any()


def upper_half(array: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The 16 bits of each number that bfloat16 holds; the other 16 must be 0."""
    bits = np.ascontiguousarray(array).view(np.uint32) >> BITS
    return bits.astype(np.uint16).reshape(np.shape(array))


def of_upper_half(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """The inverse of `upper_half`."""
    return (bits.astype(np.uint32) << BITS).view(np.float32).reshape(np.shape(bits))
