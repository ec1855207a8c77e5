"""A site's part in secure aggregation: the protocol's exchanges, between the study's messages and the site's records.

What the site must remember between messages lies in Flower's context: in its SuperNode's memory, never on a disk. What
it must never do twice is on its disk (`client/governance/secure_aggregation/record.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextvars import ContextVar
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from client.errors import ExitCode, SiteError
from client.governance.audit import record_step
from client.governance.budget import sums_of
from client.governance.partners import node_key, partner_points, takes_no_others
from client.governance.secure_aggregation import exchanges
from client.governance.secure_aggregation.dealing import quorum_of
from client.governance.secure_aggregation.record import Record
from client.governance.secure_aggregation.sum_session import Session, Site
from client.session import StudySession
from shared_models.description import DESCRIBED_PARTS, is_unknown
from shared_models.messages import (
    Arrays,
    ConfirmReply,
    ConfirmRequest,
    DealReply,
    DealRequest,
    EnrolReply,
    EnrolRequest,
    JoinSum,
    MaskedReply,
    ModelRequest,
    OpenReply,
    OpenRequest,
    Reply,
    Request,
    TrainReply,
    TrainRequest,
)
from shared_models.messages.parts import VALUES
from shared_models.secure_aggregation.choice import uses_secure_aggregation
from shared_models.secure_aggregation.groups import (
    EVALUATE_TEST,
    RULE_CHANGE,
    TEST,
    TESTED,
    TRAIN,
    TRAINING,
    group_of_parameter,
    groups_of,
    learned,
    participants,
)
from shared_models.secure_aggregation.layout import LOSS, PATIENTS, STEPS, Contribution
from shared_models.secure_aggregation.question import Question
from shared_models.secure_aggregation.statements import Facts
from shared_models.secure_aggregation.study import question_of, terms_of
from shared_models.secure_aggregation.wire import CONTROL, Message, ProtocolError

MEMORY, SHOWN, SESSION = "secure-aggregation", "secure-aggregation-shown", "session"
Step = Callable[[Site, Session, Message], exchanges.Reply]
Work = Callable[[StudySession], Reply]
AnswerInSum = Callable[[Site, Session, Message, Question, exchanges.Contribute], exchanges.Reply]
ANSWER_IN_SUM: ContextVar[AnswerInSum] = ContextVar("answer in a sum", default=exchanges.answer)
"""How a site adds to a sum: masked. A simulation of many sites, which hides nothing from its own process, does without
masks (`simulation/engines/clear_sums.py`); nothing that a site reads or is sent changes it."""


def enrol(study: StudySession, request: EnrolRequest) -> EnrolReply:
    """Says who this site is, and makes keys for a sum; whatever sum was under way is forgotten."""
    return EnrolReply(content=_step(study, exchanges.enrol, request.content)[0])


def deal(study: StudySession, request: DealRequest) -> DealReply:
    """Checks who takes part, and encrypts for each of them its share of what would take this site's masks away."""
    content, verified = _step(study, exchanges.deal, request.content)
    return DealReply(content=content, verified=verified)


def confirm(study: StudySession, request: ConfirmRequest) -> ConfirmReply:
    """Agrees on whom a sum is over, and deals for the next one."""
    return ConfirmReply(content=_step(study, exchanges.confirm, request.content)[0])


def open_sum(study: StudySession, request: OpenRequest) -> OpenReply:
    """Gives the shares that open the sum on which enough sites agree."""
    return OpenReply(content=_step(study, exchanges.open_sum, request.content)[0])


