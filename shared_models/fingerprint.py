"""Size and hash of a message, the same at the sending site and at the center.

A line of a site's audit log and one of the center's can so be compared.
"""

from __future__ import annotations

import hashlib
from typing import Any

from flwr.app import ArrayRecord, RecordDict


def fingerprint(content: RecordDict) -> dict[str, Any]:
    """What a message holds, never a value of it.

    Returns:
        `parts`, the bytes of each array and record by its name; `bytes`, of all; `sha256`, over all in the order of
        their names.
    """
    parts = dict(sorted(_parts(content)))
    digest = hashlib.sha256()
    for name, data in parts.items():
        digest.update(f"{name} {len(data)}\n".encode())
        digest.update(data)
    sizes = {name: len(data) for name, data in parts.items()}
    return {"parts": sizes, "bytes": sum(sizes.values()), "sha256": digest.hexdigest()}


def _parts(content: RecordDict) -> list[tuple[str, bytes]]:
    """Each array's bytes, and each record of numbers and words as text.

    Flower's `array_records` and the like are not asked for: what they return refers to itself, and keeps the whole
    message in memory until Python looks for such circles.
    """
    parts: list[tuple[str, bytes]] = []
    for name, record in content.items():
        if isinstance(record, ArrayRecord):
            parts += [(f"{name}/{key}", array.data) for key, array in record.items()]
        elif record:
            parts.append((name, b"".join(_text(key, value) for key, value in sorted(record.items()))))
    return parts


def _text(key: str, value: Any) -> bytes:
    """An entry of a record; bytes stay as they are, since masked numbers of megabytes would be four times as long."""
    if isinstance(value, bytes):
        return f"{key!r}: {len(value)} bytes\n".encode() + value + b"\n"
    return f"{key!r}: {value!r}\n".encode()
