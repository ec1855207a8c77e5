"""Causes of a center's silence that its own folder shows: an expired certificate, a full disk."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime

from server.operations.center import Center
from server.operations.certificates import read_expiry

FULL_BYTES = 2**20  # what Flower's database and a log's next lines take at least
LOW_BYTES = 2**30
RENEW = "python -m server init --renew  (then restart the center; hospitals need nothing)"


def likely_cause(center: Center) -> tuple[str, str]:
    """What is wrong and what to do, each in a sentence; empty where the folder shows no cause."""
    certificate = center.directory / "server.crt"
    try:
        ends = read_expiry(certificate)
    except (OSError, ValueError):
        return f"{certificate} is not there, or is no certificate", RENEW
    if ends < datetime.now(UTC):
        return f"the server certificate expired on {ends:%Y-%m-%d %H:%M} UTC", RENEW
    free = free_bytes(center)
    if free < FULL_BYTES:
        return (
            f"the disk of {center.directory} is full ({free} bytes free)",
            "free some room; the center continues by itself",
        )
    return "", ""


def free_bytes(center: Center) -> int:
    """What the center may still write on its disk."""
    return shutil.disk_usage(center.directory).free
