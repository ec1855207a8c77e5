"""Spool of a round's answers: arrays on disk, read piece by piece, so that memory does not grow with the sites.

Weights of all sites are needed at once by clipping, which knows its bound only when every norm is known, and by rules
that compare sites. They are added up in the sites' order besides, whoever answered first, so that the same answers give
the same weights to the last bit.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from server.study.study_files import writing

IN_MEMORY_BYTES = 32 * 2**20  # of all answers of a round: those of small networks never reach the disk
ALIGNMENT = 64
PIECE_NUMBERS = 2**20  # of all sites together that are in memory at once
Piece = dict[str, slice]
"""Of some arrays, which of their numbers, in the order in which they lie in memory."""


class SpooledArrays(Mapping[str, NDArray[Any]]):
    """Named arrays in a file, mapped into memory while somebody holds one."""

    def __init__(self, spool: Spool, places: Mapping[str, tuple[int, np.dtype[Any], tuple[int, ...]]]) -> None:
        self._spool, self._places = spool, places

    def __getitem__(self, name: str) -> NDArray[Any]:
        """The array, which may not be written to; its memory is given back with it."""
        offset, dtype, shape = self._places[name]
        if 0 in shape:  # of no bytes there is no map
            return np.zeros(shape, dtype)
        return np.memmap(self._spool.file(), dtype, "r", offset, shape)

    def __iter__(self) -> Iterator[str]:
        """Their names."""
        return iter(self._places)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._places)


class Spool:
    """A round's arrays: the first `IN_MEMORY_BYTES` of them in memory, the others in a file without a name.

    Args:
        folder: Where the file is. It ends with its arrays, or with this process, however that ends.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._in_memory = folder, 0
        self._file: IO[bytes] | None = None

    def file(self) -> IO[bytes]:
        """The file, made when it is first needed."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - closed below
            weakref.finalize(self, self._file.close)
        return self._file

    def store(self, arrays: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """The same arrays, which need no longer be in memory.

        Raises:
            StudyError: If the disk is full.
        """
        size = sum(array.nbytes for array in arrays.values())
        if self._in_memory + size <= IN_MEMORY_BYTES:
            self._in_memory += size
            return arrays
        with writing(self._folder):
            file, places = self.file(), {}
            for name, array in arrays.items():
                offset = file.seek(-file.seek(0, 2) % ALIGNMENT, 2)
                file.write(np.ascontiguousarray(array).data)
                places[name] = (offset, array.dtype, array.shape)
            file.flush()
        return SpooledArrays(self, places)


def pieces(shapes: Mapping[str, tuple[int, ...]], copies: int) -> Iterator[Piece]:
    """Arrays cut so that each piece, of so many copies, is of about `PIECE_NUMBERS` numbers; small ones go together."""
    most, piece, held = max(PIECE_NUMBERS // max(copies, 1), 1), Piece(), 0
    for name, shape in shapes.items():
        size, start = int(np.prod(shape, dtype=np.int64)), 0
        while start < size:
            stop = min(start + most - held, size)
            piece[name] = slice(start, stop)
            held, start = held + stop - start, stop
            if held == most:
                yield piece
                piece, held = Piece(), 0
    if piece:
        yield piece


def numbers_of(arrays: Mapping[str, NDArray[Any]], name: str, part: slice) -> NDArray[np.float64]:
    """Some of an array's numbers `(N,)`."""
    return arrays[name].reshape(-1)[part].astype(np.float64)


def shapes_of(arrays: Mapping[str, NDArray[Any]], names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Shapes of some arrays."""
    return {name: arrays[name].shape for name in names}
