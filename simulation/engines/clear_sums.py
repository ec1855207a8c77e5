"""Secure sums of a simulation of many sites, without masks: the sums of the protocol at a cost that is linear in sites.

In the protocol each site checks every other one's keys, deals and signatures, which is right for a hospital, and takes
one process that plays a hundred of them minutes a sum. Here sites enrol as ever, and answer with the same numbers in
fixed point, of the same groups with as many members; they are not masked, so no keys are dealt and no sum has to be
opened.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from functools import reduce
from typing import Any

from client.governance.secure_aggregation.exchanges import Contribute, Reply
from client.governance.secure_aggregation.sum_session import Session, Site
from client.secure_aggregation import ANSWER_IN_SUM
from server.study.secure_aggregation.members import ANSWER, Ask, NoSumError, require_quorum
from server.study.secure_aggregation.replies import Masked
from server.study.secure_aggregation.secure_exchange import SUMS
from server.study.secure_aggregation.summing import Opened, SecureAggregation
from shared_models.secure_aggregation import wire
from shared_models.secure_aggregation.choice import uses_secure_aggregation
from shared_models.secure_aggregation.encoding import Block
from shared_models.secure_aggregation.groups import groups_of, participants
from shared_models.secure_aggregation.layout import Layout
from shared_models.secure_aggregation.membership import make_view, require, surviving
from shared_models.secure_aggregation.question import Question
from shared_models.secure_aggregation.statements import Keys
from shared_models.secure_aggregation.wire import Message
from shared_models.study_settings import StudySettings

FEW = 20
"""So many sites still run the protocol itself in a simulation."""


def uses_clear_sums(config: StudySettings, sites: Collection[str]) -> bool:
    """Whether a simulation of these sites does without masks.

    SCAFFOLD goes by each site's own record of the sums that it is in, which only the protocol writes.
    """
    return len(sites) > FEW and config.strategy != "scaffold" and uses_secure_aggregation(config)


@contextlib.contextmanager
def clear_sums() -> Iterator[None]:
    """Both halves without masks, in this process and meanwhile."""
    answers, sums = ANSWER_IN_SUM.set(answer), SUMS.set(ClearSums)
    try:
        yield
    finally:
        ANSWER_IN_SUM.reset(answers)
        SUMS.reset(sums)


def answer(site: Site, session: Session, request: Message, question: Question, contribute: Contribute) -> Reply:
    """A site's numbers of the groups that are added up, as they are."""
    del session
    summed = wire.names(wire.unpack(request, "groups")["groups"])
    own = sorted(groups_of(question.kind, site.facts) & set(summed))
    contribution = contribute(summed)
    blocks = {group: contribution.block(group, site.terms).pack() for group in own}
    facts: dict[str, Any] = {"exchange": ANSWER, "kind": question.kind, "round": question.round, "groups": own}
    altered = contribution.altered(site.terms)
    return wire.pack({"layout": contribution.layout.to_json()}, blocks), facts | {"masked": False, "altered": altered}


class ClearSums(SecureAggregation):
    """The secure sums of one run, without masks."""

    def add_up(self, question: Question, sites: Collection[str], ask: Ask, then: str = "", least: int = 0) -> Opened:
        """See `SecureAggregation.add_up`; no keys are dealt for what comes `then`."""
        members, kind = self.members, question.kind
        self.begin(question)
        reachable = set(sites) - set(members.problems)
        if not members.roster:
            members.enrol(reachable, ask)
        present = sorted(reachable & set(participants(kind, members.roster)))
        nobodys = Keys(self.terms.approval, self.run, 1, "", "", "", {})
        view = make_view([nobodys], members.roster, members.quorum(kind), question, dict.fromkeys(present, ""))
        message = wire.pack({"groups": list(view.groups)})
        answers = members.ask(ask, ANSWER, dict.fromkeys(present, message), lambda _, reply: _read(reply))
        require_quorum(answers, members.quorum(kind))
        if len(answers) < least:
            msg = f"{len(answers)} sites answered, the study needs {least}"
            raise NoSumError(msg)
        survivors = self.survivors(view, answers)
        blocks = {
            group: reduce(Block.plus, (answers[name].block(group) for name in names))
            for group, names in surviving(view, survivors.sites).items()
        }
        return Opened(view, survivors, next(iter(answers.values())).layout, blocks)


def _read(message: Message) -> Masked:
    layout = Layout.read(wire.unpack(message, "layout", blocks=True)["layout"])
    sizes = wire.block_sizes(message)
    whole = all(size == Block.size(*layout.sizes(group)) for group, size in sizes.items())
    require(whole, "a block has not the length that its layout says")
    return Masked("", (), layout, None, sizes, message)
