"""In-process engine: runs a study's sites one after the other in this process."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flwr.app import Context, RecordDict

from client.app import app as client_app
from client.site_result.files import without_pages
from client.tables.read import each_table_once
from server.app import app as server_app
from server.app import train_split
from server.study.testing import chosen_round
from server.study.weights.checkpoint import Checkpoint
from shared_models.atomic_files import scratch
from shared_models.folds import folds_of
from shared_models.study_settings import StudySettings
from simulation.engines.budgets import only_here
from simulation.engines.clear_sums import clear_sums, uses_clear_sums
from simulation.engines.in_process_grid import InProcessGrid
from simulation.splits import with_outcome

if TYPE_CHECKING:
    from rich.console import Console

Sites = dict[str, Path]


def run_in_process(sites: Sites, config: StudySettings, console: Console | None = None) -> dict[str, Any]:
    """Runs the ServerApp against the sites' ClientApps in this process and returns the results.

    Raises:
        StudyError: If the study cannot continue.
    """
    import json

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    config = with_outcome(config, sites)
    columns = (TextColumn("{task.description:<44}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bars = Progress(*columns, console=console, transient=True, disable=console is None)
    if console and uses_clear_sums(config, sites):
        console.print(f"secure aggregation of {len(sites)} sites: the same sums, without the protocol's masks")
    with in_one_process(sites, config), bars as progress:
        labels = [fold.label for fold in folds_of(config)] or [""]
        bar = progress.add_task("starting", total=config.rounds * len(labels))

        def show(site: str, kind: str, group: str) -> None:
            label, _, server_round = group.rpartition("/")
            at = f"{label}: " if label else ""
            progress.update(bar, description=f"{at}{kind} {server_round if kind == 'train' else ''} at {site}")
            if kind == "train":
                before = labels.index(label) * config.rounds
                progress.update(bar, completed=before + int(server_round) - 1)

        grid = InProcessGrid(client_app, sites, config.to_flat(), on_message=show)
        context = Context(1, 0, node_config={}, state=RecordDict(), run_config=config.to_flat())
        server_app(grid, context)
    results: dict[str, Any] = json.loads((Path(config.results_dir) / config.study / "results.json").read_text())
    return results


def train_in_process(sites: Sites, config: StudySettings, show: Callable[[str, int], None]) -> tuple[Checkpoint, int]:
    """Trains a study of one split and scores no test patient.

    Args:
        sites: The sites' settings.
        config: The study's.
        show: Told what is being done, and after how many rounds.

    Returns:
        The chosen round, and how many there were.

    Raises:
        StudyError: If the study cannot go on.
    """
    config = with_outcome(config, sites)

    def at_message(site: str, kind: str, group: str) -> None:
        if kind == "train":
            show(f"round {group} at {site}", int(group) - 1)

    with in_one_process(sites, config):
        last = train_split(InProcessGrid(client_app, sites, config.to_flat(), on_message=at_message), config)
    return chosen_round(last, config, Path(config.results_dir) / config.study), last.round


@contextlib.contextmanager
def in_one_process(sites: Sites, config: StudySettings) -> Iterator[None]:
    """What sites share that are all here: no other run, each error once, tables of which they are parts, and no masks.

    Raises:
        StudyError: If another process runs the study at one of them.
    """
    with contextlib.ExitStack() as meanwhile:
        meanwhile.enter_context(scratch(Path(config.results_dir) / config.study / "sites"))
        meanwhile.enter_context(only_here(sites, config))
        meanwhile.enter_context(each_error_once())
        if len({file.resolve().parent for file in sites.values()}) < len(sites):
            meanwhile.enter_context(each_table_once())
        meanwhile.enter_context(without_pages())
        if uses_clear_sums(config, sites):
            meanwhile.enter_context(clear_sums())
        yield


@contextlib.contextmanager
def each_error_once() -> Iterator[None]:
    """Shows a site's error the first time only: the center asks again, and several sites may be made of one folder."""
    log, shown = logging.getLogger("client"), set[str]()

    def is_new(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        repeated = record.levelno >= logging.ERROR and text in shown
        shown.add(text)
        return not repeated

    log.addFilter(is_new)
    try:
        yield
    finally:
        log.removeFilter(is_new)
