"""A cohort as it was parsed, in one file of the cache: facts, small arrays, and which artefacts are its rows' tensors.

An entry is a safetensors file `cohorts/KEY.safetensors`; its metadata holds the facts, and the names of the artefacts
for each array that is a `RowFiles`. These hold a shared lock on the entry's file while they live: the bound on the
cache (`client.cache.bound`) drops no artefact that is in use.
"""

from __future__ import annotations

import fcntl
import json
import os
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.cache.row_files import RowFiles
from client.cache.store import ARTEFACTS
from client.private_files import writing
from shared_models.atomic_files import write_atomically

ENTRIES = "cohorts"
LOCK = "lock"


@dataclass(frozen=True, eq=False)
class Entry:
    """What was parsed.

    Attributes:
        facts: Anything that JSON can hold.
        arrays: By name; a `RowFiles` is stored as the names of its files.
    """

    facts: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any] | RowFiles]


class Lock:
    """A shared lock on a file, for as long as this object lives."""

    def __init__(self, path: Path) -> None:
        """Waits for it.

        Raises:
            FileNotFoundError: If there is no such file.
        """
        handle = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, handle)
        fcntl.flock(handle, fcntl.LOCK_SH)


def write_entry(path: Path, entry: Entry) -> None:
    """Stores an entry, whole or not at all.

    Raises:
        SiteError: If it cannot be written.
    """
    from safetensors.numpy import save

    rows = {
        name: {
            "row_shape": array.shape[1:],
            "files": [file and file.relative_to(path.parent.parent / ARTEFACTS).as_posix() for file in array.files],
        }
        for name, array in entry.arrays.items()
        if isinstance(array, RowFiles)
    }
    small = {name: np.ascontiguousarray(array) for name, array in entry.arrays.items() if name not in rows}
    metadata = {"facts": json.dumps(entry.facts), "rows": json.dumps(rows)}
    with writing(path):
        write_atomically(path, save(small, metadata))


def read_entry(path: Path) -> Entry | None:
    """An entry whose files are all there, locked against the bound; None if there is none.

    Small arrays are in memory and read-only.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with locked(path.parent.parent, fcntl.LOCK_SH):
            lock = Lock(path)
            with safe_open(path, framework="numpy") as file:
                facts = json.loads(file.metadata()["facts"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            rows = {name: RowFiles(*files_and_shape, lock) for name, files_and_shape in _rows(path).items()}
            os.utime(path)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):  # dropped in part, or cut short
        return None
    for array in arrays.values():
        array.flags.writeable = False
    return Entry(facts, {**arrays, **rows})


def files_of(path: Path) -> list[Path]:
    """The artefacts that an entry names; none if it cannot be read."""
    from safetensors import SafetensorError

    try:
        return [file for files, _ in _rows(path).values() for file in files if file]
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return []


def _rows(path: Path) -> dict[str, tuple[list[Path | None], tuple[int, ...]]]:
    from safetensors import safe_open

    artefacts = path.parent.parent / ARTEFACTS
    with safe_open(path, framework="numpy") as file:
        rows = json.loads(file.metadata()["rows"])
    return {
        name: ([file and artefacts / file for file in row["files"]], tuple(row["row_shape"]))
        for name, row in rows.items()
    }


@contextmanager
def locked(cache: Path, how: int) -> Iterator[None]:
    """The whole cache, held for a moment: while an entry is opened (shared), or files are dropped (exclusive)."""
    with (cache / LOCK).open("ab") as file:
        fcntl.flock(file, how)
        yield
