"""The exchange with sites that are added up: each question of a study, plainly or with secure aggregation."""

from __future__ import annotations

import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from flwr.app import RecordDict
from flwr.serverapp import Grid

from server.study.exchange import Answer, ask, connected
from server.study.joining import ask_until_answered, wait_until_here
from server.study.secure_aggregation.members import ENROL
from server.study.secure_aggregation.spooled_message import SpooledMessage
from server.study.secure_aggregation.summed_reply import reply_of
from server.study.secure_aggregation.summing import ANSWER, NoSumError, SecureAggregation
from server.study.weights.spool import Spool
from shared_models.messages import (
    EVALUATE_TEST,
    EVALUATE_VALIDATION,
    TRAIN,
    ConfirmRequest,
    DealRequest,
    EnrolRequest,
    JoinSum,
    MaskedReply,
    OpenRequest,
    PrepareReply,
    PrepareRequest,
    Reply,
    Request,
    TrainRequest,
)
from shared_models.messages.secure import MASKED
from shared_models.secure_aggregation.choice import uses_secure_aggregation
from shared_models.secure_aggregation.groups import participants
from shared_models.secure_aggregation.study import question_of, terms_of
from shared_models.secure_aggregation.wire import CONTROL, Message
from shared_models.study_settings import StudySettings

log = logging.getLogger("server")
R = TypeVar("R", bound=Reply)
REQUESTS: Mapping[str, Any] = {
    "enrol": EnrolRequest,
    "deal": DealRequest,
    "confirm": ConfirmRequest,
    "open": OpenRequest,
}


def exchange(
    grid: Grid,
    sites: Sequence[str],
    request: Request[R],
    config: StudySettings,
    group: str = "",
    on_arrival: Callable[[R], R] = lambda reply: reply,
) -> tuple[list[Answer[R]], list[Answer[R]]]:
    """Asks each site, and returns the answers, and what of them may be added up.

    That is each answer, or with secure aggregation one answer that stands for its `members`: weights are their mean,
    statistics their sum. There is none where too few sites are left. What may be large of each site's own answer is
    given to `on_arrival` as it comes, which returns what is needed of it later.
    """
    if not uses_secure_aggregation(config):
        contents, unpack = dict.fromkeys(sites, request.pack()), request.reply_kind.unpack
        answers = ask(grid, contents, request.KIND, lambda content: on_arrival(unpack(content)), config, group)
        return answers, answers
    return _sums_of(grid, config).exchange(sites, request, group)


def first_exchange(
    grid: Grid, config: StudySettings, deadline: float
) -> tuple[list[Answer[PrepareReply]], list[Answer[PrepareReply]]]:
    """The study's first question, as `exchange`: to all that are connected or named, of whom the late are waited for.

    With secure aggregation those are waited for that have not enrolled, which spends nothing: the next exchange settles
    for the whole study who takes part.

    Args:
        grid: The way to the sites.
        config: The study.
        deadline: Until when, on the monotonic clock.
    """
    sites, request = sorted({*connected(grid), *config.expected_sites}), PrepareRequest()
    if uses_secure_aggregation(config):
        sums = _sums_of(grid, config)
        sums.deadline = deadline
        return sums.exchange(sites, request, "")
    answers = ask_until_answered(lambda some: exchange(grid, some, request, config)[0], grid, sites, config, deadline)
    return answers, answers


def continue_with(grid: Grid, config: StudySettings, enrolled: Collection[str]) -> None:
    """Has a run that resumes enrol all sites of the study, also those of which the next question asks nothing.

    Where hospitals approved other settings than the run before had, they hold no roster of it.
    """
    if uses_secure_aggregation(config):
        sums = _sums_of(grid, config)
        sums.enrolled, sums.deadline = enrolled, time.monotonic() + config.join_timeout_s


