"""Atomic, owner-only files of the site."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from client.errors import SiteError


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner may read, whole or not at all.

    Raises:
        SiteError: If it cannot be written.
    """
    with writing(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(path, text)


def _write(path: Path, text: str) -> None:
    handle, draft = tempfile.mkstemp(prefix=".draft-", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(handle, "w", newline="", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(draft).replace(path)
    finally:
        Path(draft).unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What goes wrong where the site writes its own files, as one message.

    Raises:
        SiteError: Instead.
    """
    try:
        yield
    except OSError as error:
        raise SiteError(
            what="a file of the site's own cannot be written",
            where=str(path),
            found=str(error.strerror),
            fix="check the rights of its folder and the room on the disk, or correct state_dir",
            public="the site cannot write its own files",
        ) from None
