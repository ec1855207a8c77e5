"""The center's side of a study: prepare, train for some rounds, evaluate. It never sees a patient."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.superlink.grid import HttpGrid

from server.report.page import try_to_report
from server.study import scoring
from server.study.aggregation.clipping import clip_updates, log_influences
from server.study.aggregation.guard import sort_updates
from server.study.aggregation.rule import Round, Rule, at_sites, load_rule, take_step
from server.study.audit import check
from server.study.checkpoint import (
    BEST,
    LAST,
    Checkpoint,
    load_checkpoint,
    only_run,
    save_checkpoint,
)
from server.study.delivery import deliver, forget_lost, frozen_of, travelling
from server.study.enrolment import (
    Enrolment,
    Sums,
    class_weights,
    enrol,
    modalities_below,
    pooled_statistics,
)
from server.study.exchange import Answer, StudyError, log_problems, wait_for_sites
from server.study.fold_results import Finished, combine, keep_tested, read_finished
from server.study.initial_weights import initial_model, start_of
from server.study.network_grid import NetworkGrid
from server.study.patients_section import descriptions
from server.study.results import RESULTS, Results, write_results
from server.study.results_contents import make_results, unfinished_results
from server.study.results_csv import write_csv
from server.study.results_folder import clear, require_free
from server.study.resuming import MAY_DIFFER, require_same_settings, resume
from server.study.secure_exchange import exchange, first_exchange, unverified_sites
from shared_models.agreed import DIVERGED
from shared_models.combat import references
from shared_models.folds import Fold, fold_of, fold_settings, folds_of
from shared_models.messages import (
    Arrays,
    EvaluateTestRequest,
    EvaluateValidationReply,
    EvaluateValidationRequest,
    StudyStatistics,
    TrainReply,
    TrainRequest,
)
from shared_models.metrics.summary import selection_score
from shared_models.patience import shorten_pulls
from shared_models.secure_aggregation.choice import uses_secure_aggregation
from shared_models.secure_aggregation.study import terms_of
from shared_models.study_settings import StudySettings, parse_study_settings
from shared_models.task import Task, load_task

log = logging.getLogger("server")
LARGEST_LOSS = 1e4  # of a patient; what learns stays below 100
app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Runs the study that the run config describes."""
    run_config = {key: value for key, value in context.run_config.items() if key != "simulated-sites"}
    if isinstance(grid, HttpGrid):  # a deployment's; a simulation's sites are in this process or in Ray's
        shorten_pulls()
        grid = NetworkGrid(grid)
    run_study(grid, parse_study_settings(run_config))


def run_study(grid: Grid, config: StudySettings) -> dict[str, Any]:
    """Runs a study to its end, one fold after the other, and returns its results.

    They are also in `results.json`, beside a report of them.

    Raises:
        StudyError: If too few sites take part. The last round that counted stays on disk; `resume` goes on from it.
        SettingsError: If too few sites would train while each is left out in turn.
    """
    logging.getLogger("flwr").setLevel(logging.WARNING)
    folder, folds = Path(config.results_dir) / config.study, folds_of(config)
    with only_run(folder):
        require_free(folder, config)
        if config.overwrite:
            clear(folder)
        if folds:
            finished = [run_fold(grid, config, fold, folder) for fold in folds]
            results = combine(load_task(config), config, finished)
            finish(results, folder)
        else:
            results = run_split(grid, config, folder)
        return results.model_dump(mode="json")


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
    with only_run(place):
        run_split(grid, own, place)
    return read_finished(fold, place, task, config)


def run_split(grid: Grid, config: StudySettings, folder: Path) -> Results:
    """Prepares, trains and evaluates on one split of the patients; see `run_study`."""
    task, rule = load_task(config), load_rule(config)
    check(folder)
    start, _ = start_of(task, config), frozen_of(config)  # what is wrong there is said before anybody is asked
    deadline = time.monotonic() + config.join_timeout_s
    state = Checkpoint(config.to_flat(), 0, {}, {}, {}, start=start)
    try:
        wait_for_sites(grid, config)
        state = resume(folder, config) if config.resume else prepare(grid, task, config, deadline, start)
        while state.round < config.rounds and not out_of_patience(state, config):
            state = train_round(grid, task, rule, config, state, folder)
            save_checkpoint(state, folder / LAST)
        state = score_last(grid, task, config, state, folder)
        save_checkpoint(state, folder / LAST)
        results = evaluate(grid, task, config, state, folder)
    except StudyError as error:
        finish(unfinished_results(task, config, with_failed_attempts(state, folder), str(error)), folder)
        raise
    finish(results, folder, report=fold_of(config) is None)
    return results


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


