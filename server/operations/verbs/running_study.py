"""Verbs that start a study or follow it: run and validate; status, watch and audit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w
from rich.console import Console

from server.errors import CenterError, ExitCode
from server.operations.center import Center, open_center
from server.operations.verbs.console import console

if TYPE_CHECKING:
    from shared_models.study_settings import StudySettings


def run(
    directory: Path, study: Path | None, assignments: list[str], write: Path | None, canary: bool, follow: bool
) -> None:
    """Starts a study, and with `follow` stays until it ends; with `write` only writes down what hospitals approve."""
    from server.study.aggregation.rule import load_rule
    from server.study.aggregation.rules import rule_names
    from server.study.canary import canary_settings
    from server.tracking.trackers import require_installed
    from shared_models.agreed import settings_hash
    from shared_models.folds import folds_of
    from shared_models.study_file import read_study

    config = read_study(study, assignments, rule_names())
    load_rule(config)
    require_installed(config)
    config = canary_settings(config) if canary or config.canary else config
    folds = folds_of(config)
    console.print(f"Settings {settings_hash(config)}: hospitals take part that approved these")
    if folds:
        console.print(f"{len(folds)} folds in one study: {', '.join(fold.label for fold in folds)}", markup=False)
    if write:
        write_settings(write, config)
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
        write_settings(write, config)
        return
    _start(center, config, follow)


def write_settings(path: Path, config: StudySettings) -> None:
    """Writes all settings of a study, for its hospitals to approve.

    Raises:
        CenterError: If the file is there.
    """
    if path.exists():  # a study's file with a person's remarks is not written over
        raise CenterError(
            what="the settings cannot be written there",
            where=f"--write {path}",
            found="a file already",
            fix="choose another name, or move that file away",
            exit_code=ExitCode.FILE,
        )
    path.write_text(tomli_w.dumps(config.to_flat()), encoding="utf-8")
    console.print(f"Wrote {path}. Send it to the hospitals: python -m client approve {path.name} --site NAME")


def _start(center: Center, config: StudySettings, follow: bool) -> None:
    """Starts a run, and with `follow` stays until it ends."""
    from server.operations.auto_resume import follow_to_end
    from server.operations.bundle import start_study
    from server.study.canary import VERDICTS, lines_of, require_all
    from server.study.missing_sites import require_named_sites
    from server.study.results.results_file import RESULTS

    verdicts = center.results / config.study / VERDICTS
    verdicts.unlink(missing_ok=True)  # of a canary that ran before
    run_id, bundle = start_study(center, config)
    console.print(f"Run {run_id} of the study {config.study} has started; its settings: {bundle / 'pyproject.toml'}")
    if not follow:
        see = "status" if config.trains_nothing or config.canary else f"watch {config.study}"
        console.print(f"Watch it: python -m server {see} --directory {center.directory}", soft_wrap=True)
        return
    ended = follow_to_end(center, run_id, _write)
    if verdicts.exists():
        require_all(verdicts)
        for line in lines_of(verdicts):
            console.print(line, markup=False)
        return
    if ended.state != "finished:completed":
        raise CenterError(
            what=f"run {ended.run_id} did not complete",
            where=bundle,
            found=f"{ended.state} {ended.details}",
            fix="the log above says why, and study.log in the study's folder of results; `--set resume=true` "
            "continues from the last checkpoint",
            exit_code=ExitCode.RUN_FAILED,
        )
    if not config.compares:  # whose rows are in the first study's results, and name who took part
        require_named_sites(center.results / config.study / RESULTS)


def compare(
    directory: Path, study: str, other: str, sites: str, checkpoint: str, write: Path | None, follow: bool
) -> None:
    """Has hospitals score two finished networks on the same test patients."""
    from server.operations.comparison import comparison_of
    from shared_models.agreed import settings_hash

    center = open_center(directory)
    config = comparison_of(center, (study, other), checkpoint, sites)
    console.print(f"Settings {settings_hash(config)}: hospitals take part that approved these")
    if write:
        write_settings(write, config)
        return
    _start(center, config, follow)


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
