"""Notices: machine-readable lines from a message's process to the supervisor, through the SuperNode's log.

A message runs in a process that Flower starts, and all that reaches the supervisor of it is the log. What people at
the hospital must act on is written there as one line of JSON beside the text for the log's readers. A line says what
happened, never what to type: the log also holds text of the center's.
"""

from __future__ import annotations

import json
import sys
from typing import Any

PREFIX = "breast-federation-notice: "
NOT_APPROVED, UNLIKE_OTHERS = "not-approved", "unlike-others"


def write_notice(event: str, **facts: str) -> None:
    """Writes a notice to standard error, which Flower passes on to the SuperNode's log."""
    sys.stderr.write(f"{PREFIX}{json.dumps({'event': event, **facts})}\n")
    sys.stderr.flush()


def read_notice(line: str) -> dict[str, Any]:
    """The notice in a line of the log; empty if it holds none."""
    if not line.startswith(PREFIX):
        return {}
    try:
        notice = json.loads(line.removeprefix(PREFIX))
    except ValueError:
        return {}
    return notice if isinstance(notice, dict) else {}
