"""Late enrolment: a site that was away before round 1 joins a study that runs, outside of secure aggregation.

The feature statistics, class weights and references for ComBat stay as they were frozen, so that its patients are
standardised like all others' and move none of them. It is asked to train from the round that it comes in.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from flwr.serverapp import Grid

from server.study.enrolment import enrol
from server.study.exchange import FLOWER_ERROR, NO_ANSWER, NOT_CONNECTED, connected, log_problems
from server.study.secure_aggregation.secure_exchange import exchange
from server.study.weights.checkpoint import Checkpoint
from shared_models.agreed import NOT_APPROVED, OTHERWISE_APPROVED
from shared_models.messages import PrepareRequest
from shared_models.secure_aggregation.choice import uses_secure_aggregation
from shared_models.study_settings import StudySettings
from shared_models.task import Task

log = logging.getLogger("server")
LATER = (NOT_APPROVED, OTHERWISE_APPROVED, NO_ANSWER, FLOWER_ERROR)
"""How the problem begins of a site that may enrol all the same."""


def enrol_late(grid: Grid, task: Task, config: StudySettings, state: Checkpoint) -> Checkpoint:
    """The study with the sites that came after it was prepared: of those that it names, or any where it names none.

    A site that was not connected is asked as soon as it is; one that had not approved the study, or did not answer, in
    rounds that are a power of two, so that it delays few of them. One that failed is not asked again, for each question
    is spent of its approval. In secure aggregation it is settled before round 1 who takes part. Nobody is late for
    round 1: the results would not tell that a site's patients are not in the statistics.
    """
    if uses_secure_aggregation(config) or state.round == 0:
        return state
    here, number = set(connected(grid)), state.round + 1
    asked_now = (NOT_CONNECTED, *(LATER if number & (number - 1) == 0 else ()))
    due = [
        site
        for site in sorted(here & set(config.expected_sites or here) - set(state.enrolled))
        if state.not_enrolled.get(site, NOT_CONNECTED).startswith(asked_now)
    ]
    if not due:
        return state
    answers, parts = exchange(grid, due, PrepareRequest(), config)
    enrolled, _, refused = enrol(answers, parts, task)
    problems = log_problems(answers, config, refused)
    for site in enrolled:
        log.info("%s enrols late: it takes part from round %d on", site, number)
    late = {site: replace(counted, since_round=number) for site, counted in enrolled.items()}
    not_enrolled = {site: why for site, why in state.not_enrolled.items() if site not in late} | problems
    return replace(state, enrolled=state.enrolled | late, not_enrolled=not_enrolled)
