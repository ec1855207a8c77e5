"""Atomic, owner-only files of the site."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from client.errors import SiteError
from shared_models.atomic_files import write_atomically


def secret_problem(path: Path) -> str:
    """Why a file is none to keep a password or token in; empty where it is."""
    if not path.is_file():
        return f"no file {path}"
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return f"a file that others on this computer can use: {path}"
    return ""


def write_private(path: Path, content: bytes | str) -> None:
    """Writes a file that only its owner may read, whole or not at all.

    Raises:
        SiteError: If it cannot be written.
    """
    with writing(path):
        write_atomically(path, content)


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
