"""Travel of weights: the first ones once to each site, those that are trained in each round."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from flwr.serverapp import Grid

from server.study.exchange import Answer, ask, log_problems
from server.study.weights.checkpoint import Checkpoint
from shared_models.messages import LACKS_WEIGHTS, Arrays, InitialWeightsRequest, TrainReply
from shared_models.messages.arrays import hash_arrays
from shared_models.messages.bfloat16 import changed_by, rounded_arrays
from shared_models.secure_aggregation.choice import sends_changes
from shared_models.study_settings import StudySettings
from shared_models.task import load_task
from shared_models.trained_parts import build_network, frozen_names, of_frozen, of_trained

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


def travelling(state: Checkpoint, config: StudySettings) -> Arrays:
    """The arrays of the global model that travel in every round: those that are trained, in the numbers that do.

    The first weights that are of a file go as they are: sites hold them against the hash that they approved.
    """
    trained = of_trained(state.model, frozen_of(config))
    approved = state.round == 0 and config.initial_weights == "file"
    return rounded_arrays(trained) if config.wire == "bfloat16" and not approved else trained


def frozen_hash(state: Checkpoint, config: StudySettings) -> str:
    """Hash of the arrays that stay as they are, which a message means without bringing them; empty without any."""
    frozen = of_frozen(state.model, frozen_of(config))
    return hash_arrays(frozen) if frozen else ""


def as_scored(state: Checkpoint, config: StudySettings) -> Checkpoint:
    """The study with the weights as the sites scored them: with the numbers that travelled."""
    return replace(state, model={**state.model, **travelling(state, config)})


def arrived(reply: TrainReply, sent: Arrays, config: StudySettings) -> TrainReply:
    """A site's answer to a request with these weights, its own weights as the site has them.

    Outside of secure aggregation, whose sums are of whole numbers, sites send rounded changes where `wire` says so.
    """
    return replace(reply, model=changed_by(sent, reply.model)) if sends_changes(config) else reply


def advanced(model: Arrays, sent: Arrays, after: Arrays) -> Arrays:
    """The global model after a round, from what was sent of it and what became of that.

    What rounding took from a weight on its way to the sites is not lost, but stays at the center: steps smaller than
    its last place add up over rounds.
    """
    moved = {
        name: (model[name] + (array - sent[name])).astype(array.dtype) if array.dtype == np.float32 else array
        for name, array in after.items()
    }
    return {**model, **moved}


@functools.lru_cache(maxsize=8)
def frozen_of(config: StudySettings) -> frozenset[str]:
    """The names of the arrays that a study leaves as they are.

    Raises:
        SettingsError: If `trained` names nothing of the network.
    """
    return frozenset() if config.trained == "all" else frozen_names(build_network(load_task(config), config), config)