@dataclass
class StudySums:
    """The secure aggregation of one run: its way to the sites, and what it has learned of them.

    Attributes:
        grid: The way.
        config: The study.
        sums: The protocol.
        unverified: Sites that do not have all others' public keys from themselves.
        deadline: Until when sites that have not enrolled are waited for, before the first question.
        enrolled: Sites of the study, where the run resumes it.
    """

    grid: Grid
    config: StudySettings
    sums: SecureAggregation = field(init=False)
    unverified: set[str] = field(default_factory=set)
    deadline: float = 0.0
    enrolled: Collection[str] = ()
    _attempts: Counter[tuple[str, int]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.sums = SUMS.get()(terms_of(self.config), secrets.token_hex(16))

    def exchange(
        self, sites: Sequence[str], request: Request[R], group: str
    ) -> tuple[list[Answer[R]], list[Answer[R]]]:
        """See `exchange`; the study itself asks again in a round, and this for the others.

        Who took part and went away is waited for before each attempt, within `join-timeout-s` in all: a sum is over the
        same sites each time. Where no sum of test patients can ever be, as of a site that alone was left out of
        training, each still shows what it would beside one.
        """
        own: dict[str, Answer[R]] = {}
        members, deadline = self.sums.members, time.monotonic() + self.config.join_timeout_s
        again = not isinstance(request, TrainRequest)
        if request.KIND == EVALUATE_TEST and members.roster and not members.can_be_summed(request.KIND):
            self._wait_for_members(sites, deadline)
            self._ask_question({}, sites, request, 1, group, own)
            log.info("%s: too few sites to be added up; each shows its own metrics", request.KIND)
            return self._answers(sites, own, ()), []
        for _ in range(self.config.round_attempts if again else 1):
            if again and not isinstance(request, PrepareRequest):
                self._wait_for_members(sites, deadline)
            try:
                total = self._sum(sites, request, group, own)
            except NoSumError as error:
                log.warning("%s: no sum: %s", request.KIND, error)
                why = f"there is no sum: {error}"
            else:
                return self._answers(sites, own, total.members), [total]
        return self._answers(sites, own, (), why), []

    def _wait_for_members(self, sites: Sequence[str], deadline: float) -> None:
        """Waits for those of the sites that can be in a sum: once there is a roster, for nobody beside it."""
        members = self.sums.members
        wait_until_here(self.grid, set(sites) & set(members.node_keys or sites) - set(members.excluded), deadline)

    def _answers(
        self, sites: Sequence[str], own: Mapping[str, Answer[R]], members: Collection[str], why: str = "not asked"
    ) -> list[Answer[R]]:
        """Each site's own answer; none of one whose numbers should be in the sum and are not."""
        problems = self.sums.problems
        for site in sorted(set(members) & set(problems)):
            log.warning("%s, whose numbers are in the sum all the same: %s", site, problems[site])
        return [
            own[site]
            if site in own and (site in members or site not in problems)
            else Answer(site, None, problems.get(site, why))
            for site in sites
        ]

    def _sum(self, sites: Sequence[str], request: Request[R], group: str, own: dict[str, Answer[R]]) -> Answer[R]:
        """The sum as one answer; what each site shows of itself goes to `own`."""
        self._attempts[request.KIND, request.round] += 1
        question = question_of(request, self._attempts[request.KIND, request.round])
        members = self.sums.members

        def ask_sites(step: str, messages: dict[str, Message]) -> dict[str, Message | str]:
            if step == ANSWER:
                return self._ask_question(messages, sites, request, question.attempt, group, own)
            first = isinstance(request, PrepareRequest) or not members.roster
            return self._ask(step, messages, patient=step == ENROL and first)

        least = self.config.min_sites if isinstance(request, PrepareRequest | TrainRequest) else 0
        reachable = sites if members.roster else {*sites, *self.enrolled}
        opened = self.sums.add_up(question, reachable, ask_sites, self._following(request), least)
        try:
            return reply_of(opened, request)
        except (KeyError, TypeError, ValueError) as error:
            raise NoSumError(str(error)) from None

    def _ask(self, step: str, messages: Mapping[str, Message], patient: bool) -> dict[str, Message | str]:
        kind = REQUESTS[step]

        def ask_some(sites: Collection[str]) -> list[Answer[Any]]:
            contents = {site: kind(content=messages[site][CONTROL]).pack() for site in sites}
            return ask(self.grid, contents, kind.KIND, kind.REPLY.unpack, self.config)

        replies: dict[str, Message | str] = {}
        for answer in (
            ask_until_answered(ask_some, self.grid, messages, self.config, self.deadline)
            if patient
            else ask_some(messages)
        ):
            replies[answer.site] = answer.problem if answer.reply is None else {CONTROL: answer.reply.content}
            if not getattr(answer.reply, "verified", True):
                self.unverified.add(answer.site)
        return replies

    def _ask_question(
        self,
        messages: Mapping[str, Message],
        sites: Sequence[str],
        request: Request[R],
        attempt: int,
        group: str,
        own: dict[str, Answer[R]],
    ) -> dict[str, Message | str]:
        """Asks those who are added up, and plainly those who have nothing to add, for what they show of themselves."""
        question = request.pack()
        contents = {
            site: JoinSum(content=message[CONTROL], attempt=attempt).pack_with(question)
            for site, message in messages.items()
        }
        if not isinstance(request, TrainRequest):
            contents |= dict.fromkeys(self._bystanders(sites, request), question)
        masked: dict[str, Message | str] = {}
        read = _reader(request, Spool(Path(self.config.results_dir) / self.config.study))
        for answer in ask(self.grid, contents, request.KIND, read, self.config, group):
            site, reply, problem = answer.site, answer.reply, answer.problem
            if reply is None or isinstance(reply, MaskedReply) != (site in messages):
                reply, problem = None, problem or "its answer is not of the form that was asked for"
            if isinstance(reply, MaskedReply):
                own[site], masked[site] = Answer(site, reply.shown), reply.message
            elif site in messages:
                masked[site] = problem
            else:
                own[site] = Answer(site, reply, "" if reply else problem)
        return masked

    def _bystanders(self, sites: Sequence[str], request: Request[R]) -> list[str]:
        """Sites of the study that have nothing to add to a kind of question."""
        members = self.sums.members
        adding = participants(request.KIND, members.roster) if members.can_be_summed(request.KIND) else ()
        return [site for site in sites if site in members.node_keys and site not in adding]

    def _following(self, request: Request[R]) -> str:
        """The kind of question that comes next, if all goes well."""
        if isinstance(request, PrepareRequest | TrainRequest):
            return TRAIN if request.round < self.config.rounds else EVALUATE_VALIDATION
        return EVALUATE_TEST if request.KIND == EVALUATE_VALIDATION else ""


SUMS: ContextVar[type[SecureAggregation]] = ContextVar("sums", default=SecureAggregation)
"""The protocol. A simulation of many sites does without masks, see `client/secure_aggregation.py`."""
# A grid is one run's way to its sites, and its secure aggregation goes with it.
_RUNS: WeakKeyDictionary[Grid, StudySums] = WeakKeyDictionary()


def _sums_of(grid: Grid, config: StudySettings) -> StudySums:
    sums = _RUNS.get(grid)
    if sums is None or sums.config != config:
        sums = _RUNS[grid] = StudySums(grid, config)
    return sums


def unverified_sites(grid: Grid) -> list[str]:
    """Sites that took part in secure aggregation without all others' public keys from themselves."""
    sums = _RUNS.get(grid)
    return sorted(sums.unverified) if sums else []


def _reader(request: Request[R], spool: Spool) -> Callable[[RecordDict], MaskedReply[R] | R]:
    """What is made of an answer as it comes: masked numbers go to the spool."""

    def read(content: RecordDict) -> MaskedReply[R] | R:
        kind = request.reply_kind
        if MASKED not in content:
            return kind.unpack(content)
        reply = MaskedReply.unpack(content, kind)
        return replace(reply, message=SpooledMessage(reply.message, spool))

    return read
