"""Trackers of a study: what they are given of each round and at its end, and that those that are named are installed.

They are given what the status page and the results hold, which is what sites sent, and write to files alone.
"""

from __future__ import annotations

import importlib.util
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from server.study.exchange import StudyError
from server.study.results.results_file import read_results, results_of_folder
from server.study.results.results_folder import REPORT
from server.study.results.schema import Results
from server.study.status import Scored
from server.tracking import mlflow, tensorboard
from shared_models.settings import SettingsError
from shared_models.study_settings import StudySettings

log = logging.getLogger("server")
T = TypeVar("T")


class Writer(Protocol):
    """A tracker's files of one study."""

    def write(self, fold: str, server_round: int, values: Mapping[str, float]) -> None:
        """Values of a round, of a fold where the study has any, by name."""

    def end(self, results: Results | None, values: Mapping[str, float], files: Sequence[Path]) -> None:
        """The study has ended; with results also where it failed, if a round was done, and the files of these."""


WRITERS: Mapping[str, Callable[[StudySettings, Path], Writer]] = {
    "tensorboard": tensorboard.open_writer,
    "mlflow": mlflow.open_writer,
}


def require_installed(config: StudySettings) -> None:
    """Says before a study starts which tracker is not installed.

    Raises:
        SettingsError: If one is not.
    """
    if missing := [name for name in config.trackers if importlib.util.find_spec(name) is None]:
        msg = (
            f"tracking: {' and '.join(missing)} is not installed at the center; in the folder of this package: "
            f'python -m pip install ".[{",".join(missing)}]" --no-build-isolation, or leave it out of the setting'
        )
        raise SettingsError(msg)


@dataclass(frozen=True)
class Trackers:
    """The trackers that a study names; one that fails is named in the log, and the study continues."""

    writers: Sequence[Writer]

    def end_round(self, fold: str, record: Mapping[str, Any]) -> None:
        """A round that counts, as the study's history has it."""
        values = {
            "round/sites asked": float(len(record["asked"])),
            "round/sites counted": float(len(record["counted"])),
            "round/seconds": float(record["seconds"]),
        }
        for site, update in record["updates"].items():
            known = (name for name in ("norm", "cosine") if update.get(name) is not None)
            values |= {f"update {name}/{site}": update[name] for name in known}
        for site, spent in record["spent"].items():
            values |= {f"epsilon/{site}": spent["epsilon"]} if spent.get("epsilon") is not None else {}
        self._write(fold, int(record["round"]), values)

    def scored(self, fold: str, points: Sequence[Scored]) -> None:
        """Validation values of rounds, with their intervals."""
        for point in points:
            values = {"validation/value": point.value, "validation/low": point.low, "validation/high": point.high}
            self._write(fold, point.round, {name: one for name, one in values.items() if one is not None})

    def end(self, folder: Path) -> None:
        """The results and the report, as they are in the study's folder."""
        results = None
        with suppress(StudyError):
            results = read_results(results_of_folder(folder))
        files = [file for file in (folder / REPORT, results_of_folder(folder)) if file.exists()]
        for writer in self.writers:
            _try(partial(writer.end, results, test_values(results), files))

    def _write(self, fold: str, server_round: int, values: Mapping[str, float]) -> None:
        finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        for writer in self.writers:
            _try(partial(writer.write, fold, server_round, finite))


def _try(write: Callable[[], T]) -> T | None:
    """What it gives; None where it fails, for whatever a library says of its files: the study's own are written."""
    try:
        return write()
    except Exception:
        log.exception("a tracker could not write; the study continues, and its results do not depend on it")
        return None


def test_values(results: Results | None) -> dict[str, float]:
    """Metrics of test patients: single numbers, by target and role."""
    targets = results.targets if results else {}
    return {
        f"test {role}/{name} {metric}": value
        for name, target in targets.items()
        for role in ("internal", "external", "pooled")
        for metric, value in getattr(target, role).items()
        if isinstance(value, float)
    }


@contextmanager
def tracked(config: StudySettings, folder: Path) -> Iterator[Trackers]:
    """The study's trackers while it runs; at its end they get the results and the report that are in its folder.

    Raises:
        SettingsError: If one is not installed.
    """
    require_installed(config)
    opened = [_try(partial(WRITERS[name], config, folder)) for name in config.trackers]
    trackers = Trackers([writer for writer in opened if writer])
    try:
        yield trackers
    finally:
        trackers.end(folder)
