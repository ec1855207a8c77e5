"""Audit log of the center: messages to and from sites, keys registered and revoked, studies started.

One line for each, with its size and hash and never a value, in files that only grow: a study's messages in
`results/STUDY/audit.jsonl`, who was let in and what was started in `results/audit.jsonl`. The hash of a reply is the
one in the site's own audit log. `python -m server audit [STUDY]` verifies a file and shows it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from server.errors import CenterError, ExitCode
from shared_models.chained_log import BrokenRecordError, ClockBehindError, Line, RecordError, append, read
from shared_models.fingerprint import fingerprint
from shared_models.messages import claimed_round

if TYPE_CHECKING:
    from flwr.app import RecordDict
    from rich.console import Console

SHOWN = 40


def audit_of(folder: Path) -> Path:
    """The audit log of a study, from its folder of results; or the center's, from the folder of all."""
    return folder / "audit.jsonl"


def note(folder: Path, *events: Mapping[str, Any]) -> None:
    """Writes a line for each event.

    Raises:
        CenterError: If they cannot be noted.
    """
    if events:
        with _as_center_errors():
            append(audit_of(folder), *events)


def check(folder: Path) -> None:
    """Verifies all lines, as each start of a study does; a new line is checked against the last one only.

    Raises:
        CenterError: If a line was changed, removed or put elsewhere.
    """
    with _as_center_errors():
        read(audit_of(folder))


def sent(study: str, contents: Mapping[str, RecordDict], message_type: str) -> list[dict[str, Any]]:
    """What the requests to these sites are noted as, before they are sent."""
    weights = {id(content): _weight(content) for content in contents.values()}  # most are one and the same
    what = {"study": study, "message": message_type}
    return [
        {"event": "sent", "site": site, **what, "round": claimed_round(content), **weights[id(content)]}
        for site, content in contents.items()
    ]


def received(
    study: str, site: str, message_type: str, request: RecordDict, reply: RecordDict | None, problem: str
) -> dict[str, Any]:
    """What a site's reply is noted as, or why there is none."""
    what = {"site": site, "study": study, "message": message_type, "round": claimed_round(request)}
    if reply is None:
        return {"event": "no answer", **what, "why": problem}
    return {"event": "received", **what, **_weight(reply)}


def key_fingerprint(public_key: bytes) -> str:
    """A site's public key as `ssh-keygen -lf` prints it, for the telephone."""
    line = load_pem_public_key(public_key).public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    digest = hashlib.sha256(base64.b64decode(line.split()[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def print_audit(folder: Path, console: Console) -> None:
    """Verifies all lines, and shows the last ones.

    Raises:
        CenterError: If a line was changed, removed or put elsewhere.
    """
    from rich.table import Table

    with _as_center_errors():
        lines = read(audit_of(folder))
    table = Table(title=f"the last {min(SHOWN, len(lines))} of {len(lines)} lines", title_justify="left")
    for head in ("time", "event", "site", "study", "message", "bytes", "sha256", "why"):
        table.add_column(head, overflow="fold")
    for line in lines[-SHOWN:]:
        table.add_row(*_row(line))
    console.print(table)
    console.print(f"{len(lines)} lines, unbroken, in {audit_of(folder)}", soft_wrap=True, markup=False)


def _row(line: Line) -> list[str]:
    from rich.markup import escape

    message = f"{line.get('message', '')} {line.get('round') or ''}".strip()
    cells = [line["time"][2:16].replace("T", " "), line["event"], line.get("site", ""), line.get("study", ""), message]
    cells += [str(line.get("bytes", "")), line.get("sha256", "")[:8], line.get("why", "") or line.get("key", "")]
    return [escape("".join(letter for letter in cell if letter.isprintable())) for cell in cells]


def _weight(content: RecordDict) -> dict[str, Any]:
    printed = fingerprint(content)
    return {"bytes": printed["bytes"], "sha256": printed["sha256"]}


@contextmanager
def _as_center_errors() -> Iterator[None]:
    try:
        yield
    except RecordError as error:
        what, fix = {
            BrokenRecordError: (
                "the center's audit log is not as it was written",
                "bring audit.jsonl and its .head back from a backup",
            ),
            ClockBehindError: ("this computer's clock is behind the center's audit log", "set the clock"),
        }.get(
            type(error),
            ("the center's audit log cannot be written", "free some room; then continue: --set resume=true"),
        )
        raise CenterError(
            what=what,
            where=error.where,
            found=error.found,
            expected=error.expected or "the lines as they were written, and room on the disk",
            fix=fix,
            exit_code=ExitCode.FILE,
        ) from None
