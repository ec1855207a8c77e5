"""A chained log on the disk: its errors, the head beside it, what is written in which order, and its lock.

`shared_models/chained_log.py` is what others use.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from shared_models.atomic_files import must_last, sync_folder, write_atomically
from shared_models.errors import UserError

FIRST = "0" * 64
LOCK_POLL_S = 0.02


class RecordError(UserError):
    """A record cannot be used; the party whose it is says what that means for it, and what to do."""

    default_public = "a record cannot be used: the party that keeps it takes no part until that is mended"


class BrokenRecordError(RecordError):
    """A line was changed, removed or put elsewhere."""


class UnwritableRecordError(RecordError):
    """The file cannot be read or written."""


class LockedRecordError(RecordError):
    """Another process holds the file for longer than any transaction takes."""


class ClockBehindError(RecordError):
    """The computer's clock is a day or more behind the last line."""


@dataclass(frozen=True)
class Head:
    """What the file was when it was last acknowledged.

    Attributes:
        lines: How many there are.
        hash: The last one's.
        start: Where the last one starts, in bytes.
        end: Where it ends, behind its line feed.
    """

    lines: int = 0
    hash: str = FIRST
    start: int = 0
    end: int = 0


def read_head(path: Path) -> Head | None:
    """The head, None where there is no file of it.

    Raises:
        BrokenRecordError: If it cannot be read.
    """
    try:
        content = json.loads(_head_path(path).read_bytes())
        if "end" not in content:  # of a version that noted no place
            return _placed(path, int(content["lines"]), str(content["hash"]))
        head = Head(int(content["lines"]), str(content["hash"]), int(content["start"]), int(content["end"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise broken(path, 1, f"{_head_path(path).name} cannot be read") from None
    if head != Head() and not (head.lines > 0 and 0 <= head.start < head.end):
        raise broken(path, 1, f"{_head_path(path).name} cannot be read")
    return head


def first_head(path: Path) -> Head:
    """The head of a file that nothing was written to.

    Raises:
        BrokenRecordError: If something was: a head is on the disk before the first line is.
    """
    if path.exists() and path.stat().st_size:
        raise broken(path, 1, f"{_head_path(path).name} is missing")
    return Head()


def _placed(path: Path, lines: int, digest: str) -> Head:
    """An older version's head, with the place of its last line."""
    content = path.read_bytes() if path.exists() else b""
    texts = content.split(b"\n")[:-1][:lines]
    if len(texts) < lines:
        raise broken(path, len(texts) + 1, f"{lines} lines were written, and {len(texts)} are left")
    end = sum(len(text) + 1 for text in texts)
    return Head(lines, digest, end - len(texts[-1]) - 1 if texts else 0, end)


def _head_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.head")


def write(path: Path, before: Head, text: bytes, after: Head) -> None:
    """Writes lines first, then the head that says so; what fails before the head is taken back.

    Args:
        path: The file.
        before: Its head; what lies behind it is the start of a line that a crash left.
        text: The lines.
        after: The head with them.

    Raises:
        OSError: If they cannot be written.
    """
    new = not path.exists()
    if not _head_path(path).exists():
        _write_head(path, before)  # lines without a head would look like a lost head
    try:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.ftruncate(file, before.end)
            while text:
                text = text[os.write(file, text) :]
            if must_last(path):
                os.fsync(file)
        finally:
            os.close(file)
        if new:
            sync_folder(path.parent)
        _write_head(path, after)
    except OSError:
        with contextlib.suppress(OSError):
            if read_head(path) != after:  # the folder may be all that could not be synced
                os.truncate(path, before.end)
        raise


def _write_head(path: Path, head: Head) -> None:
    write_atomically(_head_path(path), json.dumps(asdict(head)))


def lock(path: Path, file: int, wait_s: float) -> None:
    """Takes the lock of a record, whose descriptor is `file`.

    Raises:
        LockedRecordError: If another process holds it for longer than `wait_s`.
    """
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                held = f"another process has held it for {wait_s:.0f} s"
                raise LockedRecordError(
                    what="a record is held by another process",
                    where=path,
                    found=held,
                    expected="no other process that writes it",
                    fix="end the other process, or wait for it, then try again",
                ) from None
            time.sleep(LOCK_POLL_S)


@contextmanager
def unwritable(path: Path) -> Iterator[None]:
    """What the operating system says of the file, as a `RecordError`."""
    try:
        yield
    except OSError as error:
        raise UnwritableRecordError(
            what="a record cannot be written",
            where=path,
            found=error.strerror or str(error),
            fix="free some room, or correct the permissions",
        ) from None


def broken(path: Path, number: int, found: str) -> BrokenRecordError:
    """The error of a line that is not as it was written."""
    return BrokenRecordError(
        what="a record is not as it was written",
        where=f"{path}, line {number}",
        found=found,
        fix="bring the file and its .head back from a backup",
    )
