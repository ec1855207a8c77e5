"""An append-only file of JSON lines in which each line holds the hash of the one before.

A line that is changed, removed or put elsewhere breaks the chain. Beside the file is its head: how many lines
there are, where the last one lies and its hash, so that lines cut off at the end are missed, too. A line is on the disk
before the head says so, and both before `append` returns: after a crash at any instant the file is whole, or ends in
lines that were never acknowledged.

An append checks the last line against the head, and those behind it that a crash left: two hashes, however long the
file is. `read` checks every line.

The chain finds accidents, and edits by whoever does not know of it. Who may write the files and takes the trouble
can rewrite the whole chain.

Hospitals and the center keep their records so; what goes wrong is raised as a `RecordError`, which each of them tells
in its own words.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shared_models import hash_chain
from shared_models.hash_chain import Line, adopted, backwards, chained, newest_of
from shared_models.record_file import (
    FIRST,
    BrokenRecordError,
    ClockBehindError,
    Head,
    LockedRecordError,
    RecordError,
    UnwritableRecordError,
    broken,
    first_head,
    lock,
    read_head,
    unwritable,
    write,
)

__all__ = [
    "CLOCK_SET",
    "BrokenRecordError",
    "ClockBehindError",
    "Line",
    "LockedRecordError",
    "Log",
    "RecordError",
    "UnwritableRecordError",
    "append",
    "locked",
    "newest",
    "read",
]

CLOCK_TOLERANCE_S = 86_400.0
CLOCK_SET = "the clock was set right"
LOCK_WAIT_S = 30.0


class Log:
    """A record that this process alone may write, from `locked`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with unwritable(path):
            head = read_head(path)
            self._head = adopted(path, first_head(path) if head is None else head)
            self._last = next(backwards(path, self._head), None)

    def lines(self) -> list[Line]:
        """All lines, the oldest first, each checked.

        Raises:
            RecordError: If one was changed, removed or put elsewhere, or the file cannot be read.
        """
        return read(self._path)

    def newest(self, event: str) -> Line | None:
        """The last line of an event; None where there is none. Checks no line before it.

        Raises:
            RecordError: If a line from there on was changed, or the file cannot be read.
        """
        if self._last and self._last.get("event") == event:
            return self._last
        with unwritable(self._path):
            return newest_of(self._path, self._head, event)

    def append(self, *entries: Mapping[str, Any]) -> list[Line]:
        """Writes a line for each entry and returns them with their `line`, `time`, `previous` and `hash`.

        Args:
            entries: What happened; plain JSON values.

        Raises:
            RecordError: If the file cannot be written, or the computer's clock is behind its last line. Then nothing
                was written.
        """
        last = self._last or {"line": 0, "hash": FIRST, "time": ""}
        head, added, texts = self._head, [], []
        for entry in entries:
            line = {"line": last["line"] + 1, "time": _now(self._path, last, entry), "previous": last["hash"], **entry}
            last = {**line, "hash": hash_chain.hash_of(line)}
            text = json.dumps(last, sort_keys=True).encode() + b"\n"
            head = Head(last["line"], last["hash"], head.end, head.end + len(text))
            added.append(last)
            texts.append(text)
        if added:
            with unwritable(self._path):
                write(self._path, self._head, b"".join(texts), head)
            self._head, self._last = head, last
        return added


@contextmanager
def locked(path: Path, wait_s: float | None = None) -> Iterator[Log]:
    """Holds a record for one transaction, so that what is decided from its lines and the line about it are one step.

    Args:
        path: The file; made by the first line if it is not there yet.
        wait_s: How long to wait for another process; `LOCK_WAIT_S` where it is not given.

    Raises:
        RecordError: If its end is broken, it cannot be written, or another process does not let go of it.
    """
    with unwritable(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        with unwritable(path):
            lock(path, file, LOCK_WAIT_S if wait_s is None else wait_s)
        yield Log(path)
    finally:
        os.close(file)  # lets go of the lock, as the end of the process does


def append(path: Path, *entries: Mapping[str, Any]) -> list[Line]:
    """Writes a line for each entry and returns them with their `line`, `time`, `previous` and `hash`.

    Args:
        path: The file; made if it is not there yet.
        entries: What happened; plain JSON values.

    Raises:
        RecordError: If the file's end is broken, it cannot be written, another process holds it, or the computer's
            clock is behind its last line.
    """
    with locked(path) as log:
        return log.append(*entries)


def newest(path: Path, event: str) -> Line | None:
    """The last acknowledged line of an event, without waiting for anybody; None where there is none.

    Raises:
        RecordError: If a line from there on was changed, removed or put elsewhere, or the file cannot be read.
    """
    with unwritable(path):
        head = read_head(path)
        return newest_of(path, first_head(path) if head is None else head, event)


def read(path: Path) -> list[Line]:
    """All lines, the oldest first, each checked; none where there is no file.

    Raises:
        RecordError: If a line was changed, removed or put elsewhere, or the file cannot be read.
    """
    with unwritable(path):
        head, content = _read_whole(path)
    lines = list(chained(path, content, Head()))
    if head and (len(lines) < head.lines or (head.lines and lines[head.lines - 1]["hash"] != head.hash)):
        raise broken(path, len(lines) + 1, f"{head.lines} lines were written, and {len(lines)} are left")
    return lines


def _read_whole(path: Path) -> tuple[Head, bytes]:
    """Head and content that belong together, whoever writes meanwhile."""
    while True:
        before = read_head(path)
        content = path.read_bytes() if path.exists() else b""
        if before == (after := read_head(path)):
            return (first_head(path) if after is None else after), content


def _now(path: Path, last: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    """The time, in UTC; refused where a day or more before the last line's, because one of the two is wrong."""
    now = time.time()
    before = datetime.fromisoformat(last["time"]).timestamp() if last["time"] else now
    if now < before - CLOCK_TOLERANCE_S and entry.get("event") != CLOCK_SET:
        where, found = f"{path}, line {last['line']}", f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M} UTC"
        raise ClockBehindError(
            what="this computer's clock is behind a record",
            where=where,
            found=found,
            expected=f"a time after {last['time']}",
            fix="set the clock",
        )
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
