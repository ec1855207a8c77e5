"""Hash-chained, append-only log of JSON lines.

A line that is changed, removed or put elsewhere breaks the chain. Beside the file stands its head: how long it is and
the last line's hash, so that lines cut off at the end are missed, too. A line is on the disk before the head says so,
and both before `append` returns: after a crash at any instant the file is whole, or ends in a line that was never
acknowledged.

The chain finds accidents, and edits by whoever does not know of it. Who may write the files and takes the trouble
can write the whole chain anew.

Hospitals and the center keep their records so; what goes wrong is raised as a `RecordError`, which each of them tells
in its own words.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shared_models.atomic_files import sync_folder, write_atomically

Line = dict[str, Any]
FIRST = "0" * 64
CLOCK_TOLERANCE_S = 86_400.0
CLOCK_SET = "the clock was set right"


class RecordError(Exception):
    """A record cannot be used.

    Attributes:
        where: The file, and its line where there is one.
        found: What is wrong with it.
        expected: What would be right; empty where that is always the same.
    """

    def __init__(self, where: str, found: str, expected: str = "") -> None:
        super().__init__(f"{where}: {found}")
        self.where, self.found, self.expected = where, found, expected


class BrokenRecordError(RecordError):
    """A line was changed, removed or put elsewhere."""


class UnwritableRecordError(RecordError):
    """The file cannot be read or written."""


class ClockBehindError(RecordError):
    """The computer's clock is a day or more behind the last line."""


def append(path: Path, *entries: Mapping[str, Any]) -> list[Line]:
    """Writes a line for each entry and returns them with their `line`, `time`, `previous` and `hash`.

    Args:
        path: The file; made if it is not there yet.
        entries: What happened; plain JSON values.

    Raises:
        RecordError: If the file is broken, cannot be written, or the computer's clock is behind its last line.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(path):
            lines = _checked(path)
            _trim(path)
            last: Line = lines[-1] if lines else {"line": 0, "hash": FIRST, "time": ""}
            added: list[Line] = []
            for entry in entries:
                line = {"line": last["line"] + 1, "time": _now(path, last, entry), "previous": last["hash"], **entry}
                last = {**line, "hash": _hash(line)}
                added.append(last)
            _write(path, added)
            return added
    except OSError as error:
        raise UnwritableRecordError(str(path), error.strerror or str(error)) from None


def read(path: Path) -> list[Line]:
    """All lines, the oldest first; none where there is no file.

    Raises:
        RecordError: If a line was changed, removed or put elsewhere, or the file cannot be read.
    """
    try:
        return _checked(path)
    except OSError as error:
        raise UnwritableRecordError(str(path), error.strerror or str(error)) from None


def _checked(path: Path) -> list[Line]:
    content = path.read_bytes() if path.exists() else b""
    lines = [_parsed(path, number, text) for number, text in enumerate(content.split(b"\n")[:-1], start=1)]
    previous = FIRST
    for number, line in enumerate(lines, start=1):
        if line.get("line") != number or line.get("previous") != previous:
            raise _broken(path, number, "a line is missing, or stands in another's place")
        if line.get("hash") != _hash(line):
            raise _broken(path, number, "a line was changed")
        previous = line["hash"]
    head = _head(path)
    if head and (len(lines) < head["lines"] or (head["lines"] and lines[head["lines"] - 1]["hash"] != head["hash"])):
        raise _broken(path, len(lines) + 1, f"{head['lines']} lines were written, and {len(lines)} are left")
    return lines


def _parsed(path: Path, number: int, text: bytes) -> Line:
    try:
        line = json.loads(text)
    except ValueError:
        line = None
    if not isinstance(line, dict):
        raise _broken(path, number, "a line was changed")
    return line


def _head(path: Path) -> dict[str, Any] | None:
    head = _head_path(path)
    if not head.exists():
        if path.exists() and path.read_bytes().count(b"\n") > 1:  # the first line may be on the disk before its head
            raise _broken(path, 1, f"{head.name} is missing")
        return None
    try:
        found = json.loads(head.read_bytes())
        return {"lines": int(found["lines"]), "hash": str(found["hash"])}
    except (ValueError, KeyError, TypeError):
        raise _broken(path, 1, f"{head.name} cannot be read") from None


def _head_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.head")


def _hash(line: Mapping[str, Any]) -> str:
    content = {key: value for key, value in line.items() if key != "hash"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _now(path: Path, last: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    """The time, in UTC; refused where a day or more before the last line's, because one of the two is wrong."""
    now = time.time()
    before = datetime.fromisoformat(last["time"]).timestamp() if last["time"] else now
    if now < before - CLOCK_TOLERANCE_S and entry.get("event") != CLOCK_SET:
        where, found = f"{path}, line {last['line']}", f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M} UTC"
        raise ClockBehindError(where, found, f"a time after {last['time']}")
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")


def _trim(path: Path) -> None:
    """Drops the start of a line that a crash left; nobody was told that it was written."""
    if path.exists() and (content := path.read_bytes()) and not content.endswith(b"\n"):
        os.truncate(path, content.rfind(b"\n") + 1)


def _write(path: Path, lines: Sequence[Line]) -> None:
    if new := not path.exists():
        _write_head(path, {"line": 0, "hash": FIRST})  # several lines without a head would look like a lost head
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        text = "".join(json.dumps(line, sort_keys=True) + "\n" for line in lines).encode()
        while text:
            text = text[os.write(file, text) :]
        os.fsync(file)
    finally:
        os.close(file)
    if new:
        sync_folder(path.parent)
    _write_head(path, lines[-1])


def _write_head(path: Path, last: Mapping[str, Any]) -> None:
    write_atomically(_head_path(path), json.dumps({"lines": last["line"], "hash": last["hash"]}))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.with_name(f"{path.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _broken(path: Path, number: int, found: str) -> BrokenRecordError:
    return BrokenRecordError(f"{path}, line {number}", found)
