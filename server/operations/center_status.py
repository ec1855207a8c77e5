"""Status of a center: sites, runs, a study's progress, and its results."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from server.errors import CenterError, ExitCode
from server.operations.bundle import recorded_runs
from server.operations.causes import LOW_BYTES, free_bytes
from server.operations.center import Center, require_file
from server.operations.certificates import read_expiry
from server.operations.superlink import Run, Site, list_runs, list_sites

RENEW_DAYS = 30
COLOURS = {"online": "green", "offline": "yellow", "completed": "green", "failed": "red"}


def read_status(center: Center) -> dict[str, Any]:
    """The state of a center as plain data: what `status --json` prints."""
    records = recorded_runs(center)
    runs = [_describe_run(run, records.get(str(run.run_id), {})) for run in list_runs(center)]
    study = next((run["study"] for run in runs if run["run_id"] in records), "")
    return {
        "center": {"address": center.address, "directory": str(center.directory)},
        "certificate": {"ends": read_expiry(center.directory / "server.crt").isoformat()},
        "disk": {"free_bytes": free_bytes(center)},
        "sites": [_describe_site(site) for site in list_sites(center)],
        "runs": runs,
        "study": read_study(center, study),
    }


def print_status(status: dict[str, Any], console: Console) -> None:
    """Prints what `read_status` found as tables."""
    console.print(f"[bold]{status['center']['address']}[/bold]  {status['center']['directory']}")
    days = (datetime.fromisoformat(status["certificate"]["ends"]) - datetime.now(UTC)).days
    advice = "" if days > RENEW_DAYS else "  [red]renew it: python -m server init --renew[/red]"
    console.print(f"The server certificate is good for {days} days.{advice}")
    if (free := status["disk"]["free_bytes"]) < LOW_BYTES:
        console.print(f"The disk of the center's folder has only {free / 2**20:.1f} MiB free.", style="red")
    _print_table(console, "Sites", ("site", "state", "last_seen"), status["sites"], "none; python -m server register")
    runs = [_shorten(run) for run in status["runs"]]
    _print_table(
        console, "Runs", ("run_id", "study", "state", "started"), runs, "none; python -m server run STUDY.toml"
    )
    if runs and runs[0]["details"]:
        console.print(f"{runs[0]['study']} {runs[0]['state']}: {runs[0]['details']}", markup=False)
    study = status["study"]
    if study["problem"]:
        console.print(f"\nStudy {study['name']}: {study['problem']}", style="yellow", markup=False)
    if study["progress"]:
        done = study["progress"]
        console.print(f"\n[bold]Study {study['name']}[/bold]  {done['round']} of {done['rounds']} rounds")
        if done["best_value"] is not None:
            console.print(f"Best so far: round {done['best_round']}, validation {done['best_value']:.3f}")


def find_results(center: Center, study: str, unfinished: bool = False) -> Path:
    """The results of a study, or those written last.

    Args:
        center: The center.
        study: Its name; empty for the one written last.
        unfinished: Whether what there is of a study that failed before its test will do, too.

    Raises:
        CenterError: If there are none.
    """
    from server.study.results.replaced_results import being_replaced
    from server.study.results.results_file import RESULTS, UNFINISHED, read_results

    endings = (RESULTS, UNFINISHED) if unfinished else (RESULTS,)
    files = [path for ending in endings for path in center.results.glob(f"*/{ending}")]
    written = sorted(files, key=lambda path: path.stat().st_mtime)
    if not study and written:
        return written[-1]
    if not study:
        raise CenterError(
            what="there are no results yet",
            where=center.results,
            fix="`python -m server status` shows how far the study is",
            exit_code=ExitCode.FILE,
        )
    if own := [path for path in written if path.parent.name == study]:
        return own[-1]
    if (failed := center.results / study / UNFINISHED).exists():
        raise CenterError(
            what=f"the study {study} failed before its test",
            where=failed,
            found=read_results(failed).failure or "",
            fix=f"its report shows how far it came: python -m server report {study}",
            exit_code=ExitCode.FILE,
        )
    if waiting := being_replaced(center.results / study):
        raise CenterError(
            what=f"the study {study} is being run again, and has no results of that run yet",
            where=center.results / study,
            found=waiting,
            fix=f"`python -m server watch {study}` shows that run; if it was killed, the next `run` brings them back",
            exit_code=ExitCode.FILE,
        )
    others = ", ".join(path.parent.name for path in written) or "none yet"
    return require_file(center.results / study / RESULTS, "the study's results", f"studies with results: {others}")


def print_results(file: Path, as_json: bool) -> None:
    """Prints a study's table, one line a site, or the file as it is.

    Raises:
        StudyError: If the file is damaged, or another release's.
    """
    from server.study.results.results_file import read_results
    from server.study.results.table import print_table

    results = read_results(file)
    if as_json:
        sys.stdout.write(file.read_text(encoding="utf-8"))
    else:
        print_table(results)


def read_study(center: Center, study: str) -> dict[str, Any]:
    """A study's name, how far it is, and why that cannot be read where it cannot."""
    from server.study.exchange import StudyError
    from server.study.weights import checkpoint

    try:
        facts = checkpoint.describe(center.results, _begun_last(center, study)) if study else None
    except StudyError as error:
        return {"name": study, "progress": None, "problem": str(error)}
    if facts is None:
        return {"name": study, "progress": None, "problem": ""}
    shown = {key: facts[key] for key in ("round", "best_round", "best_value")}
    return {"name": facts["config"]["study"], "progress": {"rounds": facts["config"]["rounds"], **shown}, "problem": ""}


def _begun_last(center: Center, study: str) -> str:
    """The study, or of a study of several folds the one that was begun last."""
    folds = sorted((center.results / study).glob("*/last.safetensors"), key=lambda path: path.stat().st_mtime)
    return f"{study}/{folds[-1].parent.name}" if folds else study


def _describe_site(site: Site) -> dict[str, Any]:
    return {"site": site.name, "node_id": str(site.node_id), "state": site.state, "last_seen": site.last_seen}


def _describe_run(run: Run, record: dict[str, Any]) -> dict[str, Any]:
    return {**asdict(run), "run_id": str(run.run_id), "study": record.get("study", run.app)}


def _shorten(run: dict[str, Any]) -> dict[str, Any]:
    return {**run, "state": run["state"].rpartition(":")[2], "started": run["started"][:16].replace("T", " ")}


def _print_table(
    console: Console, title: str, columns: tuple[str, ...], rows: list[dict[str, Any]], nothing: str
) -> None:
    if not rows:
        console.print(f"\n[bold]{title}[/bold]  {nothing}")
        return
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(row[column] for column in columns), style=COLOURS.get(row["state"]))
    console.print()
    console.print(table)
