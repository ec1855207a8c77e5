"""The ledger and the audit log as a person reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from client.privacy.audit import audit_of
from client.privacy.chained_log import CLOCK_SET, Line, append, read
from client.privacy.ledger import charges, spent
from client.privacy.policy import ledger_of
from client.site import SiteConfig

if TYPE_CHECKING:
    from rich.console import Console

SHOWN = 30


def print_ledger(site: SiteConfig, console: Console) -> None:
    """What the cohort has spent, study by study, and what is left.

    Raises:
        SiteError: If the ledger is damaged.
    """
    path, limit = ledger_of(site), site.policy.limit
    found, total = charges(path), spent(path, limit)
    runs = [list(lines) for _, lines in groupby(found, key=lambda line: (line["study"], line["task"], line["delta"]))]
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
    console.print(f"{len(found)} charges, unbroken, in {path}", soft_wrap=True, highlight=False, markup=False)


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
            "time": lambda found: found[0]["time"][2:16].replace("T", " "),
            "study": lambda found: found[0].get("study", ""),
            "message": lambda found: f"{found[0].get('message', '')} {found[0].get('round') or ''}".strip(),
            "bytes": lambda found: str(found[0].get("bytes", "")),
            "sha256": lambda found: found[0].get("sha256", "")[:8],
            "epsilon": lambda found: f"{found[0].get('epsilon', 0.0):.2f}",
            "refused": lambda found: found[0].get("why", ""),
        },
        [[line] for line in lines[-SHOWN:]],
    )
    console.print(f"{len(lines)} lines, unbroken, in {path}", soft_wrap=True, highlight=False, markup=False)


def accept_clock(site: SiteConfig, console: Console) -> None:
    """Notes that this computer's clock is right now, whatever it was when the last lines were written."""
    for path in (ledger_of(site), audit_of(site)):
        if path.exists():
            line = append(path, {"event": CLOCK_SET})
            console.print(f"{path.name}: time taken as {line['time']}", highlight=False, markup=False)


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
