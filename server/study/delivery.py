"""Delivery of a study's first weights: once to each site, before anything is asked that needs them."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from dataclasses import replace

from flwr.serverapp import Grid

from server.study.checkpoint import Checkpoint
from server.study.exchange import Answer, ask, log_problems
from shared_models.messages import LACKS_WEIGHTS, Arrays, InitialWeightsRequest
from shared_models.study_settings import StudySettings
from shared_models.task import load_task
from shared_models.trained_parts import build_network, frozen_names, of_trained

log = logging.getLogger("server")


def deliver(grid: Grid, config: StudySettings, state: Checkpoint) -> Checkpoint:
    """Sends the first weights to every enrolled site that has not got them; to none where each round brings all.

    Frozen weights are the same in every round, so that a site that comes late gets what the others got.
    """
    if config.trained == "all" and config.initial_weights == "seeded":
        return state
    missing = sorted(set(state.enrolled) - set(state.delivered))
    if not missing:
        return state
    request = InitialWeightsRequest(model=state.model, from_file=tuple(state.start.get("names", ())))
    answers = ask(grid, dict.fromkeys(missing, request.pack()), request.KIND, request.reply_kind.unpack, config)
    log_problems(answers, config)
    there = [answer.site for answer in answers if answer.reply is not None]
    log.info("the first weights went to %s", ", ".join(there) or "nobody")
    return replace(state, delivered=tuple(sorted({*state.delivered, *there})))


def forget_lost(state: Checkpoint, answers: Sequence[Answer[object]]) -> Checkpoint:
    """The study after answers of which some say that a site has no first weights: it gets them again."""
    lost = {answer.site for answer in answers if answer.problem.startswith(LACKS_WEIGHTS)}
    return replace(state, delivered=tuple(site for site in state.delivered if site not in lost)) if lost else state


def travelling(model: Arrays, config: StudySettings) -> Arrays:
    """The arrays of a model that travel in every round: those that are trained."""
    return of_trained(model, frozen_of(config))


@functools.lru_cache(maxsize=8)
def frozen_of(config: StudySettings) -> frozenset[str]:
    """The names of the arrays that a study leaves as they are.

    Raises:
        SettingsError: If `trained` names nothing of the network.
    """
    return frozenset() if config.trained == "all" else frozen_names(build_network(load_task(config), config), config)
