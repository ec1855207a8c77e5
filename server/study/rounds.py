"""Rounds of training: what the sites are asked, when a round counts, and which round is the best."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from flwr.serverapp import Grid

from server.study.aggregation.clipping import clip_updates, log_influences
from server.study.aggregation.guard import sort_updates
from server.study.aggregation.rule import Round, Rule, at_sites, take_step
from server.study.evaluation import ask_to_evaluate
from server.study.exchange import Answer, StudyError, log_problems, wait_for_sites
from server.study.progress import progress_of
from server.study.secure_aggregation.secure_exchange import exchange
from server.study.selection import newest_score, next_ranges, settle, store_best, validation_scores
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
LARGEST_LOSS = 1e4  # of a patient; what learns stays below 100


def out_of_patience(state: Checkpoint, config: StudySettings) -> bool:
    """Whether `patience` scored rounds have gone by since the best; round r is scored in round r + 1."""
    stops = config.patience > 0 and state.best_round > 0 and state.round - 1 - state.best_round >= config.patience
    if stops:
        log.info("no better round than %d in %d: the study ends early", state.best_round, config.patience)
    return stops


def train_round(
    grid: Grid, task: Task, rule: Rule, config: StudySettings, state: Checkpoint, folder: Path
) -> Checkpoint:
    """One round: ask the training sites, check and clip what comes back, and make the next model by the study's rule.

    The replies also score the weights they were sent, so the best round is known one round later.
    """
    server_round, task = state.round + 1, with_score_ranges(task, state.score_ranges)
    sites = sorted(site for site, counted in state.enrolled.items() if counted.trains)
    rule_state = state.rule_state if at_sites(rule) else {}
    before = travelling(state, config)
    request = TrainRequest(
        round=server_round,
        model=before,
        statistics=state.statistics,
        score_ranges=state.score_ranges,
        frozen=frozen_hash(state, config),
        rule_state=rule_state,
    )
    progress = progress_of(grid)
    for attempt in range(1, config.round_attempts + 1):
        started = time.monotonic()
        progress.begin_round(server_round, attempt)
        state = deliver(grid, config, state)
        spooled = _spooler(before, config, folder)
        answers, parts = exchange(grid, sites, request, config, str(server_round), spooled)
        state = forget_lost(state, answers)
        updates, rejected = sort_updates(parts, before, state.enrolled, at_sites(rule))
        updates, influences = clip_updates(updates, before, config.clip_updates)
        counted = sorted(site for update in updates for site in update.sites)
        record = {"round": server_round, "attempt": attempt, "asked": sites, "counted": counted}
        problems = log_problems(answers, config, rejected)
        record |= {"problems": problems, "updates": log_influences(influences), "spent": spent_of(answers)}
        record |= {"seconds": round(time.monotonic() - started, 3)}
        state = replace(state, history=(*state.history, record))
        progress.failed(rejected)
        progress.end_round(record, counts=len(counted) >= config.min_sites)
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
    scores = validation_scores(parts)
    state = store_best(state, scores, task, config, folder)
    progress.scored(newest_score(state, scores, task, config), best_round=state.best_round)
    loss = float(np.average([u.loss for u in updates], weights=[u.patients for u in updates]))
    # in private training no noise would cover the loss: it stays at the site
    training_loss = f", training loss {loss:.4f}" if config.privacy == "none" else ""
    log.info("round %d/%d: %d of %d sites%s", server_round, config.rounds, len(counted), len(sites), training_loss)
    this = Round(server_round, before, updates, config, state.enrolled)
    model, rule_state = take_step(rule, this, state.rule_state)
    require_learning(before, model, loss, config, server_round)
    ranges, model = next_ranges(state, scores, task, config), advanced(state.model, before, model)
    return replace(state, round=server_round, model=model, rule_state=rule_state, score_ranges=ranges)


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
    if changed and not loss > LARGEST_LOSS:
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
    sites = sorted(site for site, counted in state.enrolled.items() if counted.trains)
    progress_of(grid).stage("scoring the last round")
    state, model = deliver(grid, config, state), travelling(state, config)
    task, frozen = with_score_ranges(task, state.score_ranges), frozen_hash(state, config)
    request = EvaluateValidationRequest(
        round=state.round,
        model=model,
        statistics=state.statistics,
        score_ranges=state.score_ranges,
        frozen=frozen,
    )
    answers, parts = ask_to_evaluate(grid, task, sites, request, config, group="validation")
    log_problems(answers, config)
    scores = validation_scores(parts)
    state = settle(store_best(state, scores, task, config, folder), scores, task, config, folder)
    progress_of(grid).scored(newest_score(state, scores, task, config), best_round=state.best_round)
    return state
