"""An array whose rows are artefacts: read from their files as it is indexed, so that no tensor is on the disk twice."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]


class RowFiles:
    """An array `(R, ...)` of `.npy` files of one shape and type, a row each; 0 where a row has none.

    It is indexed as NumPy's arrays are, and gives arrays in memory. Opening a row's file takes about 15 us more than a
    row of one memory-mapped file: little beside volumes of 100 KiB and more (`benchmarks/data.py --batches`).

    Attributes:
        files: Of each row, or None.
        shape: `(R, ...)`.
        dtype: Of the files; that of a row of none is float16.
    """

    def __init__(self, files: Sequence[Path | None], row_shape: Sequence[int], lock: object = None) -> None:
        """Reads the files' sizes, and marks them as used now.

        Args:
            files: Of each row, or None.
            row_shape: The shape of one.
            lock: Whatever says that the files are in use, for as long as it lives.

        Raises:
            FileNotFoundError: If one is gone.
            ValueError: If one is of another shape or type, or was cut short.
        """
        self.files = tuple(files)
        self._lock = lock
        self.shape = (len(self.files), *row_shape)
        self.dtype: np.dtype[Any] = np.dtype(np.float16)
        self._offset = self._row_bytes = 0
        there = [file for file in self.files if file is not None]
        if there:
            first = np.load(there[0], mmap_mode="r", allow_pickle=False)
            self.dtype, self._offset, self._row_bytes = first.dtype, first.offset, first.nbytes
            self._check(there, first.shape)

    def _check(self, files: Sequence[Path], shape: tuple[int, ...]) -> None:
        expected = self._offset + self._row_bytes
        if shape != self.shape[1:] or any(file.stat().st_size != expected for file in files):
            msg = f"artefacts of shape {shape}, or cut short; expected {self.shape[1:]}"
            raise ValueError(msg)
        for file in files:
            os.utime(file)

    def __reduce__(self) -> tuple[type[RowFiles], tuple[Sequence[Path | None], tuple[int, ...]]]:
        """As another process gets it: without the lock."""
        return RowFiles, (self.files, self.shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """As of an array."""
        return len(self.shape)

    def __getitem__(self, key: Any) -> Array:
        first, *rest = key if isinstance(key, tuple) else (key,)
        rows = np.arange(len(self))[first]
        if rows.ndim == 0:
            return np.asarray(self._read([int(rows)])[0][tuple(rest)])
        values = self._read(rows.ravel().tolist()).reshape(rows.shape + self.shape[1:])
        return np.asarray(values[(slice(None),) * rows.ndim + tuple(rest)]) if rest else values

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        return self[:] if dtype is None else self[:].astype(dtype)

    def _read(self, rows: Sequence[int]) -> Array:
        out = np.zeros((len(rows), *self.shape[1:]), self.dtype)
        places = out.reshape(len(rows), math.prod(self.shape[1:])).view(np.uint8)
        for place, row in zip(places, rows, strict=True):
            if (file := self.files[row]) is not None:
                self._read_row(file, place.data)
        return out

    def _read_row(self, file: Path, place: memoryview) -> None:
        handle = os.open(file, os.O_RDONLY)
        try:
            if os.preadv(handle, [place], self._offset) != self._row_bytes:
                msg = f"an artefact was cut short while it was in use: {file}"
                raise OSError(msg)
        finally:
            os.close(handle)
