"""A study in TensorBoard: event files in the study's folder, which `tensorboard --logdir` of all results compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from server.study.results.results_folder import EVENTS
from server.study.results.schema import Results
from shared_models.study_settings import StudySettings

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def open_writer(config: StudySettings, folder: Path) -> EventFiles:
    """Begins the event files of a study in its folder, with its settings as text."""
    from torch.utils.tensorboard import SummaryWriter

    rows = "\n".join(f"| {key} | {_cell(value)} |" for key, value in sorted(config.to_flat().items()))
    with SummaryWriter(str(folder / EVENTS)) as settings:  # alone: what a later file hides begins with its first round
        settings.add_text("settings", f"| setting | value |\n|---|---|\n{rows}")
    return EventFiles(folder / EVENTS, resumed=config.resume)


class EventFiles:
    """A folder of event files, one for each fold."""

    def __init__(self, folder: Path, resumed: bool) -> None:
        self.folder, self._resumed = folder, resumed
        self._writers: dict[str, SummaryWriter] = {}

    def of(self, fold: str, server_round: int = 0) -> SummaryWriter:
        """The fold's writer; of a study that resumes it hides what was written of this round and later ones."""
        from torch.utils.tensorboard import SummaryWriter

        if fold not in self._writers:
            hidden = server_round if self._resumed and server_round else None
            self._writers[fold] = SummaryWriter(str(self.folder / fold), purge_step=hidden)
        return self._writers[fold]

    def write(self, fold: str, server_round: int, values: Mapping[str, float]) -> None:
        """See `Writer`."""
        writer = self.of(fold, server_round)
        for name, value in values.items():
            writer.add_scalar(name, value, server_round)
        writer.flush()

    def end(self, results: Results | None, values: Mapping[str, float], files: Sequence[Path]) -> None:
        """See `Writer`; the files are named, since an event holds no page."""
        writer = self.of("")
        for name, value in values.items():
            writer.add_scalar(name, value, results.best_round if results else 0)
        if files:
            names = " and ".join(f"`{file.name}`" for file in files)
            writer.add_text("results", f"{names} in the study's folder, one up from here")
        if results and results.failure:
            writer.add_text("failure", results.failure)
        for one in self._writers.values():
            one.close()


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
