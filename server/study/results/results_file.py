"""File of a study's results, `results.json`: how it is written and read, and which one may be replaced."""

from __future__ import annotations

import json
from pathlib import Path

from server.errors import ExitCode
from server.study.exchange import StudyError
from server.study.results.schema import SCHEMA_VERSION, Results
from server.study.study_files import writing
from shared_models.atomic_files import write_atomically

RESULTS, UNFINISHED = "results.json", "unfinished.json"


def write_results(results: Results, folder: Path) -> Path:
    """Writes `results.json` into the study's folder, or `unfinished.json` of a study that failed before its test."""
    path = folder / (UNFINISHED if results.failure else RESULTS)
    with writing(path):
        write_atomically(path, results.model_dump_json(indent=1) + "\n")
    if not results.failure:
        (folder / UNFINISHED).unlink(missing_ok=True)
    return path


def results_of_folder(folder: Path) -> Path:
    """The file of a study's results, or of one that failed, where there is only that."""
    paths = [folder / name for name in (RESULTS, UNFINISHED)]
    return next((path for path in paths if path.exists()), paths[0])


def read_results(path: Path) -> Results:
    """Reads what `write_results` wrote.

    Raises:
        StudyError: If it is not there, damaged, or of another schema version.
    """
    if not path.exists():
        fix = "the study writes them when it ends; give the folder that holds them"
        msg = f"{path}: there are no results; {fix}"
        raise StudyError(msg, exit_code=ExitCode.FILE)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        schema = content.get("schema_version", "none") if isinstance(content, dict) else "none"
        if schema == SCHEMA_VERSION:
            return Results.model_validate(content)
    except ValueError as error:  # not text, not JSON, or not as the schema says
        reason = str(error).splitlines()[0]
        msg = f"{path}: the results are damaged ({reason}). Restore them, or move them away and run the study again."
        raise StudyError(msg, exit_code=ExitCode.FILE) from None
    msg = (
        f"{path}: results of schema version {schema}, and this release reads version {SCHEMA_VERSION} only. Read them "
        "with the release that wrote them, or run the study under another `study` name; nothing was changed."
    )
    raise StudyError(msg, exit_code=ExitCode.FILE)


def require_own_results(folder: Path) -> None:
    """Refuses a folder whose results this release cannot read, so that it does not overwrite them.

    Raises:
        StudyError: If so.
    """
    if (folder / RESULTS).exists():
        read_results(folder / RESULTS)
