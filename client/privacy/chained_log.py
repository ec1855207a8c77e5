"""An append-only file of JSON lines in which each line holds the hash of the one before.

A line that is changed, removed or put elsewhere breaks the chain. Beside the file stands its head: how long it is and
the last line's hash, so that lines cut off at the end are missed, too. A line is on the disk before the head says so,
and both before `append` returns: after a crash at any instant the file is whole, or ends in a line that was never
acknowledged.

The chain finds accidents, and edits by whoever does not know of it. Who may write the files and takes the trouble
can write the whole chain anew: the center keeps the heads it was sent, and those would differ.
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

from client.errors import SiteError

Line = dict[str, Any]
FIRST = "0" * 64
CLOCK_TOLERANCE_S = 86_400.0
CLOCK_SET = "the clock was set right"


def append(path: Path, entry: Mapping[str, Any]) -> Line:
    """Writes one line and returns it with its `line`, `time`, `previous` and `hash`.

    Args:
        path: The file; made if it is not there yet.
        entry: What happened; plain JSON values.

    Raises:
        SiteError: If the file is broken, cannot be written, or the computer's clock is behind its last line.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(path):
            lines = _checked(path)
            _trim(path, lines)
            last: Line = lines[-1] if lines else {"line": 0, "hash": FIRST, "time": ""}
            line = {"line": last["line"] + 1, "time": _now(path, last, entry), "previous": last["hash"], **entry}
            line["hash"] = _hash(line)
            _write(path, line)
            return line
    except OSError as error:
        raise _unwritable(path, error) from None


def read(path: Path) -> list[Line]:
    """All lines, the oldest first; none where there is no file.

    Raises:
        SiteError: If a line was changed, removed or put elsewhere.
    """
    try:
        return _checked(path)
    except OSError as error:
        raise _unwritable(path, error) from None


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
        raise SiteError(
            what="this computer's clock is behind a record",
            where=f"{path}, line {last['line']}",
            found=f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M} UTC",
            expected=f"a time after {last['time']}",
            fix="set the clock; if it was wrong when that line was written, run with --accept-clock once",
            public="the site's clock is wrong",
        )
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")


def _trim(path: Path, lines: Sequence[Line]) -> None:
    """Drops the start of a line that a crash left; nobody was told that it was written."""
    if path.exists() and (content := path.read_bytes()) and not content.endswith(b"\n"):
        os.truncate(path, content.rfind(b"\n") + 1)


def _write(path: Path, line: Line) -> None:
    new = not path.exists()
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        text = (json.dumps(line, sort_keys=True) + "\n").encode()
        while text:
            text = text[os.write(file, text) :]
        os.fsync(file)
    finally:
        os.close(file)
    if new:
        _sync_folder(path.parent)
    draft = _head_path(path).with_suffix(".draft")
    with draft.open("w", encoding="utf-8") as head:
        json.dump({"lines": line["line"], "hash": line["hash"]}, head)
        head.flush()
        os.fsync(head.fileno())
    draft.replace(_head_path(path))
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.with_name(f"{path.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _broken(path: Path, number: int, found: str) -> SiteError:
    return SiteError(
        what="a record of the site is not as it was written",
        where=f"{path}, line {number}",
        found=found,
        expected="the lines as they were written, none changed, removed or moved",
        fix="bring the file and its .head back from a backup; do not delete them: what they count was spent",
        public="a record that the site keeps is damaged: it takes no part until that is mended",
    )


def _unwritable(path: Path, error: OSError) -> SiteError:
    return SiteError(
        what="a record of the site cannot be written",
        where=str(path),
        found=error.strerror or str(error),
        expected="a file that this program may append to, and room on the disk",
        fix="free some room, or correct the permissions; nothing was done that the record does not show",
        public="the site cannot write its records: it takes no part until that is mended",
    )
