"""Log files that programs write for months: bounded with nobody's help, and as text or as JSON lines.

A log of our own is rotated while it is written. One that another program holds open, as nginx or Flower, is copied and
then emptied in place, which a program that appends does not notice; lines of that moment may be lost.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from datetime import UTC, datetime
from io import TextIOWrapper
from itertools import pairwise
from logging.handlers import RotatingFileHandler
from pathlib import Path

from shared_models.atomic_files import OWNER_ONLY, atomic_path

LOG_BYTES, LOG_FILES = 5_000_000, 5  # of a log, and how many older ones are beside it
FORMATS = ("text", "json")
FORMAT_VARIABLE = "FEDERATION_LOG_FORMAT"  # how the center's processes learn what `start --log-format` chose


class JsonLines(logging.Formatter):
    """A record as one line of JSON: `time` (ISO 8601, UTC), `level`, `logger`, `message`, and `error` with a traceback.

    Line ends and control characters are escaped: what a site or a user sends cannot pose as another line.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


class _OwnersFile(RotatingFileHandler):
    """Each new file is its owner's alone, as the first one; on a full disk lines are lost without a word.

    What must not be lost says itself that the disk is full; a traceback for each line would bury that on the terminal.
    """

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)

    def _open(self) -> TextIOWrapper:
        Path(self.baseFilename).touch(OWNER_ONLY)
        return super()._open()


def log_file(path: Path, text: logging.Formatter, as_json: bool) -> logging.Handler:
    """A handler that writes a log of at most `LOG_BYTES`, and moves it to `path`.1 ... `path`.5 when it is full.

    Args:
        path: The log; what is in it stays.
        text: How a line looks, unless `as_json`.
        as_json: Whether each line is a JSON object.
    """
    handler = _OwnersFile(path, maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8")
    handler.setFormatter(JsonLines() if as_json else text)
    return handler


def empty_full_log(path: Path) -> None:
    """Copies a log that another program appends to, once it has `LOG_BYTES`, to `path`.1, and empties it.

    Raises:
        OSError: If it cannot be copied; nothing is emptied or moved then.
    """
    if not path.exists() or path.stat().st_size < LOG_BYTES:
        return
    places = [path.with_name(f"{path.name}.{number}") for number in range(1, LOG_FILES + 1)]
    with atomic_path(places[0]) as draft:
        shutil.copyfile(path, draft)
        for newer, older in reversed(list(pairwise(places))):
            if newer.exists():
                newer.replace(older)
    os.truncate(path, 0)