def answer(study: StudySession, joining: JoinSum, request: Request[Any], work: Work) -> RecordDict:
    """Answers a question with masked numbers.

    Args:
        study: The study.
        joining: What the question holds besides.
        request: The question, as its handler finds it.
        work: The handler; it is called once, after all checks.

    Raises:
        SiteError: If the site does not take part in this sum.
    """
    question = question_of(request, joining.attempt)

    def contribute(groups: Collection[str]) -> Contribution:
        trains = isinstance(request, TrainRequest)
        reply = work(study.learning(learned(groups)) if trains else study)
        study.memory.config_records[SHOWN] = reply.without_sums().pack().config_records[VALUES]
        return _contribution(study, request, reply)

    def step(site: Site, session: Session, message: Message) -> exchanges.Reply:
        return ANSWER_IN_SUM.get()(site, session, message, question, contribute)

    message, _ = _take(study, step, joining.content)
    shown = request.reply_kind.unpack(_with_empty_arrays(study, request))
    return MaskedReply(shown, message).pack()


def last_summed(study: StudySession, server_round: int) -> dict[str, tuple[int, ...]]:
    """By modality, and for `""`, rounds before this one of which this site's part may be the last that is in a sum.

    See `Record.last_summed`; of a modality that the site has not, that is 0, for none.

    Raises:
        SiteError: If the site's record cannot be read, or the center may have hidden the end of too many rounds.
    """
    site = _site(study)
    blocks = (TRAIN, *site.facts.modalities)
    try:
        quorum = quorum_of(site, site.record.roster() or (), TRAINING)
        sets = site.terms.survivor_sets or quorum.sites
        rounds = site.record.last_summed(TRAINING, blocks, server_round, sets)
    except ProtocolError as error:
        raise _refusal(str(error)) from None
    return {name: rounds.get(name or TRAIN, (0,)) for name in ("", *study.task.modalities)}


def show(study: StudySession, request: Request[Any], work: Work) -> RecordDict:
    """Answers a question that is not summed here with what the center may see of this site, as beside a sum.

    That is one to which it has nothing to add, and the test where fewer sites have test patients than hide each other,
    as where one alone was left out of training: no sum of it can ever be, and the statistics stay.

    Raises:
        SiteError: If it has something to add: that leaves within a sum, or not at all.
    """
    if groups_of(request.KIND, _facts(study)) and not (request.KIND == EVALUATE_TEST and _too_few(study)):
        msg = "the center asks outside of secure aggregation what this study adds up"
        raise _refusal(msg)
    return work(study).without_sums().pack()


def _too_few(study: StudySession) -> bool:
    """Whether fewer sites of the roster, as each signed of itself, have test patients than a sum must be over.

    A site that has been in no sum so far has no roster: nothing but a test can be asked of it.
    """
    site = _site(study)
    try:
        roster = site.record.roster()
    except ProtocolError as error:
        raise _refusal(str(error)) from None
    return roster is None or not site.terms.hides(len(participants(EVALUATE_TEST, roster)))


def _step(study: StudySession, step: Step, content: bytes) -> tuple[bytes, bool]:
    message, facts = _take(study, step, content)
    return message[CONTROL], bool(facts.get("verified"))


def _take(study: StudySession, step: Step, content: bytes) -> tuple[Message, dict[str, Any]]:
    """One exchange: what the protocol answers, once the site's audit log has it."""
    if not uses_secure_aggregation(study.config):
        msg = "this study has no secure aggregation"
        raise _refusal(msg)
    try:
        session = _session(study)
        message, facts = step(_site(study), session, {CONTROL: content})
    except ProtocolError as error:
        raise _refusal(str(error)) from None
    record_step(study.site, study.config.study, facts)
    study.memory.config_records[MEMORY] = ConfigRecord({SESSION: session.pack()})
    return message, facts


def _session(study: StudySession) -> Session:
    if MEMORY not in study.memory.config_records:
        return Session()
    packed = study.memory.config_records[MEMORY][SESSION]
    assert isinstance(packed, bytes)
    return Session.unpack(packed)


def _site(study: StudySession) -> Site:
    site, terms = study.site, terms_of(study.config)
    partners, alone = partner_points(site), takes_no_others(site)
    if alone and not partners:
        msg = "this site takes part with verified hospitals only, and has no partners' public keys"
        raise _refusal(msg)
    record = Record(sums_of(site), terms.approval, terms.study)
    return Site(site.site, _facts(study), node_key(site), terms, record, partners, alone)


