"""Status of a site: since when it is connected, what it was asked last, what left today, and what is left."""

from __future__ import annotations

import fcntl
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from client.cache.store import CACHE
from client.config.site import SiteConfig
from client.connection.supernode_log import ANSWERED, UNANSWERED
from client.governance.approval import approvals
from client.governance.audit import audit_of
from client.governance.chained_log import Line, read
from client.governance.ledger import spent
from client.governance.policy_checks import ledger_of

if TYPE_CHECKING:
    from rich.console import Console

GIB, FULL_BYTES = 2**30, 2**20
FULL = ": it is full, and what cannot be noted in the audit log does not leave; free some room"
SUPERNODE, PROCESS = Path("logs") / "supernode.log", "supernode.pid"
# The supervisor's own sentences in that log; what Flower prints has no star.
SAID = re.compile(r"^(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d+ \* (?P<text>.*)$")
RECONNECTING = "reconnecting in"
JOINED, ENDED = "joined the center", (RECONNECTING, "stopped")


@dataclass(frozen=True)
class SiteStatus:
    """What a person at the hospital asks of a site that runs.

    Attributes:
        takes_part: Whether the program runs here.
        connected_since: When the center let it in, in this computer's time; empty where it is not connected.
        last_said: The newest sentence of its log that says more than when it tries again.
        study: The study of the newest message; empty before the first.
        message: Its kind.
        round: Its round; 0 before round 1.
        answered: When it was answered or refused, UTC.
        refused: Why it was refused, where it was.
        sent_today: Messages that left since midnight, UTC.
        bytes_today: Their size.
        refused_today: Messages that were refused.
        epsilon: What the cohort has spent, over all studies.
        epsilon_ceiling: What it may.
        approved: The studies that are approved.
        state_bytes: What the site's folder takes on the disk.
        cache_bytes: How much of that is the cache, which may take `cache_gib`.
        cache_limit_bytes: That bound.
        free_bytes: What is free on the disk.
    """

    site: str
    takes_part: bool
    connected_since: str
    last_said: str
    study: str
    message: str
    round: int
    answered: str
    refused: str
    sent_today: int
    bytes_today: int
    refused_today: int
    epsilon: float
    epsilon_ceiling: float
    approved: tuple[str, ...]
    state_bytes: int
    cache_bytes: int
    cache_limit_bytes: int
    free_bytes: int


def read_status(site: SiteConfig) -> SiteStatus:
    """Reads it from the site's own records; nothing is asked of the center, and nothing is changed.

    Raises:
        SiteError: If a record is damaged.
    """
    lines = read(audit_of(site))
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    of_today = [line for line in lines if line["time"].startswith(today)]
    sent = [line for line in of_today if line["event"] in ("sent", "sum")]
    last: Mapping[str, object] = next((line for line in reversed(lines) if "study" in line), Line())
    runs = _runs(site.state_dir)
    since, message = _connection(site.state_dir / SUPERNODE)
    there = site.state_dir if site.state_dir.exists() else site.state_dir.parent
    return SiteStatus(
        site=site.site,
        takes_part=runs,
        connected_since=since if runs else "",
        last_said=message,
        study=str(last.get("study", "")),
        message=str(last.get("message", "")) or ("secure aggregation" if "secure_aggregation" in last else ""),
        round=int(str(last.get("round") or 0)),
        answered=str(last.get("time", "")),
        refused=str(last.get("why", "")),
        sent_today=len(sent),
        bytes_today=sum(line.get("bytes", 0) for line in sent),
        refused_today=sum(line["event"] == "refused" for line in of_today),
        epsilon=spent(ledger_of(site), site.policy.limit),
        epsilon_ceiling=site.policy.limit.epsilon,
        approved=tuple(approvals(site)),
        state_bytes=_size(site.state_dir),
        cache_bytes=_size(site.state_dir / CACHE),
        cache_limit_bytes=int(site.cache_gib * GIB),
        free_bytes=shutil.disk_usage(there if there.exists() else Path.cwd()).free,
    )


def print_status(site: SiteConfig, console: Console, as_json: bool) -> None:
    """Prints it as a few lines, or as JSON for scripts.

    Raises:
        SiteError: If a record is damaged.
    """
    status = read_status(site)
    if as_json:
        print(json.dumps(asdict(status), indent=1))
        return
    for head, text in _rows(status):
        console.print(f"{head:<10}{text}", soft_wrap=True, highlight=False, markup=False)


def _rows(status: SiteStatus) -> list[tuple[str, str]]:
    connected = (
        f"since {status.connected_since}" if status.connected_since else f"no; {status.last_said or 'never was'}"
    )
    started = connected if status.takes_part else f"it does not run: python -m client --site {status.site}"
    asked = "no message yet"
    if status.study:
        at_round = f" of round {status.round}" if status.round else ""
        refused = f"; refused: {status.refused}" if status.refused else ""
        asked = f"{status.study}: {status.message}{at_round}, at {status.answered[:19].replace('T', ' ')} UTC{refused}"
    is_full = status.free_bytes < FULL_BYTES
    left = max(status.epsilon_ceiling - status.epsilon, 0.0)
    return [
        ("site", status.site),
        ("connected", started),
        ("study", asked),
        ("approved", ", ".join(status.approved) or "no study"),
        ("today", f"{status.sent_today} messages left, {_mib(status.bytes_today)}; {status.refused_today} refused"),
        ("privacy", f"epsilon {status.epsilon:.2f} of {status.epsilon_ceiling:g} spent, {left:.2f} left"),
        (
            "disk",
            f"{_mib(status.state_bytes)}, of which the cache is {_mib(status.cache_bytes)} of at most "
            f"{_mib(status.cache_limit_bytes)}; {_mib(status.free_bytes)} free{FULL if is_full else ''}",
        ),
    ]


def _runs(state_dir: Path) -> bool:
    """Whether a process holds the site's lock; looking takes nothing from it."""
    try:
        with (state_dir / PROCESS).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # it never ran here
        return False
    return False


def _connection(log: Path) -> tuple[str, str]:
    """Since when the site is connected, empty where it is not, and the newest sentence."""
    since, message = "", ""
    for path in (log.with_name(f"{log.name}.1"), log):
        if not path.exists():
            continue
        with path.open(encoding="utf-8", errors="replace") as file:
            for time, sentence in filter(None, map(_sentence, file)):
                if sentence.startswith((JOINED, ANSWERED)):
                    since = time
                elif sentence.startswith((*ENDED, UNANSWERED)):
                    since = ""
                if not sentence.startswith(RECONNECTING):  # what was written before says why
                    message = sentence
    return since, message


def _sentence(line: str) -> tuple[str, str] | None:
    """When the supervisor wrote a sentence, in this computer's time, and the sentence; None of another line."""
    if not line.startswith("{"):
        match = SAID.match(line)
        return (match["time"], match["text"]) if match else None
    try:
        record = json.loads(line)
    except json.JSONDecodeError:  # cut off, as by a full disk
        return None
    if not (text := record["message"]).startswith("* "):
        return None
    return f"{datetime.fromisoformat(record['time']).astimezone():%Y-%m-%d %H:%M:%S}", text.removeprefix("* ")


def _size(folder: Path) -> int:
    """Bytes that a folder takes on the disk; files that go meanwhile count nothing."""
    total = 0
    for file in folder.rglob("*"):
        try:
            status = file.lstat()
        except OSError:
            continue
        total += 512 * status.st_blocks
    return total


def _mib(count: int) -> str:
    """A size as people read it."""
    for unit, name in ((GIB, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} B"
