"""Lines that each hold the hash of the one before: read forwards and backwards, and checked.

Whatever breaks the chain is raised as a `BrokenRecordError`.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from shared_models.record_file import Head, broken

Line = dict[str, Any]


def chained(path: Path, content: bytes, head: Head) -> Iterator[Line]:
    """The whole lines of `content`, which lies behind `head`; half a line at its end was never acknowledged."""
    previous = head.hash
    for number, text in enumerate(content.split(b"\n")[:-1], start=head.lines + 1):
        line = _parsed(path, number, text)
        if line.get("line") != number or line.get("previous") != previous:
            raise broken(path, number, "a line is missing, or is in another's place")
        if line.get("hash") != hash_of(line):
            raise broken(path, number, "a line was changed")
        previous = str(line["hash"])
        yield line


def backwards(path: Path, head: Head) -> Iterator[Line]:
    """The acknowledged lines, the newest first, each checked against the hash that the one after it holds."""
    if not head.lines:
        return
    if not path.exists() or path.stat().st_size < head.end:
        raise broken(path, head.lines, f"{head.lines} lines were written, and the last is not there")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start, end, expected = head.start, head.end, head.hash
        for number in range(head.lines, 0, -1):
            line = _parsed(path, number, content[start : end - 1])
            if line.get("line") != number or not expected == line.get("hash") == hash_of(line):
                raise broken(path, number, "a line was changed, or is in another's place")
            yield line
            start, end, expected = content.rfind(b"\n", 0, max(start - 1, 0)) + 1, start, str(line.get("previous"))


def newest_of(path: Path, head: Head, event: str) -> Line | None:
    """The newest acknowledged line of an event; None where there is none."""
    return next((line for line in backwards(path, head) if line.get("event") == event), None)


def adopted(path: Path, head: Head) -> Head:
    """The head with the whole lines behind it, which a crash left before it could say so."""
    if not path.exists():
        return head
    with path.open("rb") as file:
        file.seek(head.end)
        content = file.read()
    lines = list(chained(path, content, head))
    for line, text in zip(lines, content.split(b"\n"), strict=False):
        head = Head(line["line"], line["hash"], head.end, head.end + len(text) + 1)
    return head


def _parsed(path: Path, number: int, text: bytes) -> Line:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        line = None
    if not isinstance(line, dict):
        raise broken(path, number, "a line was changed")
    return line


def hash_of(line: Mapping[str, Any]) -> str:
    """SHA-256 of a line but for its own `hash`."""
    content = {key: value for key, value in line.items() if key != "hash"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
