"""The exchange with the sites of a study, by name, through Flower's grid: who is there, ask, answer."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_utils import ObjectPushError

from server.errors import ExitCode
from server.study.audit import note, received, sent
from server.study.progress import progress_of
from shared_models.errors import UserError
from shared_models.folds import fold_of
from shared_models.messages import from_release, in_fold
from shared_models.study_settings import StudySettings

log = logging.getLogger("server")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

POLL_S = 1.0
SEND_ATTEMPTS = 3
NOT_CONNECTED, NO_ANSWER, FLOWER_ERROR = "not connected", "no answer", "Flower error"
UNREADABLE = "the reply cannot be read"
# How Flower 1.41 sends an exception: "<class 'RuntimeError'>:<'the text'>".
_FLOWER_REASON = re.compile(r"^<class '[^']*'>:<'(?P<text>.*)'>$", re.DOTALL)


class StudyError(UserError):
    """The study cannot continue; the message says what happened at which site, and what to do."""

    default_exit_code = ExitCode.RUN_FAILED


@dataclass(frozen=True)
class Answer(Generic[R_co]):
    """What one site sent back, or why nothing that can be used came.

    Attributes:
        site: The site's name.
        reply: Its reply, or None.
        problem: Why there is none; empty when there is one.
        members: The sites that a sum is over; empty for one site's own answer.
        patients_by_modality: Training patients behind a sum of weights, by modality.
    """

    site: str
    reply: R_co | None
    problem: str = ""
    members: tuple[str, ...] = ()
    patients_by_modality: Mapping[str, float] = field(default_factory=dict)


def connected(grid: Grid) -> dict[str, int]:
    """Site name to node for every site that is there now. The name is the one its key was registered under."""
    return {node.name or f"node-{node.node_id}": node.node_id for node in grid.get_nodes()}


def wait_for_sites(grid: Grid, config: StudySettings) -> list[str]:
    """Waits for the study's sites and returns those that came.

    Without named sites it takes whoever is there once `min_sites` are; with names it waits for all of them, and
    at the time-out continues if `min_sites` are there, and as many as `require_sites` asks for.

    Raises:
        StudyError: If too few came in time.
    """
    deadline = time.monotonic() + config.join_timeout_s
    announced: tuple[str, ...] | None = None
    while True:
        here = connected(grid)
        progress_of(grid).here(here, config.expected_sites)
        names = sorted(n for n in here if not config.expected_sites or n in config.expected_sites)
        missing = tuple(sorted(set(config.expected_sites) - set(names)))
        least = max(config.min_sites, config.required_sites)
        enough = len(names) >= least
        late = time.monotonic() >= deadline
        if enough and (late or not missing):
            if missing:
                log.warning("continuing without %s, after %.0f s", ", ".join(missing), config.join_timeout_s)
            return names
        if late:
            break
        if missing != announced:
            log.info("%d sites are here, waiting for %s", len(names), ", ".join(missing) or "more")
            announced = missing
        time.sleep(POLL_S)
    msg = (
        f"only {len(names)} of at least {least} sites came within {config.join_timeout_s:.0f} s "
        f"({', '.join(names) or 'none'}); missing: {', '.join(missing) or 'any others'}. "
        "Ask them to start `python -m client --site NAME`, or correct `sites`; then run the study again."
    )
    raise StudyError(msg)


def ask(
    grid: Grid,
    contents: Mapping[str, RecordDict],
    message_type: str,
    read: Callable[[RecordDict], R],
    config: StudySettings,
    group: str = "",
) -> list[Answer[R]]:
    """Sends one request to each site and returns an answer for each, in the order of `contents`.

    Each reply is read when it is there, and nothing of it is held but what `read` makes of it.

    Args:
        grid: The way to the sites.
        contents: The request to each of them, by name.
        message_type: Flower's.
        read: Checks a reply and makes a dataclass of it, or raises ValueError.
        config: The study.
        group: What Flower names the messages by, beside the run.
    """
    here, timeout_s = connected(grid), config.round_timeout_s
    contents, group = _stamped(contents, config), _group_id(group, config)
    reached = {site: content for site, content in contents.items() if site in here}
    messages = [
        Message(content, dst_node_id=here[site], message_type=message_type, group_id=group, ttl=timeout_s)
        for site, content in reached.items()
    ]
    silent = f"{NO_ANSWER} in {timeout_s:.0f} s"
    answers: dict[str, Answer[R]] = {
        site: Answer(site, None, silent if site in reached else NOT_CONNECTED) for site in contents
    }
    folder = Path(config.results_dir) / config.study
    note(folder, *sent(config.study, reached, message_type))
    progress = progress_of(grid)
    progress.here(here, contents)
    progress.asked(reached, message_type)
    noted: dict[str, dict[str, Any]] = {}
    asked_at, names = time.time(), {node: site for site, node in here.items()}
    for reply in _send_and_receive(grid, messages, timeout_s) if messages else ():
        if (site := _site_of(reply, names, messages)) in reached:
            progress.heard(site, asked_at, reply.metadata.created_at)
            own = _answer(site, reply)
            noted[site] = received(config.study, site, message_type, contents[site], own.reply, own.problem)
            answers[site] = _read(own, read)
    for site in set(contents) - set(noted):
        noted[site] = received(config.study, site, message_type, contents[site], None, answers[site].problem)
    progress.failed({site: answer.problem for site, answer in answers.items() if answer.reply is None})
    note(folder, *(noted[site] for site in contents))
    return [*answers.values()]


def _stamped(contents: Mapping[str, RecordDict], config: StudySettings) -> dict[str, RecordDict]:
    """The requests with the release and the fold; what several sites share is stamped once."""
    stamped = {id(content): from_release(in_fold(content, config), config) for content in contents.values()}
    return {site: stamped[id(content)] for site, content in contents.items()}


def _group_id(group: str, config: StudySettings) -> str:
    fold = fold_of(config)
    return f"{fold.label}/{group}" if fold else group


def _site_of(reply: Message, names: Mapping[int, str], messages: Sequence[Message]) -> str | None:
    """Whose reply it is.

    The SuperLink sets a reply's source, the site cannot; an error that the SuperLink makes itself names only the
    message it answers. A message has its identifier once it is sent.
    """
    if site := names.get(reply.metadata.src_node_id):
        return site
    answered = reply.metadata.reply_to_message_id
    return next((names[one.metadata.dst_node_id] for one in messages if one.metadata.message_id == answered), None)


def _read(answer: Answer[RecordDict], read: Callable[[RecordDict], R]) -> Answer[R]:
    if answer.reply is None:
        return Answer(answer.site, None, answer.problem)
    try:
        return Answer(answer.site, read(answer.reply))
    except ValueError as error:
        return Answer(answer.site, None, f"{UNREADABLE}: {error}")


def _send_and_receive(grid: Grid, messages: Sequence[Message], timeout_s: float) -> Iterator[Message]:
    """Sends the messages, again if the SuperLink went away while it was taking them, and gives the replies.

    A grid of ours gives each reply when it is there; another one all of them together.

    A SuperLink that is killed after it stored a part of a message and before it said so refuses that part when
    Flower 1.41 repeats it. The same messages keep their identifiers, so sending them again sends what is missing,
    and no site is asked twice.
    """
    for attempt in range(1, SEND_ATTEMPTS + 1):
        try:
            yield from grid.send_and_receive(messages, timeout=timeout_s)
        except ObjectPushError as error:
            log.warning("the SuperLink lost a part of the request (%d of %d): %s", attempt, SEND_ATTEMPTS, error)
            time.sleep(POLL_S)
        else:
            return


def _answer(site: str, reply: Message) -> Answer[RecordDict]:
    if reply.has_error():
        reason = reply.error.reason or ""
        match = _FLOWER_REASON.match(reason)
        return Answer(site, None, match["text"] if match else f"{FLOWER_ERROR} {reply.error.code}: {reason}")
    return Answer(site, reply.content)


def log_problems(
    answers: Sequence[Answer[object]], config: StudySettings, rejected: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Logs every site that gave nothing usable, and returns why by site; what was rejected is noted, too."""
    unusable = {answer.site: answer.problem for answer in answers if answer.problem.startswith(UNREADABLE)}
    unusable |= rejected or {}
    lines = [{"event": "rejected", "site": site, "study": config.study, "why": why} for site, why in unusable.items()]
    note(Path(config.results_dir) / config.study, *lines)
    problems = {answer.site: answer.problem for answer in answers if answer.reply is None} | unusable
    for site, problem in problems.items():
        log.warning("%s: %s", site, problem)
    return problems
