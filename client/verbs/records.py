"""Approvals, privacy ledger and audit log on the terminal, and the approval of a study."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from client.config.site import SiteConfig
from client.errors import ExitCode, SiteError
from client.governance.approval import approvals, approvals_of, approve, revoke
from client.governance.audit import audit_of
from client.governance.budget import budgets_of, sums_of
from client.governance.chained_log import CLOCK_SET, Line, append, read
from client.governance.ledger import charges, spent
from client.governance.partners import key_fingerprint
from client.governance.policy_checks import check_policy, ledger_of
from client.governance.secure_aggregation.record import Record
from client.site_result.files import PAGE, STUDIES
from shared_models.agreed import settings_hash
from shared_models.secure_aggregation.wire import ProtocolError

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

SHOWN = 30
NO_APPROVAL = "0" * 64
"""Keys of other hospitals belong to none."""


def print_ledger(site: SiteConfig, console: Console) -> None:
    """What the cohort has spent, study by study, and what is left.

    Raises:
        SiteError: If the ledger is damaged.
    """
    path, limit = ledger_of(site), site.policy.limit
    charged, total = charges(path), spent(path, limit)
    runs = [list(lines) for _, lines in groupby(charged, key=lambda line: (line["study"], line["task"], line["delta"]))]
    _table(
        console,
        f"{site.site}: epsilon {total:.2f} of {limit.epsilon:g} spent at delta {limit.delta:g}",
        {
            "study": lambda lines: lines[0]["study"],
            "task": lambda lines: lines[0]["task"],
            "rounds": lambda lines: str(len(lines)),
            "steps": lambda lines: str(sum(line["steps"] for line in lines)),
            "noise": lambda lines: f"{min(line['noise_multiplier'] for line in lines):.3g}",
            "last": lambda lines: lines[-1]["time"][:16],
            "epsilon after": lambda lines: f"{lines[-1]['epsilon']:.2f}",
        },
        runs,
    )
    console.print(f"{len(charged)} charges, unbroken, in {path}", soft_wrap=True, highlight=False, markup=False)
    for page in sorted((site.state_dir / STUDIES).rglob(PAGE)):
        own_result = f"own result, with its patients' predictions, which stays here: {page}"
        console.print(own_result, soft_wrap=True, highlight=False, markup=False)


def print_audit(site: SiteConfig, console: Console) -> None:
    """The last lines of what left the site and of what it refused; all lines are verified.

    Raises:
        SiteError: If the log is damaged.
    """
    path = audit_of(site)
    lines = read(path)
    _table(
        console,
        f"{site.site}: the last {min(SHOWN, len(lines))} of {len(lines)} messages",
        {
            "time": lambda row: row[0]["time"][2:16].replace("T", " "),
            "study": lambda row: row[0].get("study", ""),
            "message": lambda row: _message(row[0]),
            "bytes": lambda row: str(row[0].get("bytes", "")),
            "sha256": lambda row: row[0].get("sha256", "")[:8],
            "epsilon": lambda row: f"{row[0].get('epsilon') or 0.0:.2f}",
            "refused": lambda row: row[0].get("why", ""),
        },
        [[line] for line in lines[-SHOWN:]],
    )
    console.print(f"{len(lines)} lines, unbroken, in {path}", soft_wrap=True, highlight=False, markup=False)


def _message(line: Line) -> str:
    if step := line.get("secure_aggregation"):
        return f"secure aggregation: {step['exchange']}"
    return f"{line.get('message', '')} {line.get('round') or ''}".strip()


def print_approvals(site: SiteConfig, console: Console) -> None:
    """The approvals in force; all lines of the record are verified.

    Raises:
        SiteError: If the record is damaged.
    """
    approved = approvals(site)
    _table(
        console,
        f"{site.site}: {len(approved)} approved",
        {
            "study": lambda lines: lines[0]["study"],
            "task": lambda lines: lines[0]["settings"]["task"],
            "rounds": lambda lines: str(lines[0]["settings"]["rounds"]),
            "settings": lambda lines: lines[0]["sha256"][:8],
            "version": lambda lines: lines[0]["version"],
            "approved": lambda lines: lines[0]["time"][:16],
            "by": lambda lines: lines[0]["by"],
        },
        [[line] for line in approved.values()],
    )
    console.print(f"unbroken, in {approvals_of(site)}", soft_wrap=True, highlight=False, markup=False)


def ask_approval(site: SiteConfig, study: Path, console: Console, *, ask: bool) -> None:
    """Shows what a study would do here on one page, asks, and records the approval with a copy of the page.

    Args:
        site: The site.
        study: The study's settings (TOML), as the center starts it.
        console: Where the page goes.
        ask: Whether a person must type the study's name.

    Raises:
        SiteError: If the policy refuses the study, the name was not typed, or the record cannot be written. Then
            nothing is approved.
    """
    from client.checks.run import load_study
    from client.verbs.approval_summary import make_summary, print_summary, store_summary

    config, task = load_study(study)
    with console.status("looking at the study and at the site's tables"):
        summary = make_summary(site, config, task)
    print_summary(summary, console)
    check_policy(site, config, task)
    if ask and _typed(f"approve? type the study's name ({config.study}): ") != config.study:
        raise SiteError(
            what="nothing was approved",
            where=str(study),
            found="another answer than the study's name",
            fix="run it again and type the name, or add --yes in a script",
            exit_code=ExitCode.USAGE,
        )
    page = site.state_dir / "approvals" / f"{config.study}-{settings_hash(config)[:16]}.html"
    store_summary(summary, page)
    approve(site, config)
    console.print(f"approved; the page is stored as {page}", soft_wrap=True, highlight=False, markup=False)


def _typed(question: str) -> str:
    try:
        return input(question).strip()
    except EOFError:  # no terminal
        return ""


def revoke_approval(site: SiteConfig, study: str, console: Console) -> None:
    """Revokes an approval.

    Raises:
        SiteError: If there is none, or the record cannot be written.
    """
    revoke(site, study)
    console.print(f"{study} is not approved any longer; its next message is refused", highlight=False, markup=False)


def accept_clock(site: SiteConfig, console: Console) -> None:
    """Notes that this computer's clock is right now, whatever it was when the last lines were written."""
    for path in (ledger_of(site), audit_of(site), approvals_of(site), *budgets_of(site)):
        if path.exists():
            line = append(path, {"event": CLOCK_SET})
            console.print(f"{path.name}: time taken as {line['time']}", highlight=False, markup=False)


