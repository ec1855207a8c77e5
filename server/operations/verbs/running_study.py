"""Verbs of `python -m server`, one function each; arguments are parsed in `server/operations/arguments.py`."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w
from rich.console import Console

from server.errors import CenterError, ExitCode
from server.operations.center import Center, open_center, parse_address, split_address

if TYPE_CHECKING:
    from server.export.export_folder import Format
    from shared_models.study_settings import StudySettings

console = Console(highlight=False, soft_wrap=True)


def init(address: str, directory: Path, port: int, proxy_port: int | None, renew: bool) -> None:
    """Makes a center's folder, or completes it, or renews its server certificate."""
    from server.operations.create import create_center, renew_certificate
    from server.operations.proxy import find_nginx

    exists = (directory / "center.toml").exists()
    if exists:
        center = _existing(open_center(directory), address, renew)
    elif address:
        address = parse_address(address)
        center = Center(directory.resolve(), address, port, proxy_port or split_address(address)[1])
    else:
        raise CenterError(
            what="a new center needs an address",
            where="--address",
            expected="the name under which hospitals will reach this machine, as center.example.org",
            exit_code=ExitCode.USAGE,
        )
    written = create_center(center)
    if renew and exists:
        renew_certificate(center)
        written.append(center.directory / "server.crt")
    console.print(f"{'Found' if exists else 'Made'} the center {center.address} in {center.directory}", markup=False)
    for path in written:
        console.print(f"  wrote {path.relative_to(center.directory)}", markup=False)
    if exists and not written:
        console.print("  everything is there; nothing was written")
    if renew and exists:
        console.print("Restart the center for the renewed certificate. Hospitals need nothing new.")
    if find_nginx() is None:
        console.print("WARNING: nginx is not installed: apt install nginx-light (or dnf install nginx)", style="yellow")
    console.print(_next_steps(center), markup=False)


def start(directory: Path, only: str | None, with_proxy: bool, log_format: str) -> None:
    """Runs the center until it is stopped, or becomes one of its processes."""
    from server.operations.processes import PROCESS_NAMES
    from server.operations.supervisor import become, supervise
    from shared_models.log_files import FORMAT_VARIABLE

    center = open_center(directory)
    os.environ[FORMAT_VARIABLE] = log_format  # a study's process inherits it
    if only:
        become(center, only)
    names = [name for name in PROCESS_NAMES if with_proxy or name != "proxy"]
    supervise(center, names, lambda line: print(line, flush=True))


def register(directory: Path, name: str, key_file: Path, replace: bool) -> None:
    """Lets a hospital in."""
    from server.operations import registration

    node_id = registration.register(open_center(directory), name, key_file, replace)
    console.print(f"{name} is registered (node {node_id}). It can connect now: python -m client --site {name}")


def unregister(directory: Path, name: str) -> None:
    """Shuts a hospital out."""
    from server.operations import registration

    registration.unregister(open_center(directory), name)
    console.print(f"{name} is unregistered. To return it needs a new key: Flower does not accept the old one again.")


def run(directory: Path, study: Path | None, assignments: list[str], write: Path | None, follow: bool) -> None:
    """Starts a study, and with `follow` stays until it ends; with `write` only writes down what hospitals approve."""
    from server.study.aggregation.rule import load_rule
    from server.study.aggregation.rules import rule_names
    from shared_models.agreed import settings_hash
    from shared_models.folds import folds_of
    from shared_models.study_file import read_study

    config = read_study(study, assignments, rule_names())
    load_rule(config)
    folds = folds_of(config)
    console.print(f"Settings {settings_hash(config)}: hospitals take part that approved these")
    if folds:
        console.print(f"{len(folds)} folds in one study: {', '.join(fold.label for fold in folds)}", markup=False)
    if write:
        _write_settings(write, config)
        return
    center = open_center(directory)
    _say_what_resuming_needs(center, config)
    _start(center, config, follow)


def validate(
    directory: Path, study: str, sites: str, file: list[Path], checkpoint: str, write: Path | None, follow: bool
) -> None:
    """Has hospitals that were not in a study score its network, or adds what they sent by hand."""
    from server.operations.validation import add_files, validation_of
    from shared_models.agreed import settings_hash

    center = open_center(directory)
    if file:
        for line in add_files(center, study, checkpoint, file):
            console.print(line, markup=False)
        return
    config = validation_of(center, study, checkpoint, sites)
    console.print(f"Settings {settings_hash(config)}: hospitals take part that approved these")
    if write:
        _write_settings(write, config)
        return
    _start(center, config, follow)


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
        _write_settings(write, settings_without(center, study, site))
        console.print(f"Then train without it: python -m server run {write} --follow")
        return
    console.print("To train without it, add --write FILE, have the hospitals approve that file, and run it.")


