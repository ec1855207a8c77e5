"""Withdrawal of a site from a finished study: the marks on its results and weights, and how to train without it.

What a site's patients have taught the weights cannot be taken out of them. So the weights are marked, whoever uses them
is told, and another study is trained without the site.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from server.errors import CenterError, ExitCode
from server.operations.center import Center
from server.report.page import try_to_report
from server.study.audit import note
from server.study.results.results_file import RESULTS, read_results, write_results
from server.study.weights.checkpoint import BEST, LAST, load_checkpoint, only_run, save_checkpoint
from shared_models.study_settings import parse_study_settings

if TYPE_CHECKING:
    from shared_models.study_settings import StudySettings


def withdraw_site(center: Center, study: str, site: str) -> list[str]:
    """Marks a study's weights and results, and says what holds the site's part.

    Raises:
        CenterError: If there is no such study, or the site had no part in it.
        StudyError: If a file of the study cannot be read, or the study runs.
    """
    folder, day = center.results / study, datetime.now(UTC).date().isoformat()
    checkpoints = [file for name in (BEST, LAST) for file in sorted(folder.glob(f"**/{name}"))]
    states = {file: load_checkpoint(file) for file in checkpoints}
    took_part = sorted({name for state in states.values() for name in state.enrolled})
    if site not in took_part:
        raise CenterError(
            what=f"{site} had no part in the study {study}",
            where=folder,
            found=f"checkpoints of {', '.join(took_part)}" if states else "no checkpoint of such a study",
            fix="correct the names: python -m server results lists the studies",
            exit_code=ExitCode.FILE,
        )
    with only_run(folder):
        for file, state in states.items():
            save_checkpoint(replace(state, withdrawn={**state.withdrawn, site: day}), file)
        for file in sorted(folder.glob(f"**/{RESULTS}")):
            results = read_results(file)
            marked = results.model_copy(update={"withdrawn": {**results.withdrawn, site: day}})
            write_results(marked, file.parent)
            if file.parent == folder:
                try_to_report(marked, folder)
        note(folder, {"event": "withdrawn", "study": study, "site": site})
    trained = any(state.enrolled[site].trains for state in states.values() if site in state.enrolled)
    return [f"Marked: {site} withdrew from {study} on {day}", *_holders(center, folder, site, trained)]


def settings_without(center: Center, study: str, site: str) -> StudySettings:
    """The settings of the same study without a site, under another name.

    Raises:
        CenterError: If the study has no checkpoint.
        SettingsError: If too few sites are left.
    """
    file = center.results / study / LAST
    if not file.exists():
        raise CenterError(what=f"there is no checkpoint of a study {study}", where=file, exit_code=ExitCode.FILE)
    state = load_checkpoint(file)
    named = [name.strip() for name in str(state.config.get("sites", "")).split(",") if name.strip()]
    left = [name for name in named or sorted(state.enrolled) if name != site]
    changed = {"study": f"{study}-without-{site}", "sites": ", ".join(left), "resume": False, "overwrite": False}
    return parse_study_settings({**state.config, **changed})


def _holders(center: Center, folder: Path, site: str, trained: bool) -> Iterator[str]:
    """What holds the site's part, file by file, and what no command can reach."""
    what = "trained on its patients, too" if trained else "its validation or test patients were scored by them"
    for name in (BEST, LAST):
        yield from (f"  {file}: weights, {what}" for file in sorted(folder.glob(f"**/{name}")))
    yield from (f"  {file}: sums over its patients" for file in sorted(folder.glob(f"**/{RESULTS}")))
    yield f"  {folder / 'audit.jsonl'}: when it was asked and answered; no value of a patient"
    validations = center.results / f"{folder.name}-validation"
    yield from (f"  {file}: its validation" for file in sorted(validations.glob(f"sites/{site}.json")))
    yield "  other hospitals: the weights of each round that they were sent; copies that were exported or sent on"
    yield "  backups of this folder"
