"""Messages of secure aggregation: canonical JSON and named blocks of bytes, read from anyone without harm.

A message is `{"control": JSON, "block/GROUP": bytes}`: values that Flower's ConfigRecord takes as they are.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

Message = Mapping[str, bytes]

CONTROL, BLOCK = "control", "block/"
MAX_CONTROL_BYTES = 16 * 2**20
MAX_ENTRIES = 1023
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_HEX = re.compile(r"(?:[0-9a-f]{2})*")


class ProtocolError(ValueError):
    """A message that does not belong to a secure sum, in one sentence that may leave a site."""


def canonical(value: Any) -> bytes:
    """The one JSON of a value: sorted, without spaces, in ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def hashed(*parts: bytes) -> str:
    """SHA-256 over parts and their lengths, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def parse(data: object) -> Any:
    """JSON of bounded length and depth, in which no name appears twice and no number is a fraction.

    Raises:
        ProtocolError: If it is anything else.
    """
    if not isinstance(data, bytes | str) or len(data) > MAX_CONTROL_BYTES:
        msg = f"a message is not text of at most {MAX_CONTROL_BYTES} bytes"
        raise ProtocolError(msg)
    try:
        text = data.decode("ascii") if isinstance(data, bytes) else data
        return json.loads(text, object_pairs_hook=_once, parse_constant=_refuse, parse_float=_refuse)
    except (ValueError, RecursionError):
        msg = "a message is not JSON as it is agreed on"
        raise ProtocolError(msg) from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        msg = "a name appears twice"
        raise ValueError(msg)
    return entries


def _refuse(text: str) -> None:
    del text
    msg = "a fraction"
    raise ValueError(msg)


def pack(control: Mapping[str, Any], blocks: Mapping[str, bytes] | None = None) -> Message:
    """A message."""
    named = {f"{BLOCK}{group}": data for group, data in (blocks or {}).items()}
    return {CONTROL: canonical(control), **named}


def unpack(message: object, *names: str, blocks: bool = False) -> dict[str, Any]:
    """The control part of a message, which has just these fields, and nothing beside it but `blocks`.

    Raises:
        ProtocolError: If it has not.
    """
    if not isinstance(message, Mapping) or not (blocks or set(message) == {CONTROL}):
        msg = "a message is no record, or holds more than is known"
        raise ProtocolError(msg)
    return fields(parse(message.get(CONTROL)), *names)


def block_sizes(message: Mapping[str, Any]) -> dict[str, int]:
    """Bytes of each block of a message, by group.

    Raises:
        ProtocolError: If something else is in it.
    """
    sizes: dict[str, int] = {}
    for key, value in message.items():
        if key == CONTROL:
            continue
        if not isinstance(key, str) or not key.startswith(BLOCK) or not isinstance(value, bytes):
            msg = "a message holds something that is no block"
            raise ProtocolError(msg)
        sizes[name(key.removeprefix(BLOCK))] = len(value)
    return sizes


def fingerprint(message: Mapping[str, Any]) -> str:
    """Hash of a message, by which the same one is known again."""
    parts = []
    for key, value in sorted((str(key), value) for key, value in message.items()):
        parts += [key.encode(errors="replace"), value if isinstance(value, bytes) else repr(value).encode()]
    return hashed(*parts)


def fields(value: object, *names: str) -> dict[str, Any]:
    """A JSON object with just these names."""
    if not isinstance(value, dict) or set(value) != set(names):
        msg = f"a part of a message does not consist of {', '.join(names)}"
        raise ProtocolError(msg)
    return value


def listed(value: object) -> list[Any]:
    """A JSON array."""
    if not isinstance(value, list) or len(value) > MAX_ENTRIES:
        msg = f"a part of a message is not a list of at most {MAX_ENTRIES} entries"
        raise ProtocolError(msg)
    return value


def mapped(value: object) -> dict[str, Any]:
    """A JSON object with names of sites, groups or secrets."""
    if not isinstance(value, dict) or len(value) > MAX_ENTRIES:
        msg = f"a part of a message is not a table of at most {MAX_ENTRIES} entries"
        raise ProtocolError(msg)
    return {name(key): entry for key, entry in value.items()}


def name(value: object) -> str:
    """The name of a site, a group or a secret."""
    if not isinstance(value, str) or not NAME.fullmatch(value):
        msg = "a name in a message is none: up to 64 letters, digits, dots, dashes and underscores"
        raise ProtocolError(msg)
    return value


def names(value: object) -> tuple[str, ...]:
    """Different names, sorted."""
    ordered = tuple(sorted(map(name, listed(value))))
    if len(set(ordered)) != len(ordered):
        msg = "a name appears twice in a list"
        raise ProtocolError(msg)
    return ordered


def whole(value: object, least: int, most: int) -> int:
    """A whole number in a range."""
    if type(value) is not int or not least <= value <= most:
        msg = f"a number in a message is not whole, or not from {least} to {most}"
        raise ProtocolError(msg)
    return value


def truth(value: object) -> bool:
    """True or false."""
    if type(value) is not bool:
        msg = "a value in a message is neither true nor false"
        raise ProtocolError(msg)
    return value


def hexadecimal(value: object, least: int, most: int | None = None) -> str:
    """Hexadecimal digits of so many bytes, in lower case."""
    most = least if most is None else most
    if not isinstance(value, str) or not 2 * least <= len(value) <= 2 * most or not _HEX.fullmatch(value):
        msg = f"a value in a message is not {least} to {most} bytes in hexadecimal"
        raise ProtocolError(msg)
    return value


def hash_of(value: object) -> str:
    """A SHA-256 hash."""
    return hexadecimal(value, 32)
