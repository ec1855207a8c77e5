"""JSON from others, held to a length before it is parsed, and to what any parser can nest."""

from __future__ import annotations

import json
from typing import Any, NoReturn

MAX_CHARACTERS = 1_000_000


def parse_json(text: str | bytes, most: int = MAX_CHARACTERS) -> Any:
    """What a JSON text holds.

    Args:
        text: From another party.
        most: Characters, or bytes of UTF-8.

    Raises:
        ValueError: If it is longer, nested too deeply, no JSON, or holds a number that JSON has not.
    """
    if len(text) > most:
        msg = f"a JSON text of {len(text):,} characters, at most {most:,} are read"
        raise ValueError(msg)
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        msg = "a JSON text that is nested too deeply"
        raise ValueError(msg) from None


def _refuse(constant: str) -> NoReturn:
    msg = f"{constant} is no number of JSON"
    raise ValueError(msg)
