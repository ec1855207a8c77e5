"""Disclosure control: what of a reply is too fine to leave a hospital, by its own policy."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from client.governance.small_cells import suppress_small_cells
from shared_models.messages import EvaluateTestReply, Payload

if TYPE_CHECKING:
    from client.config.policy import Policy

P = TypeVar("P", bound=Payload)


def disclose(reply: P, policy: Policy) -> P:
    """The reply as it may leave: metrics of few patients suppressed, the others coarse."""
    if not isinstance(reply, EvaluateTestReply):
        return reply
    metrics = {name: suppress_small_cells(exact, policy.minimum_count) for name, exact in reply.metrics.items()}
    return replace(reply, metrics=metrics)
