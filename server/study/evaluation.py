"""Evaluation: a site that is away is waited for, one that fails is asked again, and too few scores fail the study."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import TypeVar

from flwr.serverapp import Grid

from server.study import scoring
from server.study.enrolment import Enrolment
from server.study.exchange import UNREADABLE, Answer, StudyError
from server.study.joining import ask_until_answered
from server.study.secure_aggregation.secure_exchange import exchange
from shared_models.messages import EvaluateTestReply, EvaluateValidationReply, Request
from shared_models.secure_aggregation.choice import uses_secure_aggregation
from shared_models.secure_aggregation.study import terms_of
from shared_models.study_settings import StudySettings
from shared_models.task import Task

log = logging.getLogger("server")
R = TypeVar("R", EvaluateTestReply, EvaluateValidationReply)


def ask_to_evaluate(
    grid: Grid, task: Task, sites: Sequence[str], request: Request[R], config: StudySettings, group: str
) -> tuple[list[Answer[R]], list[Answer[R]]]:
    """As `exchange`; who is away is waited for within `join-timeout-s`, and who fails is asked `round-attempts` times.

    A secure sum is opened over the same sites each time, so that there all are waited for before each attempt.
    """
    if uses_secure_aggregation(config):
        answers, parts = exchange(grid, sites, request, config, group)
        return answers, [_with_scores(part, task, config) for part in parts]

    def ask_some(some: Sequence[str]) -> list[Answer[R]]:
        return [_with_scores(one, task, config) for one in exchange(grid, some, request, config, group)[0]]

    deadline = time.monotonic() + config.join_timeout_s
    answers = ask_until_answered(ask_some, grid, sites, config, deadline, awaited=sites)
    return answers, answers


def require_tested(
    parts: Sequence[Answer[EvaluateTestReply]],
    enrolled: Mapping[str, Enrolment],
    problems: Mapping[str, str],
    config: StudySettings,
) -> None:
    """Refuses test scores of fewer sites that train than a round would need, of those that have test patients.

    With secure aggregation there are none of fewer sites than may be added up, and then none are missed.

    Raises:
        StudyError: If so; a study that is resumed asks for them again.
    """
    able = {site for site, counted in enrolled.items() if counted.trains and counted.patients["test"]}
    if uses_secure_aggregation(config) and len(able) < terms_of(config).colluders + 2:
        return
    tested = able & {site for part in parts if part.reply for site in part.members or (part.site,)}
    if len(tested) >= min(config.min_sites, len(able)):
        return
    reasons = "; ".join(f"{site}: {why}" for site, why in sorted(problems.items()))
    msg = (
        f"the test failed: {len(tested)} of {len(able)} sites that train gave test scores, and the study needs "
        f"min-sites = {config.min_sites}. All rounds are done and stay: `resume` asks for the test again. {reasons}"
    )
    raise StudyError(msg)


def _with_scores(answer: Answer[R], task: Task, config: StudySettings) -> Answer[R]:
    """The answer; none whose scores cannot be added to the others'."""
    if answer.reply is None:
        return answer
    reply = answer.reply
    scores = (reply.test, reply.external) if isinstance(reply, EvaluateTestReply) else (reply.validation,)
    try:
        for arrays in scores:
            scoring.unpack(arrays, task, config)
    except ValueError as error:
        return Answer(answer.site, None, f"{UNREADABLE}: {error}")
    return answer
