"""Questions that wait: whoever does not answer one is asked again within `join-timeout-s`, and no other site is.

Each question that a hospital answers is spent of what it approved (client/governance/budget.py). So a hospital that is
late must not cost the others their answers.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from flwr.serverapp import Grid

from server.study.exchange import FLOWER_ERROR, NOT_CONNECTED, POLL_S, Answer, connected
from server.study.progress import progress_of
from shared_models.agreed import NOT_APPROVED, OTHERWISE_APPROVED
from shared_models.study_settings import StudySettings

log = logging.getLogger("server")
R = TypeVar("R")

LONGEST_WAIT_S = 30.0  # between two requests to the same site


def ask_until_answered(
    ask_some: Callable[[Sequence[str]], Sequence[Answer[R]]],
    grid: Grid,
    sites: Collection[str],
    config: StudySettings,
    deadline: float,
    awaited: Collection[str] | None = None,
) -> list[Answer[R]]:
    """Asks each site once it is there, and those again that have not answered, at growing intervals.

    A site that has not approved the study is waited for as one that is not connected; one that fails otherwise is asked
    `round-attempts` times.

    Args:
        ask_some: Asks some sites, once.
        grid: The way to them.
        sites: To ask.
        config: The study.
        deadline: On the monotonic clock; every site that is connected is asked once even after it.
        awaited: The sites to wait for; by default those that the study names, or any `min-sites` where it names none.
    """
    awaited = config.expected_sites if awaited is None else awaited
    answers: dict[str, Answer[R]] = {site: Answer(site, None, NOT_CONNECTED) for site in sites}
    tries: Counter[str] = Counter()
    due = dict.fromkeys(sites, -math.inf)
    announced: list[str] = []
    while True:
        here, now = connected(grid), time.monotonic()
        progress_of(grid).here(here, sites)
        waiting = _waited_for(answers, tries, config, awaited, here)
        if asked := sorted(s for s in here if due.get(s, math.inf) <= now and (s in waiting or not tries[s])):
            tries.update(asked)
            answers |= {answer.site: answer for answer in ask_some(asked)}
            due |= {site: time.monotonic() + min(POLL_S * 2 ** tries[site], LONGEST_WAIT_S) for site in asked}
            waiting = _waited_for(answers, tries, config, awaited, here)
        if not waiting or time.monotonic() >= deadline:
            return list(answers.values())
        if waiting != announced:
            log.info("waiting for %s", "; ".join(f"{site}: {answers[site].problem}" for site in waiting))
            announced = waiting
        time.sleep(POLL_S)


def wait_until_here(grid: Grid, sites: Collection[str], deadline: float) -> None:
    """Waits until all sites are connected, or the deadline on the monotonic clock."""
    announced: set[str] = set()
    while (away := set(sites) - set(connected(grid))) and time.monotonic() < deadline:
        if away != announced:
            log.info("waiting for %s", ", ".join(sorted(away)))
            announced = away
        time.sleep(POLL_S)


def _waited_for(
    answers: dict[str, Answer[R]],
    tries: Counter[str],
    config: StudySettings,
    awaited: Collection[str],
    here: Collection[str],
) -> list[str]:
    """The sites that have not answered, should, and may yet.

    A question that was lost on its way to a site that is here is asked again, however many have answered.
    """
    silent = {site: answer.problem for site, answer in answers.items() if answer.reply is None}
    least = max(config.min_sites, config.required_sites)
    if not awaited and len(answers) - len(silent) >= least:
        silent = {
            site: problem for site, problem in silent.items() if site in here and problem.startswith(FLOWER_ERROR)
        }
    return [
        site
        for site, problem in silent.items()
        if (not awaited or site in awaited)
        and (tries[site] < config.round_attempts or problem.startswith((NOT_APPROVED, OTHERWISE_APPROVED)))
    ]
