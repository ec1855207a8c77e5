"""Rounds of training: what the sites are asked, when a round counts, and which round is the best."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from flwr.serverapp import Grid

from server.study.aggregation.clipping import clip_updates, log_influences
from server.study.aggregation.guard import Update, sort_updates
from server.study.aggregation.rule import Round, Rule, at_sites, take_step
from server.study.evaluation import ask_to_evaluate
from server.study.exchange import Answer, StudyError, log_problems, wait_for_sites
from server.study.progress import progress_of
from server.study.secure_aggregation.secure_exchange import exchange
from server.study.selection import known_scores, newest_score, next_ranges, settle, store_best, validation_scores
from server.study.unscored import unscored, unscored_so_far
from server.study.weights.checkpoint import (
    LAST,
    Checkpoint,
    save_checkpoint,
)
from server.study.weights.delivery import advanced, arrived, deliver, forget_lost, frozen_hash, travelling
from server.study.weights.spool import Spool
from shared_models.agreed import DIVERGED
from shared_models.messages import (
    Arrays,
    EvaluateValidationRequest,
    TrainReply,
    TrainRequest,
)
from shared_models.score_ranges import with_score_ranges
from shared_models.study_settings import StudySettings
from shared_models.task import Task

log = logging.getLogger("server")
MAX_LOSS = 1e4  # of a patient; what learns stays below 100


def out_of_patience(state: Checkpoint, config: StudySettings) -> bool:
    """Whether `patience` scored rounds have gone by since the best; round r is scored in round r + 1."""
    stops = config.patience > 0 and state.best_round > 0 and state.round - 1 - state.best_round >= config.patience
    if stops:
        log.info("no better round than %d in %d: the study ends early", state.best_round, config.patience)
    return stops


@dataclass(frozen=True)
class Attempt:
    """An attempt at a round: what came back, checked and clipped.

    Attributes:
        parts: What may be added up, with the scores of the weights that were sent.
        updates: Those that count.
        record: What the study's history holds of it.
    """

    parts: Sequence[Answer[TrainReply]]
    updates: Sequence[Update]
    record: dict[str, Any]


def train_round(
    grid: Grid, task: Task, rule: Rule, config: StudySettings, state: Checkpoint, folder: Path
) -> Checkpoint:
    """One round: ask the training sites, check and clip what comes back, and make the next model by the study's rule.

    The replies also score the weights they were sent, so the best round is known one round later.
    """
    task, request = with_score_ranges(task, state.score_ranges), _train_request(rule, config, state)
    state, attempt = ask_until_it_counts(grid, request, at_sites(rule), config, state, folder)
    scores = validation_scores(attempt.parts)
    state = store_best(state, scores, task, config, folder)
    progress_of(grid).scored(newest_score(state, scores, task, config), best_round=state.best_round)
    if request.round == 1 and (warning := unscored_so_far(state, config)):
        log.warning("%s", warning)
    loss = float(np.average([u.loss for u in attempt.updates], weights=[u.patients for u in attempt.updates]))
    _log_round(attempt, loss, config)
    before = request.model
    this = Round(request.round, before, attempt.updates, config, state.enrolled)
    model, rule_state = take_step(rule, this, state.rule_state)
    require_learning(before, model, loss, config, request.round)
    ranges, model = next_ranges(state, scores, task, config), advanced(state.model, before, model)
    state = replace(state, round=request.round, model=model, rule_state=rule_state)
    return state if known_scores(state, config) else replace(state, score_ranges=ranges)  # theirs are of these ranges


def _train_request(rule: Rule, config: StudySettings, state: Checkpoint) -> TrainRequest:
    return TrainRequest(
        round=state.round + 1,
        model=travelling(state, config),
        statistics=state.statistics,
        score_ranges=state.score_ranges,
        frozen=frozen_hash(state, config),
        rule_state=state.rule_state if at_sites(rule) else {},
    )


def ask_until_it_counts(
    grid: Grid, request: TrainRequest, at_sites: bool, config: StudySettings, state: Checkpoint, folder: Path
) -> tuple[Checkpoint, Attempt]:
    """Asks the training sites until enough updates count, and returns that attempt and the study with all of them.

    Args:
        grid: The way to the sites.
        request: What they are asked.
        at_sites: Whether the rule has a half at the sites.
        config: The study.
        state: How it stands.
        folder: Of its results.

    Raises:
        StudyError: If no attempt counts; the last checkpoint then has them all.
    """
    sites = sorted(site for site, counted in state.enrolled.items() if counted.trains)
    for number in range(1, config.round_attempts + 1):
        state, attempt = _attempt(grid, sites, request, at_sites, number, config, state, folder)
        counted, problems = len(attempt.record["counted"]), attempt.record["problems"]
        if counted >= config.min_sites:
            return state, attempt
        if sum(problem.startswith(DIVERGED) for problem in problems.values()) > len(sites) - config.min_sites:
            break  # from the same weights they would diverge again, and in private training be charged again
        log.warning("round %d does not count: %d of at least %d sites", request.round, counted, config.min_sites)
        wait_for_sites(grid, config)
    save_checkpoint(state, folder / LAST)
    reasons = "; ".join(sorted(set(problems.values())))
    msg = (
        f"round {request.round} failed {number} time{'s' if number > 1 else ''}; the study stops after round "
        f"{state.round}, whose weights stay. {reasons}"
    )
    raise StudyError(msg)


def _attempt(
    grid: Grid,
    sites: list[str],
    request: TrainRequest,
    at_sites: bool,
    number: int,
    config: StudySettings,
    state: Checkpoint,
    folder: Path,
) -> tuple[Checkpoint, Attempt]:
    progress, started = progress_of(grid), time.monotonic()
    progress.begin_round(request.round, number)
    state = deliver(grid, config, state)
    spooled = _spooler(request.model, config, folder)
    answers, parts = exchange(grid, sites, request, config, str(request.round), spooled)
    state = forget_lost(state, answers)
    updates, rejected = sort_updates(parts, request.model, state.enrolled, at_sites)
    updates, influences = clip_updates(updates, request.model, config.clip_updates)
    counted = sorted(site for update in updates for site in update.sites)
    record = {
        "round": request.round,
        "attempt": number,
        "asked": sites,
        "counted": counted,
        "problems": log_problems(answers, config, rejected),
        "updates": log_influences(influences),
        "spent": spent_of(answers),
        "seconds": round(time.monotonic() - started, 3),
    }
    progress.failed(rejected)
    progress.end_round(record, counts=len(counted) >= config.min_sites)
    return replace(state, history=(*state.history, record)), Attempt(parts, updates, record)


def _log_round(attempt: Attempt, loss: float, config: StudySettings) -> None:
    counted, asked = len(attempt.record["counted"]), len(attempt.record["asked"])
    # in private training no noise would cover the loss: it stays at the site
    training_loss = f", training loss {loss:.4f}" if config.privacy == "none" else ""
    log.info("round %d/%d: %d of %d sites%s", attempt.record["round"], config.rounds, counted, asked, training_loss)


def _spooler(sent: Arrays, config: StudySettings, folder: Path) -> Callable[[TrainReply], TrainReply]:
    """What is done with each answer to a request with these weights: its own go to a spool in the study's folder."""
    spool = Spool(folder)

    def spooled(reply: TrainReply) -> TrainReply:
        own = arrived(reply, sent, config)
        return replace(own, model=spool.store(own.model), rule_change=spool.store(own.rule_change))

    return spooled


