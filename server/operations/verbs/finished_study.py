"""Verbs on a finished study: its results, report and network, and a site that withdraws from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from server.operations.center import open_center
from server.operations.verbs.console import console
from server.operations.verbs.running_study import write_settings

if TYPE_CHECKING:
    from server.export.export_folder import Format


def export(directory: Path, study: str, how: Format, out: Path, checkpoint: str) -> None:
    """Writes a finished study's network for other programs, and says what is to be known of it."""
    from server.export.export_folder import export as export_network
    from server.operations.validation import network_of
    from server.study.results.results_file import RESULTS, read_results

    center = open_center(directory)
    model, results = network_of(center, study, checkpoint), center.results / study / RESULTS
    for line in export_network(model, read_results(results) if results.exists() else None, how, out):
        console.print(line, markup=False)
    console.print(f"Wrote {out}, network {model.sha256[:12]} of {study}, round {model.round}", markup=False)


def withdraw(directory: Path, study: str, site: str, write: Path | None) -> None:
    """Marks a study from which a site withdraws, and says what holds its part and how to train without it."""
    from server.operations.withdrawal import settings_without, withdraw_site

    center = open_center(directory)
    for line in withdraw_site(center, study, site):
        console.print(line, markup=False)
    if write:
        write_settings(write, settings_without(center, study, site))
        console.print(f"Then train without it: python -m server run {write} --follow")
        return
    console.print("To train without it, add --write FILE, have the hospitals approve that file, and run it.")


def results(directory: Path, study: str, as_json: bool) -> None:
    """Shows a study's results."""
    from server.operations.center_status import find_results, print_results

    print_results(find_results(open_center(directory), study), as_json)


def report(
    directory: Path,
    study: str,
    answers: Path | None,
    compare: str,
    file: Path | None,
    checkpoint: Path | None,
    opens: bool,
) -> None:
    """Writes a study's report again, that of two studies, or that of one hospital's validation, and says where."""
    from server.operations.center_status import find_results
    from server.operations.validation import report_of
    from server.report.page import open_report, report_again

    if file or checkpoint:
        path = report_of(file, checkpoint)
    elif compare:
        from server.report.side_by_side.page import compare_reports

        center = open_center(directory)
        path = compare_reports(*(find_results(center, name, unfinished=True) for name in (study, compare)))
    else:
        path = report_again(find_results(open_center(directory), study, unfinished=True), answers)
    console.print(f"Wrote {path}", markup=False)
    if opens:
        open_report(path)