def out_of_patience(state: Checkpoint, config: StudySettings) -> bool:
    """Whether `patience` scored rounds have gone by since the best; round r is scored in round r + 1."""
    stops = config.patience > 0 and state.best_round > 0 and state.round - 1 - state.best_round >= config.patience
    if stops:
        log.info("no better round than %d in %d: the study ends early", state.best_round, config.patience)
    return stops


def prepare(
    grid: Grid, task: Task, config: StudySettings, deadline: float = 0.0, start: Mapping[str, Any] | None = None
) -> Checkpoint:
    """Sums the training patients' statistics over the sites, freezes them, and makes the first global model."""
    enrolled, sums, not_enrolled = ask_to_enrol(grid, task, config, deadline)
    counts = {name: np.sum([site.counts[name] for site in sums], axis=0) for name in task.targets}
    combat_references = references([site.statistics for site in sums], config)
    features = pooled_statistics(sums, task, combat_references)
    statistics = StudyStatistics(features, combat_references, class_weights(task, config, counts)).pack()
    model = initial_model(task, config, counts)
    return Checkpoint(config.to_flat(), 0, model, statistics, enrolled, not_enrolled, start=dict(start or {}))


def ask_to_enrol(
    grid: Grid, task: Task, config: StudySettings, deadline: float
) -> tuple[dict[str, Enrolment], list[Sums], dict[str, str]]:
    """Who takes part, what their training patients add up to, and why others do not take part.

    Sites that have not answered are waited for until the deadline, on the monotonic clock.

    Raises:
        StudyError: If too few sites can train, or with secure aggregation too few have a modality.
    """
    answers, parts = first_exchange(grid, config, deadline)
    enrolled, sums, refused = enrol(answers, parts, task)
    problems = log_problems(answers, config, refused)
    training = sum(site.trains for site in enrolled.values())
    if not sums or training < config.min_sites:
        nothing = "no other site is connected" if training < config.min_sites else "secure aggregation came to nothing"
        reasons = "; ".join(f"{site}: {why}" for site, why in problems.items()) or nothing
        msg = f"{training} sites can train, but the study needs min-sites = {config.min_sites}. {reasons}"
        raise StudyError(msg)
    least = terms_of(config).colluders + 2
    if uses_secure_aggregation(config) and (rare := modalities_below(least, enrolled, task)):
        msg = (
            f"secure aggregation needs {least} sites that train, and fewer have {', '.join(rare)}; "
            "name the others in the study's `modalities`, or find more sites"
        )
        raise StudyError(msg)
    log.info("%d sites, %d of them train", len(enrolled), training)
    return enrolled, sums, problems


def train_round(
    grid: Grid, task: Task, rule: Rule, config: StudySettings, state: Checkpoint, folder: Path
) -> Checkpoint:
    """One round: ask the training sites, check and clip what comes back, and make the next model by the study's rule.

    The replies also score the weights they were sent, so the best round is known one round later.
    """
    server_round = state.round + 1
    sites = sorted(site for site, counted in state.enrolled.items() if counted.trains)
    rule_state = state.rule_state if at_sites(rule) else {}
    before = travelling(state.model, config)
    request = TrainRequest(round=server_round, model=before, statistics=state.statistics, rule_state=rule_state)
    for attempt in range(1, config.round_attempts + 1):
        started = time.monotonic()
        state = deliver(grid, config, state)
        answers, parts = exchange(grid, sites, request, config, group=str(server_round))
        state = forget_lost(state, answers)
        updates, rejected = sort_updates(parts, before, state.enrolled, at_sites(rule))
        updates, influences = clip_updates(updates, before, config.clip_updates)
        counted = sorted(site for update in updates for site in update.sites)
        record = {"round": server_round, "attempt": attempt, "asked": sites, "counted": counted}
        problems = log_problems(answers, config, rejected)
        record |= {"problems": problems, "updates": log_influences(influences)}
        record |= {"seconds": round(time.monotonic() - started, 3)}
        state = replace(state, history=(*state.history, record))
        if len(counted) >= config.min_sites:
            break
        if sum(problem.startswith(DIVERGED) for problem in problems.values()) > len(sites) - config.min_sites:
            break  # from the same weights they would diverge again, and in private training be charged again
        log.warning("round %d does not count: %d of at least %d sites", server_round, len(counted), config.min_sites)
        wait_for_sites(grid, config)
    if len(counted) < config.min_sites:
        save_checkpoint(state, folder / LAST)
        reasons = "; ".join(sorted(set(problems.values())))
        msg = (
            f"round {server_round} failed {attempt} time{'s' if attempt > 1 else ''}; the study stops after round "
            f"{state.round}, whose weights stay. {reasons}"
        )
        raise StudyError(msg)
    state = keep_best(state, scoring.pool(validation_scores(parts), task, config), folder)
    loss = float(np.average([u.loss for u in updates], weights=[u.patients for u in updates]))
    said = f", training loss {loss:.4f}" if config.privacy == "none" else ""  # no noise covers a loss: it stays there
    log.info("round %d/%d: %d of %d sites%s", server_round, config.rounds, len(counted), len(sites), said)
    this = Round(server_round, before, updates, config, state.enrolled)
    model, rule_state = take_step(rule, this, state.rule_state)
    require_learning(before, model, loss, config, server_round)
    return replace(state, round=server_round, model={**state.model, **model}, rule_state=rule_state)


