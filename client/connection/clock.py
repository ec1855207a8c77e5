"""This computer's clock beside the center's, whose answers to a site's signed requests depend on it."""

from __future__ import annotations

import ssl
import time
from datetime import UTC
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse

# Of a request's time, as Flower 1.41 accepts it: SYSTEM_TIME_TOLERANCE and TIMESTAMP_TOLERANCE in flwr.common.constant
MAX_AHEAD_S, MAX_BEHIND_S = 5.0, 300.0
WORTH_SAYING_S = 3.0
SET = "set this computer's clock by a time server (timedatectl set-ntp true), or ask your IT team"


def seconds_ahead(connection: ssl.SSLSocket, host: str) -> float | None:
    """How far this computer's clock is ahead of the server's, to half a second; None where it does not say its time.

    Args:
        connection: To the server, ready for a request.
        host: Its name.
    """
    sent = time.time()
    try:
        connection.sendall(f"HEAD / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode("ascii"))
        answer = HTTPResponse(connection, method="HEAD")
        answer.begin()
        date = parsedate_to_datetime(answer.getheader("Date", ""))
    except (OSError, HTTPException, ValueError, TypeError):
        return None
    middle = (sent + time.time()) / 2
    return middle - (date.replace(tzinfo=date.tzinfo or UTC).timestamp() + 0.5)  # the header's seconds are cut off


def says_otherwise(ahead_s: float | None) -> str:
    """What is wrong with the clock, in words; empty where it is right, or unknown.

    >>> says_otherwise(8.2), says_otherwise(-3600.0), says_otherwise(0.4)
    ("this computer's clock is 8 s ahead of the center's", "this computer's clock is 60 min behind the center's", '')
    """
    if ahead_s is None or abs(ahead_s) < WORTH_SAYING_S:
        return ""
    size = f"{abs(ahead_s):.0f} s" if abs(ahead_s) < 600 else f"{abs(ahead_s) / 60:.0f} min"
    return f"this computer's clock is {size} {'ahead of' if ahead_s > 0 else 'behind'} the center's"


def is_refused(ahead_s: float | None) -> bool:
    """Whether the center refuses what this computer signs, as if its key were unknown."""
    return ahead_s is not None and not -MAX_BEHIND_S < ahead_s < MAX_AHEAD_S
