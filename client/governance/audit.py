"""What left the site, and what it refused: one line for each message, in a file that only grows.

A line says what was sent, how large it was, its hash and the privacy spent so far; never a value. The file is
`state_dir/SITE/audit.jsonl`; `python -m client --site SITE --audit` shows it.
"""

from __future__ import annotations

from pathlib import Path

from flwr.app import Message, RecordDict

from client.config.site import SiteConfig
from client.errors import SiteError
from client.governance.chained_log import append
from client.governance.ledger import last_epsilon
from client.governance.policy import ledger_of
from shared_models.fingerprint import fingerprint
from shared_models.messages import REQUEST

FILE = "audit.jsonl"


def audit_of(site: SiteConfig) -> Path:
    """The site's audit log."""
    return site.state_dir / FILE


def record_sent(site: SiteConfig, study: str, message: Message, content: RecordDict) -> None:
    """Notes a reply before it leaves.

    Raises:
        SiteError: If it cannot be noted; then it must not leave.
    """
    append(
        audit_of(site),
        {
            "event": "sent",
            "study": study,
            "message": message.metadata.message_type,
            "round": _round(message),
            **_members(message),
            **fingerprint(content),
            "epsilon": last_epsilon(ledger_of(site)),
        },
    )


def record_refused(site: SiteConfig, study: str, message: Message, why: str) -> None:
    """Notes what was not done; `why` is the sentence that the center gets. What the center sent was not checked yet."""
    words = {"study": _cut(study), "message": _cut(message.metadata.message_type)}
    entry = {"event": "refused", **words, "round": _round(message)}
    try:
        spent: float | None = last_epsilon(ledger_of(site))
    except SiteError:  # the ledger itself may be why
        spent = None
    append(audit_of(site), {**entry, "why": why, "epsilon": spent})


def _members(message: Message) -> dict[str, str]:
    """The sites of a secure sum that this reply helps to open."""
    request = message.content.config_records.get(REQUEST, {}) if message.has_content() else {}
    return {"sum_of": str(request["survivors"])} if "survivors" in request else {}


def _round(message: Message) -> int:
    requests = message.content.config_records if message.has_content() else {}
    found = (record["round"] for record in requests.values() if "round" in record)
    return next((number for number in found if isinstance(number, int)), 0)


def _cut(text: str) -> str:
    return "".join(letter for letter in text if letter.isprintable())[:64]
