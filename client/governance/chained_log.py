"""A hospital's append-only records: `shared_models/chained_log.py`, with errors that say what to do at a site."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from client.errors import SiteError
from shared_models import chained_log
from shared_models.chained_log import (
    CLOCK_SET,
    BrokenRecordError,
    ClockBehindError,
    Line,
    LockedRecordError,
    Log,
    RecordError,
)

__all__ = ["CLOCK_SET", "Line", "Log", "append", "locked", "newest", "read"]

BROKEN = {
    "what": "a record of the site is not as it was written",
    "expected": "the lines as they were written, none changed, removed or moved",
    "fix": "bring the file and its .head back from a backup; do not delete them: what they count was spent",
    "public": "a record that the site keeps is damaged: it takes no part until that is mended",
}
CLOCK_BEHIND = {
    "what": "this computer's clock is behind a record",
    "fix": "set the clock; if it was wrong when that line was written, run python -m client accept-clock once",
    "public": "the site's clock is wrong",
}
LOCKED = {
    "what": "a record of the site is held by another process",
    "fix": "end the other process, or wait for it, then try again; nothing was done that the record does not show",
    "public": "the site cannot write its records: it takes no part until that is mended",
}
UNWRITABLE = {
    "what": "a record of the site cannot be written",
    "expected": "a file that this program may append to, and room on the disk",
    "fix": "free some room, or correct the permissions; nothing was done that the record does not show",
    "public": "the site cannot write its records: it takes no part until that is mended",
}


def append(path: Path, entry: Mapping[str, Any]) -> Line:
    """Writes one line and returns it with its `line`, `time`, `previous` and `hash`.

    Args:
        path: The file; made if it is not there yet.
        entry: What happened; plain JSON values.

    Raises:
        SiteError: If the file is broken, cannot be written, or the computer's clock is behind its last line.
    """
    with _as_site_errors():
        return chained_log.append(path, entry)[0]


@contextmanager
def locked(path: Path) -> Iterator[Log]:
    """Holds a record, so that what is decided from its lines and the line about it are one step.

    Raises:
        SiteError: If the file's end is broken, it cannot be written, or another process does not let go of it.
    """
    with _as_site_errors(), chained_log.locked(path) as log:
        yield log


def newest(path: Path, event: str) -> Line | None:
    """The last line of an event, None where there is none; checks no line before it.

    Raises:
        SiteError: If a line from there on was changed, removed or put elsewhere.
    """
    with _as_site_errors():
        return chained_log.newest(path, event)


def read(path: Path) -> list[Line]:
    """All lines, the oldest first; none where there is no file.

    Raises:
        SiteError: If a line was changed, removed or put elsewhere.
    """
    with _as_site_errors():
        return chained_log.read(path)


@contextmanager
def _as_site_errors() -> Iterator[None]:
    try:
        yield
    except RecordError as error:
        words = {BrokenRecordError: BROKEN, ClockBehindError: CLOCK_BEHIND, LockedRecordError: LOCKED}.get(
            type(error), UNWRITABLE
        )
        facts: dict[str, Any] = {"where": error.where, "found": error.found, "expected": error.expected}
        raise SiteError(**(facts | words)) from None
