"""Atomic file writes: a file is on the disk whole, or as it was before.

The content goes into a draft beside the file, is synced, and is renamed over it; then the folder is synced, so that
after a power failure the name leads to the new content. A process that is killed outright leaves its draft behind,
under a name that begins with `DRAFT_PREFIX`. In a `scratch` folder nothing is synced.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

DRAFT_PREFIX = ".draft-"
OWNER_ONLY = 0o600
_SCRATCH: ContextVar[Path | None] = ContextVar("scratch", default=None)


@contextmanager
def scratch(folder: Path) -> Iterator[None]:
    """Meanwhile nothing in a folder is brought to the disk at once: what a power failure takes there, nobody misses.

    The state of hospitals that a simulation makes is such a folder: hundreds of them would wait for the disk at every
    message, and who starts the study again divides the patients again.

    Args:
        folder: It may be missing.
    """
    before = _SCRATCH.set(folder.resolve())
    try:
        yield
    finally:
        _SCRATCH.reset(before)


def must_last(path: Path) -> bool:
    """Whether a file must be on the disk before anything goes on: of all but those in a `scratch` folder."""
    folder = _SCRATCH.get()
    return folder is None or folder not in path.absolute().parents


def write_atomically(path: Path, content: bytes | str, mode: int = OWNER_ONLY) -> None:
    """Writes a file whole or not at all, and makes its folder where that is missing.

    Args:
        path: The file; one that is there is replaced.
        content: Text is written as UTF-8, its line ends as they are.
        mode: Who may read it; its owner alone by default.

    Raises:
        OSError: If it cannot be written; the file is then as it was.
    """
    with atomic_path(path, mode) as draft:
        draft.write_bytes(content.encode() if isinstance(content, str) else content)


def replace_quickly(path: Path, content: str) -> None:
    """Writes a text that is rewritten all the time: a reader sees it whole, and a power failure may take it.

    Args:
        path: The file; one that is there is replaced.
        content: Written as UTF-8.

    Raises:
        OSError: If it cannot be written.
    """
    draft = path.with_name(f"{DRAFT_PREFIX}{path.name}")
    draft.touch(OWNER_ONLY)
    draft.write_text(content, encoding="utf-8")
    draft.replace(path)


@contextmanager
def atomic_path(path: Path, mode: int = OWNER_ONLY) -> Iterator[Path]:
    """A draft to be written meanwhile, such as by a library that takes a path; it becomes `path` at the end.

    Args:
        path: The file; one that is there is replaced. Its folder is made where that is missing.
        mode: Who may read it; its owner alone by default.

    Yields:
        The draft: an empty file beside `path`. It is removed if anything is raised.

    Raises:
        OSError: If it cannot be written.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=DRAFT_PREFIX, dir=path.parent)  # mode 0600
    os.close(handle)
    draft = Path(name)
    try:
        yield draft
        draft.chmod(mode)
        _sync(draft)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Brings a folder's names to the disk: a new file's content is lost without its name."""
    _sync(folder)


def _sync(path: Path) -> None:
    if not must_last(path):
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
