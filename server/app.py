"""The center's side of a study: prepare, train for some rounds, evaluate. It never sees a patient."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.superlink.grid import HttpGrid

from server.report.page import try_to_report
from server.report.status_page import draw_status
from server.report.validation_results import finish_validation
from server.study import canary
from server.study.aggregation.rule import load_rule
from server.study.audit import check
from server.study.comparison import add_rows, compare_at_sites, find_networks
from server.study.exchange import StudyError, wait_for_sites
from server.study.external_validation import ask_sites, find_network
from server.study.late_enrolment import enrol_late
from server.study.network_grid import NetworkGrid
from server.study.preparation import prepare
from server.study.progress import Progress, begin_progress, progress_of, watch
from server.study.results.comparison_section import write_comparisons
from server.study.results.contents import unfinished_results
from server.study.results.csv_file import write_csv
from server.study.results.finished_fold import Finished, read_finished
from server.study.results.fold_results import combine
from server.study.results.replaced_results import replacing
from server.study.results.results_file import RESULTS, read_results, write_results
from server.study.results.results_folder import require_free
from server.study.results.schema import Results
from server.study.resuming import MAY_DIFFER, require_same_settings, resume
from server.study.rounds import out_of_patience, score_last, train_round
from server.study.secure_aggregation.secure_exchange import continue_with
from server.study.study_log import study_log
from server.study.testing import evaluate
from server.study.weights.checkpoint import BEST, LAST, Checkpoint, load_checkpoint, only_run, save_checkpoint
from server.study.weights.delivery import frozen_of
from server.study.weights.initial_weights import start_of
from server.tracking.trackers import Trackers, tracked
from shared_models.folds import Fold, fold_of, fold_settings, folds_of
from shared_models.messages import Arrays
from shared_models.patience import outlast_failed_heartbeats, shorten_pulls
from shared_models.study_settings import StudySettings, parse_study_settings
from shared_models.task import load_task

log = logging.getLogger("server")
app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Runs the study that its settings describe."""
    run_config = {key: value for key, value in context.run_config.items() if key != "simulated-sites"}
    if isinstance(grid, HttpGrid):  # a deployment's; a simulation's sites are in this process or in Ray's
        shorten_pulls()
        outlast_failed_heartbeats()
        grid = NetworkGrid(grid)
    run_study(grid, parse_study_settings(run_config))


def run_study(grid: Grid, config: StudySettings) -> dict[str, Any]:
    """Runs a study to its end, one fold after the other, and returns its results.

    They are also in `results.json`, beside a report of them.

    Raises:
        StudyError: If too few sites take part. The last round that counted stays on disk; `resume` continues from it.
        SettingsError: If too few sites would train while each is left out in turn.
    """
    logging.getLogger("flwr").setLevel(logging.WARNING)
    if config.validates:
        return run_validation(grid, config).model_dump(mode="json")
    if config.canary:
        return {"canary": run_canary(grid, config)}
    if config.compares:
        return run_comparison(grid, config).model_dump(mode="json")
    folder, folds = Path(config.results_dir) / config.study, folds_of(config)
    with (
        only_run(folder),
        replacing(folder, config),
        study_log(folder, aloud=isinstance(grid, NetworkGrid)),
        tracked(config, folder) as trackers,
        watched(grid, config, folder, trackers) as progress,
    ):
        if folds:
            finished = [run_fold(grid, config, fold, folder) for fold in folds]
            results = combine(load_task(config), config, finished)
            finish(results, folder)
        else:
            results = run_split(grid, config, folder)
        progress.end(results.missing)
    return results.model_dump(mode="json")


@contextmanager
def watched(grid: Grid, config: StudySettings, folder: Path, trackers: Trackers | None = None) -> Iterator[Progress]:
    """Shows in the study's folder, and in other programs, how far it is; what ends the study ends that too."""
    progress = begin_progress(config, folder, draw_status, trackers)
    watch(grid, progress)
    try:
        yield progress
    except BaseException as error:  # also a signal that stops the study
        why = "it was stopped" if isinstance(error, KeyboardInterrupt | SystemExit) else str(error) or repr(error)
        log.error("the study ends: %s", why)
        progress.end({}, failure=why)
        raise


def run_validation(grid: Grid, config: StudySettings) -> Results:
    """Has sites that were not in a finished study score its network, and adds what they tell to the study's results.

    Raises:
        StudyError: If none does, or the network is not there.
    """
    results_dir = Path(config.results_dir)
    model = find_network(results_dir, config.validates, config.validates_sha256)
    folder = results_dir / config.study
    with only_run(folder):
        problems = ask_sites(grid, config, model, folder)
        return finish_validation(model, results_dir, problems)


def run_canary(grid: Grid, config: StudySettings) -> list[str]:
    """Trains one round at all sites or none, stores a verdict for each of them and nothing else, and returns these.

    Raises:
        StudyError: If a site failed, or the round did not count, or the folder holds a study.
    """
    folder, state, failure = Path(config.results_dir) / config.study, None, ""
    with only_run(folder):
        require_free(folder, config.model_copy(update={"resume": False}))  # since all in it is deleted at the end
        with study_log(folder, aloud=isinstance(grid, NetworkGrid)), watched(grid, config, folder) as progress:
            try:
                state = canary.first_round(training(grid, config, folder))
            except StudyError as error:
                failure = str(error)
            progress.end({}, failure)
        file = canary.store(config, canary.verdicts(config, state, progress.state), failure, folder)
    canary.require_all(file)
    return canary.lines_of(file)