def accept_key(site: SiteConfig, hospital: str, console: Console) -> None:
    """Forgets the key of another hospital that the center showed first, and takes the next one that it shows.

    Raises:
        SiteError: If no key of that hospital is stored, or the record cannot be read or written.
    """
    record = Record(sums_of(site), NO_APPROVAL)
    try:
        pins = record.pins() if record.file.exists() else {}
        if hospital in pins:
            append(audit_of(site), {"event": "key accepted", "site": hospital, "before": pins[hospital]})
            record.unpin(hospital)
    except ProtocolError as error:
        pins, found = {}, str(error)
    else:
        found = f"keys of {', '.join(sorted(pins)) or 'no hospital'}"
    if hospital not in pins:
        raise SiteError(
            what=f"there is no key of {hospital} to forget",
            where=str(record.file),
            found=found,
            expected="a hospital that took part in secure aggregation with this one, by its name at the center",
            fix="correct the name; a key of policy.partners is replaced in its file",
            exit_code=ExitCode.USAGE,
        )
    old = key_fingerprint(pins[hospital])
    console.print(f"{hospital}: key {old} is forgotten; the next one is accepted", soft_wrap=True, highlight=False)


def _table(
    console: Console, title: str, columns: dict[str, Callable[[Sequence[Line]], str]], rows: Sequence[Sequence[Line]]
) -> None:
    from rich.markup import escape
    from rich.table import Table

    grid = Table(title=escape(title), title_justify="left", title_style="bold")
    for head in columns:
        grid.add_column(head, overflow="fold")
    for row in rows:
        grid.add_row(*(escape(show(row)) for show in columns.values()))
    console.print(grid if rows else title, markup=False, highlight=False)
