"""The gate: what every message passes at a hospital, in this order, before anything of a patient may leave.

The center is not trusted with more than the hospital approved: it may be mistaken, or hostile. Nothing of a patient is
read before the study is approved with these very settings, the request is well-formed and bounded, and answering it is
within what was approved. A request that cannot be read is refused by what the center sent alone.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from flwr.app import Context, Message, RecordDict

from client.admission import AdmittedStudy, admit, open_site
from client.errors import ExitCode, SiteError
from client.governance.audit import record_refused, record_sent
from client.governance.budget import spend, trained_in
from client.governance.disclosure import disclose
from client.governance.policy_checks import check_policy
from client.governance.same_data import require_same_data
from client.secure_aggregation import answer as answer_in_sum
from client.secure_aggregation import show
from client.session import Received, StudySession, fingerprints_of, open_session, receive
from shared_models.comparison import settings_compared
from shared_models.errors import UserError
from shared_models.messages import (
    EvaluateComparisonRequest,
    EvaluateExternalRequest,
    FromRelease,
    InFold,
    JoinSum,
    ModelRequest,
    Payload,
    Reply,
    Request,
    TrainRequest,
    claimed_round,
    differ,
    release_of,
)
from shared_models.messages.parts import Parts
from shared_models.secure_aggregation.choice import uses_secure_aggregation
from shared_models.task import load_task

log = logging.getLogger("client")
Q = TypeVar("Q", bound=Request[Any])
Handler = Callable[[StudySession, Q], Payload]
UNEXPECTED = "unexpected error at the site; the site's own log has the details"


def answers(kind: type[Q]) -> Callable[[Handler[Q]], Callable[[Message, Context], Message]]:
    """Puts the gate before and behind a handler of one kind of request."""
    of_patients = issubclass(kind.REPLY, Reply)

    def guard(handler: Handler[Q]) -> Callable[[Message, Context], Message]:
        @functools.wraps(handler)
        def handle(message: Message, context: Context) -> Message:
            content = message.content if message.has_content() else RecordDict()
            try:
                study = admit(context)  # approved with these very settings, and allowed by the policy
                study, request, received, joining = read_request(study, kind, content)  # well-formed, bounded, its own
                if of_patients:
                    require_expected(study, request)  # of a round and a kind that the approval covers
                    spend(study.site, study.config, request)  # counted, whether it will be answered or fail
                session = open_session(study, received)  # from here on, patients are read
                if of_patients:
                    require_same_data(study.site, study.config, *fingerprints_of(study))  # else differences tell
                work = functools.partial(work_on, handler, request)
                if joining:
                    answer = answer_in_sum(session, joining, request, work)  # with whom it may be added up, masked
                elif of_patients and uses_secure_aggregation(study.config):
                    answer = show(session, request, work)  # nothing that is added up
                else:
                    answer = work(session).pack()
                record_sent(study.site, study.config.study, request, answer)  # what cannot be noted does not leave
                return Message(answer, reply_to=message)
            except Exception as error:
                refuse(context, kind, content, error)

        return handle

    return guard


def work_on(handler: Handler[Q], request: Q, session: StudySession) -> Any:
    """A handler's reply as it may leave: small cells stay."""
    summed = uses_secure_aggregation(session.config)
    return disclose(handler(session, request), session.task, session.config, session.site.policy, summed=summed)


def read_request(
    study: AdmittedStudy, kind: type[Q], content: RecordDict
) -> tuple[AdmittedStudy, Q, Received, JoinSum | None]:
    """The fold of the study that the center asks of, what it asks and brings, and which secure sum the reply is for.

    Raises:
        SiteError: If anything is missing, too much, of another type or shape, out of its bounds or not finite.
    """
    try:
        parts = Parts.of(content)
        require_same_release(study, FromRelease.read_if_there(parts))
        study = study.in_fold(InFold.read_if_there(parts))
        request = kind.read_from(parts)
        if isinstance(request, ModelRequest):
            study = study.counting_in(request.score_ranges)
        summed = uses_secure_aggregation(study.config) and issubclass(kind.REPLY, Reply)
        joining = JoinSum.read_if_there(parts) if summed else None
        parts.require_nothing_left()
        return study, request, receive(study, request), joining
    except ValueError as error:
        raise SiteError(
            what="the center's request cannot be read",
            where=f"study {study.config.study}, {kind.KIND}",
            found=str(error),
            expected="what shared_models/messages says of it",
            fix="nothing: the study continues; if it happens again, compare this package's version with the center's",
            public=f"the request cannot be read: {error}",
            exit_code=ExitCode.STUDY,
        ) from None