def run_comparison(grid: Grid, config: StudySettings) -> Results:
    """Has sites score two finished networks on the same patients, and adds what they count to the first's results.

    Raises:
        StudyError: If none does, or a network or the first study's results are not there.
    """
    first, second = find_networks(config)
    results_dir = Path(config.results_dir)
    folder = results_dir / first.config.study
    read_results(folder / RESULTS)  # sites are asked only where the answers can be added
    with only_run(results_dir / config.study):
        rows = compare_at_sites(grid, config, first, second)
    write_comparisons(rows, (), results_dir / config.study)  # Holm's correction is over all rows of the first study
    results = add_rows(rows, folder)
    write_comparisons(results.comparisons, results.matrix, folder)
    finish(results, folder)
    return results


def run_fold(grid: Grid, config: StudySettings, fold: Fold, folder: Path) -> Finished:
    """Runs one of a study's folds as a study of its own, or where the study resumes reads one that was finished.

    Raises:
        StudyError: If it fails, or was begun with other settings. The folds before it stay.
    """
    own, place, task = fold_settings(config, fold), folder / fold.label, load_task(config)
    if config.resume and (place / LAST).exists():
        state = load_checkpoint(place / LAST)
        require_same_settings(state, own, may_differ=MAY_DIFFER - {"rounds"})
        if (place / RESULTS).exists():
            return read_finished(fold, place, task, config)
    elif config.resume:
        own = own.model_copy(update={"resume": False})
    log.info("%s: fold %d of %d", fold.label, fold.number, len(folds_of(config)))
    progress_of(grid).fold(fold.label, fold.number, len(folds_of(config)))
    first = folder / folds_of(config)[0].label / BEST
    ranges = load_checkpoint(first).score_ranges if fold.number > 1 else {}
    with only_run(place):
        run_split(grid, own, place, ranges)
    return read_finished(fold, place, task, config)


def run_split(grid: Grid, config: StudySettings, folder: Path, ranges: Arrays | None = None) -> Results:
    """Prepares, trains and evaluates on one split of the patients; see `run_study`.

    Args:
        grid: Where messages go.
        config: The study's settings, or a fold's.
        folder: For results.
        ranges: Where scores lie, if an earlier fold says so.
    """
    task, states = load_task(config), training(grid, config, folder, ranges)
    state = next(states)
    try:
        for reached in states:
            state = reached  # what an error leaves
        save_checkpoint(state, folder / LAST)
        results = evaluate(grid, task, config, state, folder)
    except StudyError as error:
        with contextlib.suppress(StudyError):  # on a full disk this is not written either, and the first reason counts
            finish(unfinished_results(task, config, with_failed_attempts(state, folder), str(error)), folder)
        raise
    finish(results, folder, report=fold_of(config) is None)
    return results


def train_split(grid: Grid, config: StudySettings) -> Checkpoint:
    """Trains as `run_study` does one split, and returns how it stands after the last round; no test patient is scored.

    Raises:
        StudyError: If too few sites take part.
    """
    logging.getLogger("flwr").setLevel(logging.WARNING)
    folder = Path(config.results_dir) / config.study
    states = training(grid, config, folder)
    next(states)
    with only_run(folder), study_log(folder, aloud=False), watched(grid, config, folder) as progress:
        state = deque(states, maxlen=1).pop()
        progress.end({})
        return state


def training(grid: Grid, config: StudySettings, folder: Path, ranges: Arrays | None = None) -> Iterator[Checkpoint]:
    """Prepares, trains for some rounds and scores the last; gives how the study stands after each step.

    The first step asks nobody: it is the study before it begins, after what is wrong with its settings was raised.
    Arguments are those of `run_split`.

    Raises:
        StudyError: If too few sites take part.
    """
    task, rule = load_task(config), load_rule(config)
    check(folder)
    start, _ = start_of(task, config), frozen_of(config)
    deadline = time.monotonic() + config.join_timeout_s
    yield Checkpoint(config.to_flat(), 0, {}, {}, {}, start=start)
    progress_of(grid).stage("waiting for sites")
    wait_for_sites(grid, config)
    if config.resume:
        state = resume(folder, config)
        continue_with(grid, config, state.enrolled)
    else:
        state = replace(prepare(grid, task, config, deadline, start), score_ranges=ranges or {})
    yield state
    while state.round < config.rounds and not out_of_patience(state, config):
        state = enrol_late(grid, task, config, state)
        yield state
        state = train_round(grid, task, rule, config, state, folder)
        save_checkpoint(state, folder / LAST)
        yield state
    yield score_last(grid, task, config, state, folder)


def finish(results: Results, folder: Path, report: bool = True) -> None:
    """Writes the results, and the report of them: of a study that failed, too; none of one fold of several."""
    if not results.failure:
        write_csv(results, folder)
    write_results(results, folder)
    page = try_to_report(results, folder) if report else None
    if page and results.failure:
        log.warning("how far the study came: %s", page)


def with_failed_attempts(state: Checkpoint, folder: Path) -> Checkpoint:
    """The study as far as it came, with the attempts of a round that failed, which are only on disk."""
    saved = load_checkpoint(folder / LAST) if (folder / LAST).exists() else state
    return saved if (saved.round, saved.config) == (state.round, state.config) else state
