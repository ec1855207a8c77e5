"""Audit log of the site: what left it and what it refused, one line for each message.

A line says what was sent, how large it was, its hash and the privacy spent so far; never a value. The file is
`state_dir/SITE/audit.jsonl`; `python -m client audit --site SITE` shows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flwr.app import RecordDict

from client.config.site import SiteConfig
from client.errors import SiteError
from client.governance.chained_log import append
from client.governance.ledger import last_epsilon
from client.governance.policy_checks import ledger_of
from shared_models.fingerprint import fingerprint
from shared_models.messages import Request

FILE = "audit.jsonl"


def audit_of(site: SiteConfig) -> Path:
    """The site's audit log."""
    return site.state_dir / FILE


def record_sent(site: SiteConfig, study: str, request: Request[Any], content: RecordDict) -> None:
    """Notes a reply before it leaves.

    Raises:
        SiteError: If it cannot be noted; then it must not leave.
    """
    what = {"event": "sent", "study": study, "message": request.KIND, "round": request.round}
    append(audit_of(site), {**what, **fingerprint(content), "epsilon": last_epsilon(ledger_of(site))})


def record_step(site: SiteConfig, study: str, facts: Mapping[str, Any]) -> None:
    """Notes a step of secure aggregation before its reply leaves: who took part, and what was masked or opened.

    Raises:
        SiteError: If it cannot be noted; then the reply must not leave.
    """
    append(audit_of(site), {"event": "sum", "study": study, "secure_aggregation": dict(facts)})


def record_refused(site: SiteConfig, study: str, kind: str, server_round: int, why: str) -> None:
    """Notes what was not done; `why` is the sentence that the center gets. What the center sent was not checked yet."""
    entry = {"event": "refused", "study": _cut(study), "message": _cut(kind), "round": server_round}
    try:
        spent: float | None = last_epsilon(ledger_of(site))
    except SiteError:  # the ledger itself may be why
        spent = None
    append(audit_of(site), {**entry, "why": why, "epsilon": spent})


def _cut(text: str) -> str:
    return "".join(letter for letter in text if letter.isprintable())[:64]