def _facts(study: StudySession) -> Facts:
    patients = _patients(study) if study.trains else {}
    modalities = sorted(name for name, count in patients.items() if count and name != TRAIN)
    parts = study.cohort.parts
    trains = patients.get(TRAIN, 0) > 0
    known = tuple(sorted({*_known(study)}))
    return Facts(trains, len(parts["validation"]) > 0, len(parts["test"]) > 0, tuple(modalities), known)


def _known(study: StudySession) -> Iterator[str]:
    """By part of the split the targets that are known of somebody, and the tables of those who are described."""
    cohort, task = study.cohort, study.task
    for part, patients in cohort.parts.items():
        yield from (f"{part}.{name}" for name in task.targets if not is_unknown(cohort.truths[name][patients]).all())
    described = np.concatenate([cohort.parts[part] for part in DESCRIBED_PARTS])
    for index, name in enumerate(task.modalities):
        if name in task.tables and cohort.count_with_modality(described, index):
            yield f"{TEST}.{name}"
        if name in task.tables and cohort.count_with_modality(cohort.parts["test"], index):
            yield f"{TEST}.{TESTED}.{name}"


def _patients(study: StudySession) -> dict[str, float]:
    """Training patients by group: all of them, and those who have each modality."""
    train = study.cohort.parts["train"]
    by_modality = {
        name: float(study.cohort.count_with_modality(train, index)) for index, name in enumerate(study.task.modalities)
    }
    return {TRAIN: float(len(train)), **by_modality}


def _contribution(study: StudySession, request: Request[Any], reply: Reply) -> Contribution:
    """What a reply adds to a sum: the change of the weights, to be weighted by the patients behind it; statistics.

    Where the aggregation rule adds a sum of its own, which is of means over a site's steps, the change is a mean over
    them, too. Else sites would weigh by their steps in one of the two sums only, and since the center knows the steps,
    it could take from one a multiple of the other in which only the sites of other steps are left: perhaps one.
    """
    fields, patients = reply.to_sum(), _patients(study)
    updates: Arrays = {}
    statistics: Arrays = {}
    if isinstance(reply, TrainReply):
        assert isinstance(request, ModelRequest)
        trained = fields.pop("model")
        updates = {name: array.astype(np.float64) - request.model[name] for name, array in trained.items()}
        statistics = {f"{PATIENTS}.{group}": np.array(count) for group, count in patients.items()}
        statistics[LOSS] = np.nan_to_num(np.array(reply.loss)) * patients[TRAIN]
        if added := fields.pop(RULE_CHANGE):
            updates = {name: change / max(reply.steps, 1) for name, change in updates.items()}
            statistics |= {f"{STEPS}.{group}": np.array(count * reply.steps) for group, count in patients.items()}
        for name, array in added.items():
            statistics[f"{RULE_CHANGE}.{name}"] = array.astype(np.float64) * patients[group_of_parameter(name)]
    for name, arrays in fields.items():
        statistics |= {f"{name}.{key}": array for key, array in arrays.items()}
    return Contribution(updates, statistics, patients)


def _with_empty_arrays(study: StudySession, request: Request[Any]) -> RecordDict:
    """What this site showed of itself when it answered, also where the same question comes twice."""
    empty = {name: ArrayRecord() for name in request.reply_kind.summed_arrays()}
    return RecordDict({VALUES: study.memory.config_records[SHOWN], **empty})


def _refusal(found: str) -> SiteError:
    return SiteError(
        what="the site does not take part in a sum",
        where="secure aggregation",
        found=found,
        expected="what docs/secure_aggregation.md says that a site checks",
        fix="nothing, if sites dropped out: the center asks again; otherwise compare the audit logs of the hospitals",
        public=f"secure aggregation refused: {found}",
        exit_code=ExitCode.STUDY,
    )
