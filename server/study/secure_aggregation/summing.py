"""A sum over sites of which the center sees nothing but the sum: the center's side, over any way to ask them.

The first sum takes five exchanges, each one after it three, while no site is lost and none is new. A site whose
part does not hold is left out by name, and the sum continues while enough are left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from server.study.secure_aggregation.members import ANSWER, CONFIRM, OPEN, Ask, Members, NoSumError, require_quorum
from server.study.secure_aggregation.opening import CheatError, Held, SharesError, open_blocks, recover
from server.study.secure_aggregation.replies import (
    Dealt,
    Envelopes,
    Masked,
    read_confirmed,
    read_shares,
)
from shared_models.secure_aggregation import wire
from shared_models.secure_aggregation.blame import Proof
from shared_models.secure_aggregation.encoding import Block
from shared_models.secure_aggregation.groups import TRAINING, participants
from shared_models.secure_aggregation.layout import Layout
from shared_models.secure_aggregation.membership import make_view, require, require_learned, surviving
from shared_models.secure_aggregation.parameters import Quorum, Terms
from shared_models.secure_aggregation.question import Question
from shared_models.secure_aggregation.signing import Signed, digest, verify
from shared_models.secure_aggregation.statements import Deal, Survivors, View
from shared_models.secure_aggregation.wire import ProtocolError

SITS_OUT = "not asked: it did not answer when a target was trained for that too few others know"

__all__ = ["ANSWER", "Ask", "NoSumError", "Opened", "SecureAggregation"]


@dataclass(frozen=True)
class Opened:
    """A sum.

    Attributes:
        view: V of those it is over.
        survivors: S.
        layout: What its numbers stand for.
        blocks: Sums of the open groups.
    """

    view: View
    survivors: Survivors
    layout: Layout
    blocks: dict[str, Block]

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """By open group, the sites whose numbers are in its sum."""
        return surviving(self.view, self.survivors.sites)


@dataclass
class SecureAggregation:
    """The secure sums of one run.

    Attributes:
        terms: What the sites approved.
        run: Of the study.
        members: Who is in them.
        proofs: Against sites that dealt wrongly.
    """

    terms: Terms
    run: str
    members: Members = field(init=False)
    proofs: list[Proof] = field(default_factory=list)
    _ahead: Dealt | None = None
    _opened: dict[tuple[str, int], frozenset[str]] = field(default_factory=dict)
    _costs: Counter[str] = field(default_factory=Counter)
    _back_in: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.members = Members(self.terms, self.run)

    @property
    def problems(self) -> Mapping[str, str]:
        """Why a site is not in the newest sum, by name."""
        return self.members.problems

    def add_up(self, question: Question, sites: Collection[str], ask: Ask, then: str = "", least: int = 0) -> Opened:
        """Asks one question of the sites and opens the sum of their answers.

        Args:
            question: As each site's handler will find it.
            sites: That can be reached.
            ask: How to; in exchange `answer`, the request goes with the question itself.
            then: The kind of the next question, for which keys are dealt on the way; empty: none.
            least: How many sites a sum must be over to be of use; with fewer, it is not opened.

        Raises:
            NoSumError: If there is no sum; another attempt may give one.
        """
        self.begin(question)
        reachable, dealt = set(sites) - set(self.members.problems), self._ahead
        self._ahead = None
        if dealt is None or not self._serves(dealt, question.kind, reachable):
            dealt = self.members.deal(question.kind, reachable, ask)
        view, layout, masked = self._answers(question, dealt, ask)
        if len(masked) < least:
            msg = f"{len(masked)} sites answered ({', '.join(sorted(masked))}), the study needs {least}"
            raise NoSumError(msg)
        survivors, signatures = self._confirm(dealt, view, masked, ask, then)
        held = self._open(dealt, signatures, ask)
        try:
            secrets = recover(view, survivors, dealt.keys, dealt.deals, held)
        except CheatError as error:
            self.proofs.append(error.proof)
            raise self.members.exclude(str(error), "it dealt shares that do not open what it promised") from None
        except SharesError as error:
            raise NoSumError(str(error)) from None
        return Opened(view, survivors, layout, open_blocks(view, survivors, dealt.keys, masked, secrets))

    def begin(self, question: Question) -> None:
        """Forgets the problems of the sum before; excluded sites stay out, and those that sit out this round."""
        sit_out = {name for name, back in self._back_in.items() if question.kind == TRAINING and question.round < back}
        self.members.problems = dict(self.members.excluded) | dict.fromkeys(sit_out, SITS_OUT)

    def _serves(self, dealt: Dealt, kind: str, reachable: set[str]) -> bool:
        """Whether what was dealt ahead does for a question: no site can answer that is not in it."""
        return dealt.kind == kind and not reachable & set(participants(kind, self.members.roster)) - set(dealt.deals)

    def _answers(self, question: Question, dealt: Dealt, ask: Ask) -> tuple[View, Layout, dict[str, Masked]]:
        """Exchange 3."""
        quorum = self.members.quorum(question.kind)
        requests = {name: dealt.request_to(name) for name in dealt.deals}
        masked = self.members.ask(ask, ANSWER, requests, lambda _, reply: Masked.read(reply))
        require_quorum(masked, quorum)
        usual = Counter(one.layout.hash(self.terms) for one in masked.values()).most_common(1)[0][0]
        layout = next(one.layout for one in masked.values() if one.layout.hash(self.terms) == usual)
        view = make_view(dealt.statements, self.members.roster, quorum, question, dealt.present, usual)
        for name, one in list(masked.items()):
            try:
                _check_masked(name, one, view, layout, self.members.node_keys[name])
            except ProtocolError as error:
                self.members.problems[name] = f"{ANSWER}: {error}"
                del masked[name]
        require_quorum(masked, quorum)
        self._hear_complaints(dealt, masked, quorum)
        return view, layout, self._as_before(question, masked)

    def _hear_complaints(self, dealt: Dealt, masked: Mapping[str, Masked], quorum: Quorum) -> None:
        """Asks again without a dealer of whose shares too many sites complain."""
        for dealer in dealt.deals:
            complaints = sum(dealer in one.complaints for one in masked.values())
            if complaints > quorum.may_be_lost:
                raise self.members.exclude(dealer, "the shares that it dealt do not reach the others")
            if len(masked) - complaints < quorum.threshold:
                msg = f"too few sites are left that hold shares of {dealer}"
                raise NoSumError(msg)

    def _as_before(self, question: Question, masked: dict[str, Masked]) -> dict[str, Masked]:
        """The answers of the sites over which this question was opened before, if it was."""
        before = self._opened.get((question.kind, question.round))
        if before is None:
            return masked
        wanted = before - set(self.members.excluded)
        if missing := wanted - set(masked):
            msg = f"this question was opened over {', '.join(sorted(missing))} too, of which there is no answer now"
            raise NoSumError(msg)
        return {name: one for name, one in masked.items() if name in wanted}

    def _confirm(
        self, dealt: Dealt, view: View, masked: Mapping[str, Masked], ask: Ask, then: str
    ) -> tuple[Survivors, dict[str, str]]:
        """Exchange 4."""
        survivors = self.survivors(view, masked)
        ahead, number = Dealt(then, {}), dealt.number + 1
        if then:
            ahead.keys = self.members.keys({name: one.keys for name, one in masked.items()}, then, number)
        enough = bool(ahead.keys) and len(ahead.keys) >= self.members.quorum(then).threshold
        common: dict[str, Any] = {
            "sum": dealt.number,
            "survivors": list(survivors.sites),
            "signatures": {name: one.signature for name, one in masked.items()},
            "proofs": [proof.to_json() for proof in self.proofs],
        }
        coming = {"kind": then, "keys": [one.to_json() for one in ahead.keys.values()]}
        requests = {
            name: wire.pack({**common, "next": coming if enough and name in ahead.keys else None}) for name in masked
        }
        self._opened[view.message, view.round] = frozenset(masked)
        node_keys = self.members.node_keys
        confirmed = self.members.ask(
            ask, CONFIRM, requests, lambda name, reply: read_confirmed(reply, node_keys[name], survivors)
        )
        require_quorum(confirmed, self.members.quorum(dealt.kind))
        self._look_ahead(ahead, {name: deal for name, (_, deal) in confirmed.items() if deal is not None}, number)
        return survivors, {name: signature for name, (signature, _) in confirmed.items()}

    def survivors(self, view: View, masked: Collection[str]) -> Survivors:
        """S: the sites whose answers are there, and the groups that enough of them are in.

        Raises:
            NoSumError: If too few of those are left who know a target that was trained for.
        """
        survivors = Survivors(digest(view), tuple(sorted(masked)), tuple(surviving(view, sorted(masked))))
        try:
            require_learned(view, survivors.groups)
        except ProtocolError as error:
            self._sit_out(view, masked)
            raise NoSumError(str(error)) from None
        return survivors

    def _sit_out(self, view: View, masked: Collection[str]) -> None:
        """Does not ask sites again in this round whose silence has cost it; each time it happens, for twice as long.

        A site that always refuses, as one whose privacy is spent, would else cost each round each of its attempts.
        """
        for name in set(view.present) - set(masked):
            self._costs[name] += 1
            self._back_in[name] = view.round + 2 ** (self._costs[name] - 1)

    def _look_ahead(self, ahead: Dealt, deals: Mapping[str, tuple[Signed[Deal], Envelopes]], number: int) -> None:
        """Keeps what was dealt for the next sum, if it is enough for one."""
        for name, parts in deals.items():
            try:
                ahead.deals[name], ahead.envelopes[name] = self.members.checked_deal(name, ahead, *parts)
            except ProtocolError as error:
                self.members.problems[name] = f"{CONFIRM}: {error}"
        if ahead.deals and len(ahead.deals) >= self.members.quorum(ahead.kind).threshold:
            self._ahead, self.members.number = ahead, number

    def _open(self, dealt: Dealt, signatures: Mapping[str, str], ask: Ask) -> Held:
        """Exchange 5; a site whose reply is lost is asked once more."""
        request = wire.pack({"sum": dealt.number, "signatures": dict(signatures)})
        held = self.members.ask(ask, OPEN, dict.fromkeys(signatures, request), lambda _, reply: read_shares(reply))
        again = dict.fromkeys(set(signatures) - set(held), request)
        more = self.members.ask(ask, OPEN, again, lambda _, reply: read_shares(reply)) if again else {}
        for name in more:
            del self.members.problems[name]
        return held | more


def _check_masked(name: str, one: Masked, view: View, layout: Layout, node_key: str) -> None:
    require(one.layout == layout, "its numbers mean something else than the others': versions differ")
    require(verify(node_key, view, one.signature), "it saw something else than the others")
    groups = {group for group, sites in view.groups.items() if name in sites}
    require(set(one.sizes) == groups, "it did not answer for the groups that it adds to")
    whole = all(one.sizes[group] == Block.size(*layout.sizes(group)) for group in groups)
    require(whole, "a block has not the length that its layout says")
