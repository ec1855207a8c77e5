"""Pauses between looks for an answer: a share of the wait so far, so that short waits stay short.

Flower 1.41 looks every three seconds, and asks for a part of a message that has not arrived yet again after 1, 2, 4,
8, 10 s. A round of secure aggregation has three exchanges, so these waits would be most of it.
"""

from __future__ import annotations

from typing import Any

import httpx
from flwr.supercore.heartbeat import HeartbeatFailure, HeartbeatSender
from flwr.supercore.inflatable import inflatable_utils

SHARE = 0.05
FIRST_S, LONGEST_S = 0.1, 3.0
FIRST_PULL_S, LONGEST_PULL_S = 0.05, 2.0
FLOWERS_HEARTBEAT = HeartbeatSender._heartbeat


def pause_s(waited_s: float, first_s: float = FIRST_S, longest_s: float = LONGEST_S) -> float:
    """Seconds until the next look, after a wait: `SHARE` of it, within bounds."""
    return min(longest_s, max(first_s, SHARE * waited_s))


def shorten_pulls() -> None:
    """From now on this process asks again sooner for a part of a message that another has begun to send.

    Flower takes these waits from the defaults of its two functions, and offers no setting.
    """
    for pull in (inflatable_utils.pull_objects, inflatable_utils.pull_and_inflate_object_from_tree):
        pull.__kwdefaults__ |= {"initial_backoff": FIRST_PULL_S, "backoff_cap": LONGEST_PULL_S}


def outlast_cut_connections(invoker: Any) -> None:
    """From now on Flower tries again after a connection was cut in its TLS handshake, as after any other cut.

    Flower 1.41 gives up at once on an error whose text names TLS, as after a proxy was killed: a message that a site
    had begun to receive is then lost without an answer, and a study's process ends.

    Args:
        invoker: Flower's `RetryInvoker` for HTTP.
    """
    gives_up = invoker.should_giveup
    invoker.should_giveup = lambda error: not isinstance(error, httpx.TransportError) and gives_up(error)


def outlast_failed_heartbeats() -> None:
    """From now on this process sends its next heartbeat after the center failed to note one, as on a full disk.

    Flower 1.41 ends the thread of its heartbeats at HTTP status 500. A site then works on, counts as away, and is asked
    nothing until somebody starts it again; a study counts as lost while its process runs.
    """
    HeartbeatSender._heartbeat = _patient_heartbeat


def _patient_heartbeat(sender: HeartbeatSender) -> None:
    try:
        FLOWERS_HEARTBEAT(sender)
    except httpx.HTTPStatusError as error:
        if error.response.is_server_error:
            raise HeartbeatFailure from error  # which Flower tries again, ever later, up to every 20 s
        raise
