"""Suspicions of numbers that a program rewrote: a digit replaced by nothing, numbers cut, levels in place of values."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from client.checks.feature_column import FEW, Values

LEAST_DIGITS = 8  # occurrences of each other digit: the one that is absent would occur as often
LARGEST = 1e12  # numbers beyond are identifiers, or intensities
LEVELS = 20  # different numbers
EMPTY_LEVELS = 5  # numbers that nobody has, of those up to the highest, which such a column would have
FULL, TOP = 0.98, 0.9  # of the next power of ten: the highest number, and those that are near it


def rewritten(values: Values, counts: NDArray[np.int64]) -> Iterator[str]:
    """What says that numbers are not those that were measured, each with what to do about it.

    Args:
        values: `(K,)`, different and ascending.
        counts: `(K,)`, how many patients have each.
    """
    if _are_levels(values, counts):
        yield (
            f"holds each whole number from 1 to {values[-1]:g}, though most are one patient's alone: numbers of levels "
            "or of ranks, as R makes them of a factor? Give what was measured"
        )
    digit = _absent_digit(values)
    if digit is not None:
        yield (
            f"has no digit {digit} behind the first digit of any number, where each other digit occurs: was it "
            "replaced in the file? Export the numbers again"
        )


def cut_short(values: Values, counts: NDArray[np.int64]) -> str:
    """Times that end just below a power of ten, with many near it: as where a column was too narrow for more digits."""
    highest = float(values[-1]) if len(values) else 0.0
    limit = 10.0 ** math.ceil(math.log10(highest)) if highest >= 100 else math.inf
    near = int(counts[values >= TOP * limit].sum())
    if highest < FULL * limit or near < FEW:
        return ""
    return (
        f"ends just below {limit:,.0f}, at {highest:g}, with {near} values near it: were numbers cut to "
        f"{len(str(int(limit))) - 1} digits? Compare some with their source"
    )


def _absent_digit(values: Values) -> int | None:
    """The only digit that no number has behind its first one; decimals do not count, which programs leave out."""
    whole = np.unique(np.abs(values[(np.abs(values) >= 10) & (np.abs(values) < LARGEST)]).astype(np.int64))
    often = np.zeros(10, dtype=np.int64)
    while len(whole):
        often += np.bincount(whole % 10, minlength=10)
        whole = whole[whole >= 100] // 10
    absent = np.flatnonzero(often == 0)
    return int(absent[0]) if len(absent) == 1 and np.sort(often)[1] >= LEAST_DIGITS else None


def _are_levels(values: Values, counts: NDArray[np.int64]) -> bool:
    """Whether no whole number from 1 on is left out, though a sample with so many single ones would lack some.

    Of numbers that occur, as many more are expected that do not as there are pairs of single ones by double ones
    (Chao 1984, Scandinavian Journal of Statistics 11).
    """
    if len(values) < LEVELS or values[0] != 1 or values[-1] != len(values) or (values % 1).any():
        return False
    single, double = int((counts == 1).sum()), int((counts == 2).sum())
    return single * (single - 1) / (2 * (double + 1)) >= EMPTY_LEVELS