def require_same_release(study: AdmittedStudy, centers: str) -> None:
    """Refuses a center whose messages or task are not this site's, before anything else of its request is read.

    Raises:
        SiteError: If so; both sides learn both releases.
    """
    if not centers:
        return
    own, theirs = release_of(study.config), centers.encode("unicode_escape").decode()
    if differ(own, centers):
        raise SiteError(
            what="this site and the center run releases that do not fit together",
            where=f"study {study.config.study}",
            found=f"here {own}; at the center {theirs}",
            expected="the same messages and the same task",
            fix="install the same release at both, and start this site again",
            public=f"the releases do not fit together: the site runs {own}, the center {theirs}; install the "
            "same release at both",
            exit_code=ExitCode.STUDY,
        )
    if own != centers:
        log.warning("the center runs another version, whose messages and task are the same: %s", theirs)


def require_expected(study: AdmittedStudy, request: Request[Any]) -> None:
    """Refuses a round beyond the approved ones, and to train where this site only validates, whatever the center asks.

    Raises:
        SiteError: If so.
    """
    if isinstance(request, ModelRequest) and request.round > study.config.rounds:
        _unexpected(study, request, f"at most {study.config.rounds} rounds", "the study has no such round")
    if isinstance(request, EvaluateExternalRequest) or study.config.validates:
        require_validation(study, request)
    if study.config.canary and isinstance(request, ModelRequest) and not _is_first_round(request):
        _unexpected(study, request, "what comes before round 1, and round 1", "a canary has one round and no test")
    if isinstance(request, EvaluateComparisonRequest) or study.config.compares:
        require_comparison(study, request)
    if isinstance(request, TrainRequest) and not study.trains:
        expected = "`role: train` in the site's settings, and no mention in evaluation-only-sites"
        _unexpected(study, request, expected, "the site only validates")


def _is_first_round(request: Request[Any]) -> bool:
    return isinstance(request, TrainRequest) and request.round == 1


def require_validation(study: AdmittedStudy, request: Request[Any]) -> None:
    """Refuses all but the validation that was approved: of that very network, at a site that did not train it.

    Raises:
        SiteError: If so.
    """
    config = study.config
    if not isinstance(request, EvaluateExternalRequest) or not config.validates:
        _unexpected(study, request, "an external validation and nothing else, or none", "it is no such study")
    if request.question != config.validates_sha256:
        expected = f"the network with SHA-256 {config.validates_sha256[:16]}..."
        _unexpected(study, request, expected, "the network is not the one that the site approved")
    if study.trains:
        _unexpected(study, request, f"{study.site.site} among evaluation-only-sites", "the site would not score all")
    if trained_in(study.site, config.validates):
        expected = f"a site that did not train in {config.validates}"
        _unexpected(study, request, expected, "the site trained in that study: its patients are not external")


def require_comparison(study: AdmittedStudy, request: Request[Any]) -> None:
    """Refuses all but the comparison that was approved, of those very networks, with what the policy allows of both.

    Raises:
        SiteError: If so.
        SettingsError: If the second network's settings cannot be used.
    """
    config = study.config
    if not isinstance(request, EvaluateComparisonRequest) or not config.compares:
        _unexpected(study, request, "a comparison of two networks and nothing else, or none", "it is no such study")
    if request.question != config.compares_sha256:
        expected = f"the networks with SHA-256 {config.compares_sha256[:16]}... together"
        _unexpected(study, request, expected, "the networks are not those that the site approved")
    for one in settings_compared(config):
        check_policy(study.site, one, load_task(one))


def _unexpected(study: AdmittedStudy, request: Request[Any], expected: str, public: str) -> NoReturn:
    raise SiteError(
        what="the center asks for what this site has not agreed to",
        where=f"study {study.config.study}",
        found=f"{request.KIND} of round {request.round}",
        expected=expected,
        fix="nothing: the study continues; ask the center if it happens again",
        public=public,
        exit_code=ExitCode.STUDY,
    )


def refuse(context: Context, kind: type[Request[Any]], content: RecordDict, error: Exception) -> NoReturn:
    """Keeps an error at the site: its log has all of it, the audit log and the center get a sentence.

    Flower sends an exception's text to the center, and a text may hold a file name or an identifier.

    Raises:
        RuntimeError: Always, with that sentence.
    """
    if isinstance(error, UserError):
        log.error("%s", error)
        public = error.public
    else:
        log.error("unexpected error", exc_info=error)
        public = UNEXPECTED
    try:
        study = str(context.run_config.get("study", ""))
        record_refused(open_site(context), study, kind.KIND, claimed_round(content), public)
    except Exception as unnoted:  # refused all the same, and no text but `public` reaches Flower
        log.error("%s", unnoted)
    raise RuntimeError(public) from None