def spent_of(answers: Sequence[Answer[TrainReply]]) -> dict[str, dict[str, float]]:
    """What the study has spent of each site's privacy, of those that say so."""
    names = ("epsilon", "delta")
    replies = {one.site: dict(one.reply.spent) for one in answers if one.reply and one.reply.spent}
    return {site: {name: spent[name] for name in names} for site, spent in replies.items() if spent.keys() >= {*names}}


def require_learning(before: Arrays, after: Arrays, loss: float, config: StudySettings, server_round: int) -> None:
    """Stops a study whose training has diverged, and leaves the weights of the last round as they were.

    Raises:
        StudyError: If no weight changed, as where no site's are finite numbers, or the loss is beyond all bounds.
    """
    changed = any(not np.array_equal(after[name], before[name]) for name in before)
    if changed and not loss > MAX_LOSS:
        return
    unchanged = "no site has weights that are finite numbers and differ from before"
    reason = f"the mean training loss is {loss:.3g}" if changed else unchanged
    msg = (
        f"training diverged in round {server_round}: {reason}, at learning-rate {config.learning_rate:g}. "
        f"The weights of round {server_round - 1} stay; a lower learning-rate, or clip-gradients, may help"
    )
    raise StudyError(msg)


def score_last(grid: Grid, task: Task, config: StudySettings, state: Checkpoint, folder: Path) -> Checkpoint:
    """Scores the last round's weights on validation patients too, as each round's reply did for the one before."""
    progress_of(grid).stage("scoring the last round")
    task = with_score_ranges(task, state.score_ranges)
    if (scores := known_scores(state, config)) is None:
        state, scores = _ask_for_scores(grid, task, config, state)
    state = settle(store_best(state, scores, task, config, folder), scores, task, config, folder)
    progress_of(grid).scored(newest_score(state, scores, task, config), best_round=state.best_round)
    if warning := unscored(state, config):
        log.warning("%s", warning)
    return state


def _ask_for_scores(
    grid: Grid, task: Task, config: StudySettings, state: Checkpoint
) -> tuple[Checkpoint, dict[str, Arrays]]:
    sites = sorted(site for site, counted in state.enrolled.items() if counted.trains)
    state = deliver(grid, config, state)
    request = EvaluateValidationRequest(
        round=state.round,
        model=travelling(state, config),
        statistics=state.statistics,
        score_ranges=state.score_ranges,
        frozen=frozen_hash(state, config),
    )
    answers, parts = ask_to_evaluate(grid, task, sites, request, config, group="validation")
    log_problems(answers, config)
    return state, validation_scores(parts)