def require_learning(before: Arrays, after: Arrays, loss: float, config: StudySettings, server_round: int) -> None:
    """Stops a study whose training has diverged, and leaves the weights of the last round as they were.

    Raises:
        StudyError: If no weight changed, as where no site's are finite numbers, or the loss is beyond all bounds.
    """
    changed = any(not np.array_equal(after[name], before[name]) for name in before)
    if changed and not loss > LARGEST_LOSS:
        return
    unchanged = "no site has weights that are finite numbers and differ from before"
    reason = f"the mean training loss is {loss:.3g}" if changed else unchanged
    msg = (
        f"training diverged in round {server_round}: {reason}, at learning-rate {config.learning_rate:g}. "
        f"The weights of round {server_round - 1} stay; a lower learning-rate, or clip-gradients, may help"
    )
    raise StudyError(msg)


def keep_best(state: Checkpoint, pooled: scoring.Summaries, folder: Path) -> Checkpoint:
    """Keeps the weights of `state` on disk if no earlier ones scored higher on pooled validation patients.

    Untrained weights are no candidate: with few validation patients chance would sometimes prefer them.
    """
    value = selection_score(pooled.values())
    state = replace(state, values=(*(v for v in state.values if v[0] != state.round), (state.round, value)))
    if state.round == 0 or np.isnan(value) or (state.best_value is not None and value <= state.best_value):
        return state
    state = replace(state, best_round=state.round, best_value=value)
    save_checkpoint(replace(state, validation=scoring.pack(pooled)), folder / BEST)
    return state


def score_last(grid: Grid, task: Task, config: StudySettings, state: Checkpoint, folder: Path) -> Checkpoint:
    """Scores the last round's weights on validation patients too, as each round's reply did for the one before."""
    sites = sorted(site for site, counted in state.enrolled.items() if counted.trains)
    state, model = deliver(grid, config, state), travelling(state.model, config)
    request = EvaluateValidationRequest(round=state.round, model=model, statistics=state.statistics)
    answers, parts = exchange(grid, sites, request, config, group="validation")
    log_problems(answers, config)
    return keep_best(state, scoring.pool(validation_scores(parts), task, config), folder)


def validation_scores(parts: Sequence[Answer[TrainReply] | Answer[EvaluateValidationReply]]) -> dict[str, Arrays]:
    """What the sites counted of their validation patients' scores, by site."""
    return {part.site: part.reply.validation for part in parts if part.reply}


def evaluate(grid: Grid, task: Task, config: StudySettings, last: Checkpoint, folder: Path) -> Results:
    """Scores the best round's weights on every site's test patients, at thresholds from pooled validation patients.

    Without validation patients the last round counts as the best.
    """
    if last.best_value is None:
        save_checkpoint(last, folder / BEST)
    best = load_checkpoint(folder / BEST)
    validation = scoring.unpack(best.validation, task, config)
    thresholds = scoring.thresholds(validation, config.threshold)
    values = {name: value for name, (value, _) in thresholds.items()}
    deliver(grid, config, last)
    model = travelling(best.model, config)
    request = EvaluateTestRequest(round=best.round, model=model, statistics=best.statistics, thresholds=values)
    answers, parts = exchange(grid, sorted(best.enrolled), request, config, group="test")
    replies = {part.site: part.reply for part in parts if part.reply}
    internal = scoring.pool({site: reply.test for site, reply in replies.items()}, task, config)
    external = scoring.pool({site: reply.external for site, reply in replies.items()}, task, config)
    problems, unverified = log_problems(answers, config), unverified_sites(grid)
    if fold_of(config):
        late = {site: reply.all_folds for site, reply in replies.items() if reply.all_folds}
        keep_tested((internal, external, scoring.pool(late, task, config)), folder)
    tested, described = (internal, external), descriptions(parts, task)
    return make_results(task, config, best, last, thresholds, answers, tested, problems, unverified, described)
