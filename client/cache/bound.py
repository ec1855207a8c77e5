"""The bound on a site's cache: what was used least lately goes first, and nothing that an open cohort reads."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from client.cache.entry import ENTRIES, LOCK, files_of, locked
from client.cache.store import ARTEFACTS, CACHE
from shared_models.atomic_files import DRAFT_PREFIX

ABANDONED_AFTER_S = 86_400.0
PREDECESSORS = "kept"  # a folder of earlier versions, beside `cache`; nothing of it is read


def trim(state_dir: Path, room_bytes: float) -> None:
    """Drops files of the cache until the rest takes at most `room_bytes`, or is in use."""
    cache = state_dir / CACHE
    with locked(cache, fcntl.LOCK_EX):
        in_use = {file for entry in _entries(cache) if _is_in_use(entry) for file in (entry, *files_of(entry))}
        entries = [(file, *_use(file)) for file in _files(state_dir)]
        room_bytes -= sum(size for file, _, size in entries if file in in_use)
        for file, _, size in sorted(entries, key=lambda one: one[1], reverse=True):
            if file not in in_use:
                room_bytes -= size
                if room_bytes < 0:
                    file.unlink(missing_ok=True)
    _drop_empty(state_dir)


def _entries(cache: Path) -> Iterator[Path]:
    return (cache / ENTRIES).glob("*.safetensors")


def _files(state_dir: Path) -> Iterator[Path]:
    """All that counts; of drafts, those that were abandoned."""
    for folder in (state_dir / CACHE, state_dir / PREDECESSORS):
        for file in folder.rglob("*"):
            if not file.is_file() or file == state_dir / CACHE / LOCK:
                continue
            if not file.name.startswith(DRAFT_PREFIX):
                yield file
            elif time.time() - _use(file)[0] > ABANDONED_AFTER_S:
                file.unlink(missing_ok=True)


def _use(file: Path) -> tuple[float, int]:
    """When it was used last, and the bytes that it takes on the disk."""
    try:
        status = file.stat()
    except FileNotFoundError:  # a draft of another process, renamed meanwhile
        return 0.0, 0
    return status.st_mtime, 512 * status.st_blocks


def _is_in_use(entry: Path) -> bool:
    with entry.open("r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _drop_empty(state_dir: Path) -> None:
    """Empty folders that earlier versions have left; others may be about to be written to."""
    today = {state_dir / CACHE / name for name in (ARTEFACTS, ENTRIES)}
    old = [folder for folder in (state_dir / CACHE).iterdir() if folder.is_dir() and folder not in today]
    predecessors = state_dir / PREDECESSORS
    for folder in (*old, *predecessors.glob("*"), predecessors):
        with suppress(OSError):
            folder.rmdir()
