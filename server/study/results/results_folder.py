"""Folder of a study's results: nothing in it is overwritten unless the study says so."""

from __future__ import annotations

from pathlib import Path

from server.errors import ExitCode
from server.study.exchange import StudyError
from server.study.results.csv_file import CSV
from server.study.results.finished_fold import TESTED
from server.study.results.results_file import RESULTS, UNFINISHED, require_own_results
from server.study.weights.checkpoint import BEST, LAST, read_facts, require_own_folder
from shared_models.study_settings import StudySettings

REPORT, FIGURES, EVENTS = "report.html", "figures", "tensorboard"
WRITTEN = (RESULTS, UNFINISHED, CSV, BEST, LAST, TESTED)


def require_free(folder: Path, config: StudySettings) -> None:
    """Refuses a folder that has results or checkpoints that the study would replace, unless it says `overwrite`.

    Raises:
        StudyError: If so, with what to do; or if another release wrote them.
    """
    for place in (folder, *_folds_in(folder)):
        require_own_folder(place)
        require_own_results(place)
    there = written_in(folder)
    # of a study that failed before its first round counted, nothing is lost
    if config.resume or config.overwrite or there in ([], [folder / UNFINISHED]):
        return
    name = config.study
    if (folder / RESULTS).exists():
        msg = (
            f"{folder} has the results of a study {name!r} already. Keep them and give this study another name "
            f"(--set study={name}-2), or replace them: --overwrite"
        )
        raise StudyError(msg, exit_code=ExitCode.FILE)
    last = folder / LAST
    how_far = f" after round {read_facts(last)['round']}" if last.exists() else f" ({there[0].relative_to(folder)})"
    msg = (
        f"{folder} has a study {name!r} that stopped{how_far}. Continue it: --set resume=true; start again over it: "
        "--overwrite; or give this study another name"
    )
    raise StudyError(msg, exit_code=ExitCode.FILE)


def written_in(folder: Path) -> list[Path]:
    """Results and checkpoints there, and of each fold."""
    files = [place / name for place in (folder, *_folds_in(folder)) for name in WRITTEN]
    return [file for file in files if file.exists()]


def _folds_in(folder: Path) -> list[Path]:
    """Folders of a study's folds: those in which something of a fold was written."""
    return sorted({file.parent for name in WRITTEN for file in folder.glob(f"[!.]*/{name}")})
