"""Results that `overwrite` replaces: set aside, and back in their place unless a round of the new run counts.

A run that waits in vain for its sites, is refused by them or is stopped before its first round thus costs nothing.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from server.study.exchange import StudyError
from server.study.results.comparison_section import COMPARISONS, MATRIX
from server.study.results.results_folder import EVENTS, FIGURES, REPORT, require_free, written_in
from server.study.study_files import writing
from server.study.weights.checkpoint import LAST, read_facts
from shared_models.study_settings import StudySettings

log = logging.getLogger("server")
REPLACED = ".replaced"
"""Folder of what goes back unless a round of the new run counts."""
MOVING = ".moving"
"""Folder of what goes back in any case: a process that stopped while it moved files leaves it to the next one."""


@contextmanager
def replacing(folder: Path, config: StudySettings) -> Iterator[None]:
    """Refuses a folder with results that the study must not replace; those that it may are set aside while it runs.

    Args:
        folder: The study's, which no other process writes to.
        config: Its settings.

    Raises:
        StudyError: If results are there and `overwrite` is not set, or another release wrote them.
    """
    _finish_moving(folder)
    if not (config.resume and _rounds(folder) is not None):  # which continues the run that is there
        _settle(folder)
    require_free(folder, config)
    if config.overwrite:
        with writing(folder):
            _move(folder, folder / MOVING)
            if (folder / MOVING).exists():
                (folder / MOVING).rename(folder / REPLACED)
    try:
        yield
    finally:
        _settle(folder)


def being_replaced(folder: Path) -> str:
    """A sentence on a study's earlier results while a run that may replace them has no counted round; else nothing."""
    if not (folder / REPLACED).exists():
        return ""
    return (
        f"The earlier results wait in {folder / REPLACED}: they are deleted once a round of the run that "
        "began with --overwrite counts, and are back in their place if it ends without one."
    )


def _settle(folder: Path) -> None:
    """Deletes what was replaced, or puts it back where no round of the run that replaced it has counted."""
    replaced, moving = folder / REPLACED, folder / MOVING
    with writing(folder):
        if replaced.exists() and _rounds(folder):
            shutil.rmtree(replaced)
        elif replaced.exists():
            for path in _all_in(folder):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            replaced.rename(moving)
            log.warning("no round of the study counted: the earlier results are back in %s", folder)
    _finish_moving(folder)


def _finish_moving(folder: Path) -> None:
    """Puts back what a process was moving when it stopped."""
    if (folder / MOVING).exists():
        with writing(folder):
            _move(folder / MOVING, folder)
            shutil.rmtree(folder / MOVING)


def _move(source: Path, target: Path) -> None:
    for path in _all_in(source):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.is_dir():
            shutil.rmtree(place)
        path.replace(place)


def _all_in(folder: Path) -> list[Path]:
    """All that a run leaves and another replaces; logs are continued."""
    names = (COMPARISONS, MATRIX, REPORT, FIGURES, EVENTS)
    further = [path for name in names if (path := folder / name).exists()]
    return [*written_in(folder), *further]


def _rounds(folder: Path) -> int | None:
    """How many rounds of the run in the folder have counted, in the fold that came farthest; None without any."""
    rounds = []
    for last in (path for path in written_in(folder) if path.name == LAST):
        with contextlib.suppress(StudyError):  # cut short: nothing of it can be used
            rounds.append(int(read_facts(last)["round"]))
    return max(rounds, default=None)
