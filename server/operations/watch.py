"""Watch of a study in a terminal: what `status.json` says, until the study ends."""

from __future__ import annotations

import fcntl
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from server.errors import CenterError, ExitCode
from server.operations.bundle import recorded_runs
from server.report.status_page import HEADINGS, awaited, clock, headline, site_row
from server.study.missing_sites import require_named_sites
from server.study.progress import PAGE
from server.study.results.replaced_results import being_replaced
from server.study.results.results_file import RESULTS
from server.study.status import STATUS, StudyProgress, read_status
from shared_models.pages.numbers import number

if TYPE_CHECKING:
    from rich.console import Console, Group, RenderableType
    from rich.text import Text

    from server.operations.center import Center
    from server.operations.notify import Notifier

LOOK_S = 1.0
SILENT_S = 90.0  # before the lock of the study's folder is checked, which its process holds
BEGINS_WITHIN_S = 120.0  # of `run`: the SuperExec starts a process first
EMPTY = 3  # columns without which a table does: norm, epsilon and problem, where no site has any


def watch(center: Center, study: str, console: Console, tell: Notifier | None = None) -> None:
    """Shows a study until it ends; where there is no terminal, a line for each change.

    Args:
        center: The center.
        study: Its name; empty for the one that was written last.
        console: Where to.
        tell: Notified when something waits for a person, and when the study has ended.

    Raises:
        CenterError: If there is no such study, it failed, or its process is gone.
        StudyError: If sites that it names are missing.
    """
    from rich.live import Live

    file = _find(center, study)
    shown, last = "", None
    with Live(console=console, refresh_per_second=4, auto_refresh=console.is_terminal, transient=True) as live:
        while True:
            state = read_status(file)
            gone = _silent_s(state) > SILENT_S and not _is_held(file.parent) and read_status(file).state == "running"
            aside = being_replaced(file.parent)
            if console.is_terminal:
                live.update(table(state, aside), refresh=True)
            elif (line := f"{headline(state)} {awaited(state)} {aside}".strip()) != shown:
                console.print(line, highlight=False, markup=False, soft_wrap=True)
                shown = line
            if tell and (problem := tell.look(state)):
                console.print(problem, style="yellow", highlight=False, markup=False, soft_wrap=True)
            last = state
            if state.state != "running" or gone:
                break
            time.sleep(LOOK_S)
    if console.is_terminal:
        console.print(table(last))
    console.print(f"{file.with_name(PAGE)} shows the same", highlight=False, markup=False, soft_wrap=True)
    _require_good_end(last, file)


def table(state: StudyProgress, aside: str = "") -> Group:
    """The state as a person reads it in a terminal.

    Args:
        state: What `status.json` says.
        aside: A sentence on earlier results that the run may replace.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text as Line

    rows = [site_row(name, site, state) for name, site in sorted(state.sites.items())]
    columns = [index for index in range(len(HEADINGS)) if index < len(HEADINGS) - EMPTY or any(r[index] for r in rows)]
    sites = Table(title=Line(f"{state.study}: {state.task}, {state.strategy}"), title_justify="left")
    for index in columns:
        sites.add_column(HEADINGS[index], overflow="fold")
    colours = {"away": "yellow", "failed": "red", "answered": "green"}
    for row in rows:
        sites.add_row(*(Line(row[index]) for index in columns), style=colours.get(state.sites[row[0]].doing))
    lines: list[RenderableType] = [
        Line(headline(state), style="bold"),
        Line(awaited(state)),
        Line(aside, style="yellow"),
        sites,
        *_below(state),
    ]
    return Group(*(line for line in lines if line))


def _below(state: StudyProgress) -> list[Text]:
    from rich.text import Text as Line

    lines = [Line(f"Validation by round: {_spark(state)}")] if state.curve else []
    best = next((one for one in state.curve if one.round == state.best_round and one.value is not None), None)
    if best:
        interval = f" ({number(best.low)} to {number(best.high)})" if best.low is not None else ""
        lines.append(
            Line(f"Best so far: round {best.round}, {number(best.value)}{interval}; it selects, and is no result.")
        )
    if problem := state.last_problem:
        lines.append(Line(f"Last problem, {clock(problem.time)}: {problem.site}: {problem.text}", style="yellow"))
    return lines


def _spark(state: StudyProgress) -> str:
    """The last values as a line of blocks."""
    values = [one.value for one in state.curve if one.value is not None][-60:]
    if not values:
        return ""
    low, high = min(values), max(values)
    steps = "▁▂▃▄▅▆▇█"
    blocks = "".join(steps[round((value - low) / (high - low or 1.0) * 7)] for value in values)
    return f"{number(low)} {blocks} {number(high)}"


def _find(center: Center, study: str) -> Path:
    """The status of a study, which may only just have been started."""
    bundles = [one["bundle"] for one in recorded_runs(center).values() if not study or one["study"] == study]
    started = [path.stat().st_mtime for name in bundles if (path := center.directory / "bundles" / name).exists()]
    begun, deadline = max(started, default=0.0), time.monotonic() + (BEGINS_WITHIN_S if started else 0.0)
    while True:
        files = sorted(center.results.glob(f"*/{STATUS}"), key=lambda path: path.stat().st_mtime)
        own = [file for file in files if not study or file.parent.name == study]
        late = time.monotonic() >= deadline
        if own and (late or own[-1].stat().st_mtime >= begun):
            return own[-1]
        if late:
            break
        time.sleep(LOOK_S)
    raise CenterError(
        what=f"there is no study {study!r} to watch" if study else "there is no study to watch",
        where=center.results,
        found=f"studies with a status: {', '.join(file.parent.name for file in files) or 'none'}",
        fix="start it: python -m server run STUDY.toml; if it was, `python -m server status` shows its run",
        exit_code=ExitCode.FILE,
    )


def _silent_s(state: StudyProgress) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(state.updated)).total_seconds()


def _is_held(folder: Path) -> bool:
    """Whether a process runs the study now."""
    try:
        with (folder / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _require_good_end(state: StudyProgress, file: Path) -> None:
    if state.state == "completed":
        require_named_sites(file.with_name(RESULTS))
        return
    gone = state.state == "running"
    raise CenterError(
        what="the study's process is gone, and did not say why" if gone else "the study failed",
        where=file.with_name("study.log"),
        found=f"last heard of at {clock(state.updated)} UTC: {headline(state)}" if gone else state.failure,
        fix="`python -m server run STUDY.toml --set resume=true` continues from the last round",
        exit_code=ExitCode.RUN_FAILED,
    )
