"""Who was set aside, by name, in a file that stays at the site: `set_aside.csv`."""

from __future__ import annotations

import csv
import io
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from client.errors import SiteError

FILE = "set_aside.csv"
_HEAD = ("patient", "instance", "modality", "why")


class SetAside(NamedTuple):
    """A patient, lesion or view without a modality, because its files cannot be used; never leaves the site."""

    patient: str
    instance: str
    modality: str
    why: str

    @property
    def in_short(self) -> str:
        """What is wrong, what was found, and what to do, in one line."""
        what, *lines = self.why.splitlines()
        kept = [line.strip() for line in lines if line.lstrip().startswith(("found:", "to do:"))]
        return "; ".join(" ".join(part.split()) for part in (what, *kept))


def keep_set_aside(state_dir: Path, found: Sequence[SetAside]) -> Path | None:
    """Writes the file, or removes it where nobody is set aside.

    Args:
        state_dir: The site's own folder.
        found: Who was set aside when the cohort was read last.

    Returns:
        The file, or None.

    Raises:
        SiteError: If the folder cannot be written.
    """
    path = state_dir / FILE
    if not found:
        with writing(path):
            path.unlink(missing_ok=True)
        return None
    text = io.StringIO(newline="")
    rows = [(one.patient, one.instance, one.modality, one.in_short) for one in found]
    csv.writer(text).writerows([_HEAD, *rows])
    write_private(path, text.getvalue())
    return path


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