def _write_settings(path: Path, config: StudySettings) -> None:
    with path.open("x", encoding="utf-8") as file:  # a study's file with a person's remarks is not written over
        file.write(tomli_w.dumps(config.to_flat()))
    console.print(f"Wrote {path}. Send it to the hospitals: python -m client approve {path.name} --site NAME")


def _start(center: Center, config: StudySettings, follow: bool) -> None:
    """Starts a run, and with `follow` stays until it ends."""
    from server.operations.auto_resume import follow_to_end
    from server.operations.bundle import start_study
    from server.study.missing_sites import require_named_sites
    from server.study.results.results_file import RESULTS

    run_id, bundle = start_study(center, config)
    console.print(f"Run {run_id} of the study {config.study} has started; its settings: {bundle / 'pyproject.toml'}")
    if not follow:
        see = "status" if config.validates else f"watch {config.study}"
        console.print(f"Watch it: python -m server {see} --directory {center.directory}", soft_wrap=True)
        return
    ended = follow_to_end(center, run_id, _write)
    if ended.state != "finished:completed":
        raise CenterError(
            what=f"run {ended.run_id} did not complete",
            where=bundle,
            found=f"{ended.state} {ended.details}",
            fix="the log above says why, and study.log in the study's folder of results; `--set resume=true` "
            "continues from the last checkpoint",
            exit_code=ExitCode.RUN_FAILED,
        )
    require_named_sites(center.results / config.study / RESULTS)


def status(directory: Path, as_json: bool, prometheus: Path | None) -> None:
    """Shows sites, runs and the study's progress, and writes them for Prometheus."""
    from server.operations.center_status import print_status, read_status
    from server.operations.prometheus import write_metrics

    center = open_center(directory)
    try:
        report = read_status(center)
    except CenterError as error:
        if prometheus and error.exit_code == ExitCode.SUPERLINK_UNREACHABLE:
            write_metrics(center, None, prometheus)
        raise
    if as_json:
        print_json(report)
    else:
        print_status(report, Console(highlight=False))
    if prometheus:
        write_metrics(center, report, prometheus)


def watch(directory: Path, study: str, notify: str) -> None:
    """Shows a study until it ends."""
    from server.operations.notify import notifier
    from server.operations.watch import watch as show

    show(open_center(directory), study, Console(highlight=False), notifier(notify) if notify else None)


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


def audit(directory: Path, study: str) -> None:
    """Verifies and shows a study's audit log, or without one the center's."""
    from server.study.audit import audit_of, print_audit

    results = open_center(directory).results
    if study and not audit_of(results / study).exists():
        studies = sorted(path.parent.name for path in results.glob("*/audit.jsonl"))
        raise CenterError(
            what=f"there is no audit log of a study {study!r}",
            where=results,
            found=f"studies with one: {', '.join(studies) or 'none'}",
            exit_code=ExitCode.FILE,
        )
    print_audit(results / study, Console(highlight=False))


def print_json(value: Any) -> None:
    """Prints plain data for scripts."""
    import json

    print(json.dumps(value, indent=2))


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _say_what_resuming_needs(center: Center, config: StudySettings) -> None:
    """Refuses to write over what is in the study's folder, and says who must approve again.

    Raises:
        StudyError: If the folder holds a checkpoint or results that this release cannot read, or that the study would
            replace without `overwrite`.
    """
    from server.study.results.results_folder import require_free
    from server.study.weights.checkpoint import approval_notice, describe

    require_free(center.results / config.study, config)
    facts = describe(center.results, config.study) if config.resume else None
    if facts and (notice := approval_notice(facts["config"], config)):
        console.print(notice, style="yellow", markup=False)


def _existing(center: Center, address: str, renew: bool) -> Center:
    """The center that is there; `--renew` may move it to another address."""
    if not address or parse_address(address) == center.address:
        return center
    if not renew:
        raise CenterError(
            what="this folder belongs to a center with another address",
            where=center.directory,
            found=center.address,
            expected=address,
            fix="choose another --directory, or add --renew to move this center to the new address",
        )
    return replace(center, address=parse_address(address))


def _next_steps(center: Center) -> str:
    folder = center.directory
    return f"""
Hospitals need one file of this folder: {center.authority}
Every key and secret in it stays here. Keep a copy of ca.key offline: whoever has it can pose as this center.

At the center:
  {folder / "start.sh"}      (or install {folder / "systemd"}/*.service)
  python -m server register duke duke.pub --directory {folder}
  python -m server run STUDY.toml --follow --directory {folder}
At the hospital, with ca.crt beside its settings:
  ssh-keygen -t ecdsa -b 384 -N '' -f duke.key && mv duke.key.pub duke.pub     (only duke.pub is sent to the center)
  in site_configs/duke.yaml:   center: {{address: "{center.address}", ca_certificate: ca.crt, private_key: duke.key}}
  python -m client --site duke"""
