"""A sum over sites of which the center sees nothing but the sum: the center's side, over any way to ask them.

The first sum takes five exchanges, each one after it three, while nobody is lost and nobody new comes. A site whose
part does not hold is left out by name, and the sum goes on while enough are left.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from server.study.secure_opening import CheatError, Held, SharesError, open_blocks, recover
from server.study.secure_replies import (
    Dealt,
    Enrolled,
    Envelopes,
    Masked,
    read_confirmed,
    read_deal,
    read_shares,
)
from shared_models.secure_aggregation import wire
from shared_models.secure_aggregation.blame import Proof
from shared_models.secure_aggregation.encoding import Block
from shared_models.secure_aggregation.groups import participants
from shared_models.secure_aggregation.layout import Layout
from shared_models.secure_aggregation.membership import (
    Dealing,
    check_enrolment,
    check_member_keys,
    distinct,
    make_view,
    require,
    surviving,
)
from shared_models.secure_aggregation.parameters import Quorum, Terms
from shared_models.secure_aggregation.question import Question
from shared_models.secure_aggregation.statements import (
    Deal,
    Enrolment,
    Keys,
    Signed,
    Survivors,
    View,
    digest,
    digest_all,
    verify,
)
from shared_models.secure_aggregation.wire import Message, ProtocolError

ENROL, DEAL, ANSWER, CONFIRM, OPEN = "enrol", "deal", "answer", "confirm", "open"
T = TypeVar("T")
Ask = Callable[[str, dict[str, Message]], Mapping[str, Message | str]]
"""Asks sites in one exchange; a reply, or why there is none. A site may be missing from what it returns."""


class NoSumError(Exception):
    """Too few sites are left for a sum, or it cannot be opened: the question may be asked again."""


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
        problems: Why a site is not in the newest sum, by name.
        excluded: Sites that are not asked any more, and why.
        roster: R, once it is known.
        proofs: Against sites that dealt wrongly.
    """

    terms: Terms
    run: str
    problems: dict[str, str] = field(default_factory=dict)
    excluded: dict[str, str] = field(default_factory=dict)
    roster: list[Enrolment] = field(default_factory=list)
    proofs: list[Proof] = field(default_factory=list)
    _signed_roster: list[Signed[Enrolment]] = field(default_factory=list)
    _number: int = 0
    _ahead: Dealt | None = None
    _opened: dict[tuple[str, int], frozenset[str]] = field(default_factory=dict)

    def add_up(self, question: Question, sites: Collection[str], ask: Ask, then: str = "") -> Opened:
        """Asks one question of the sites and opens the sum of their answers.

        Args:
            question: As each site's handler will find it.
            sites: That can be reached.
            ask: How to; in exchange `ANSWER`, the request goes with the question itself.
            then: The kind of the next question, for which keys are dealt on the way; empty: none.

        Raises:
            NoSumError: If there is no sum; another attempt may give one.
        """
        self.problems = dict(self.excluded)
        reachable, dealt = set(sites) - set(self.excluded), self._ahead
        self._ahead = None
        if dealt is None or not self._serves(dealt, question.kind, reachable):
            dealt = self._deal(question.kind, reachable, ask)
        view, layout, masked = self._answers(question, dealt, ask)
        survivors, signatures = self._confirm(dealt, view, masked, ask, then)
        held = self._open(dealt, survivors, signatures, ask)
        try:
            secrets = recover(view, survivors, dealt.keys, dealt.deals, held)
        except CheatError as error:
            self.proofs.append(error.proof)
            self._exclude(str(error), "it dealt shares that do not open what it promised")
        except SharesError as error:
            raise NoSumError(str(error)) from None
        blocks = {name: _blocks(layout, masked[name]) for name in survivors.sites}
        return Opened(view, survivors, layout, open_blocks(view, survivors, dealt.keys, blocks, secrets))

    def _ask(
        self, ask: Ask, exchange: str, requests: dict[str, Message], read: Callable[[str, Message], T]
    ) -> dict[str, T]:
        """What can be read of the replies; why the others cannot goes to `problems`."""
        found: dict[str, T] = {}
        replies = ask(exchange, requests)
        for name in sorted(requests):
            reply = replies.get(name, "it did not answer")
            try:
                if isinstance(reply, str):
                    raise ProtocolError(reply)
                found[name] = read(name, reply)
            except ProtocolError as error:
                self.problems[name] = f"{exchange}: {error}"
        return found

    def _quorum(self, kind: str) -> Quorum:
        try:
            return self.terms.quorum(len(participants(kind, self.roster)))
        except ValueError as error:
            raise NoSumError(str(error)) from None

    def _serves(self, dealt: Dealt, kind: str, reachable: set[str]) -> bool:
        """Whether what was dealt ahead does for a question: nobody could be there who is not in it."""
        return dealt.kind == kind and not reachable & set(participants(kind, self.roster)) - set(dealt.deals)

    def _deal(self, kind: str, sites: set[str], ask: Ask) -> Dealt:
        """Exchanges 1 and 2."""
        self._number = max(self._number + 1, time.time_ns() // 10**6)  # it rises over runs, too
        request = wire.pack({"run": self.run, "sum": self._number})
        enrolled = self._ask(ask, ENROL, dict.fromkeys(sites, request), lambda _, reply: Enrolled.read(reply))
        if not self.roster:
            self._signed_roster = self._first_roster(enrolled)
            self.roster = [one.statement for one in self._signed_roster]
        quorum = self._quorum(kind)
        dealt = Dealt(kind, self._keys({name: one.keys for name, one in enrolled.items()}, kind, self._number))
        _require(dealt.keys, quorum)
        roster, keys = ([one.to_json() for one in part] for part in (self._signed_roster, dealt.keys.values()))
        request = wire.pack({"sum": self._number, "kind": kind, "roster": roster, "keys": keys})

        def read(name: str, reply: Message) -> tuple[Signed[Deal], Envelopes]:
            found = wire.unpack(reply, "deal", "envelopes")
            return self._checked(name, dealt, *read_deal(found["deal"], found["envelopes"]))

        self._keep(dealt, self._ask(ask, DEAL, dict.fromkeys(dealt.keys, request), read))
        _require(dealt.deals, quorum)
        return dealt

    def _first_roster(self, enrolled: Mapping[str, Enrolled]) -> list[Signed[Enrolment]]:
        """The roster that most sites know from a run before; else all who enrolled now."""
        known = Counter(digest_all(s.statement for s in one.roster) for one in enrolled.values() if one.roster)
        usual = known.most_common(1)[0][0] if known else ""
        for one in enrolled.values():
            if one.roster and digest_all(signed.statement for signed in one.roster) == usual:
                return list(one.roster)
        found: list[Signed[Enrolment]] = []
        for name, one in sorted(enrolled.items()):
            try:
                check_enrolment(one.enrolment, self.terms.approval)
                require(one.enrolment.statement.name == name, "it enrolled under another name")
                keys = [other.statement.node_key for other in [*found, one.enrolment]]
                require(distinct(keys), "its key is another site's")
                found.append(one.enrolment)
            except ProtocolError as error:
                self.problems[name] = f"{ENROL}: {error}"
        return found

    def _keys(self, offered: Mapping[str, Signed[Keys] | None], kind: str, number: int) -> dict[str, Signed[Keys]]:
        """The keys that hold, of sites that take part in a kind."""
        sites = {site.name: site for site in self.roster}
        taking_part = participants(kind, self.roster)
        found: dict[str, Signed[Keys]] = {}
        for name, keys in sorted(offered.items()):
            if name not in sites:
                self.problems[name] = "it is not in the roster of this study: it came after the others had enrolled"
            if keys is None or name not in taking_part:
                continue
            try:
                check_member_keys(keys, sites[name], (self.terms.approval, self.run, number))
                points = [p for k in [*found.values(), keys] for p in (k.statement.mask_key, k.statement.share_key)]
                require(distinct(points), "its keys stand twice in the sum")
                found[name] = keys
            except ProtocolError as error:
                self.problems[name] = f"{ENROL}: {error}"
        return found

    def _checked(
        self, name: str, dealt: Dealt, deal: Signed[Deal], envelopes: Envelopes
    ) -> tuple[Signed[Deal], Envelopes]:
        require(deal.statement.name == name, "it dealt under another name")
        Dealing.of(dealt.statements, self.roster, self._quorum(dealt.kind).threshold).check(deal)
        return deal, envelopes

    def _keep(self, dealt: Dealt, found: Mapping[str, tuple[Signed[Deal], Envelopes]]) -> None:
        for name, (deal, envelopes) in found.items():
            dealt.deals[name], dealt.envelopes[name] = deal, envelopes

    def _answers(self, question: Question, dealt: Dealt, ask: Ask) -> tuple[View, Layout, dict[str, Masked]]:
        """Exchange 3."""
        quorum = self._quorum(question.kind)
        requests = {name: dealt.request_to(name) for name in dealt.deals}
        found = self._ask(ask, ANSWER, requests, lambda _, reply: Masked.read(reply))
        _require(found, quorum)
        usual = Counter(one.layout.hash(self.terms) for one in found.values()).most_common(1)[0][0]
        layout = next(one.layout for one in found.values() if one.layout.hash(self.terms) == usual)
        view = make_view(dealt.statements, self.roster, quorum, question, dealt.present, usual)
        node_keys = {site.name: site.node_key for site in self.roster}
        for name, one in list(found.items()):
            try:
                _check_masked(name, one, view, layout, node_keys[name])
            except ProtocolError as error:
                self.problems[name] = f"{ANSWER}: {error}"
                del found[name]
        _require(found, quorum)
        for dealer in dealt.deals:
            if sum(dealer not in one.complaints for one in found.values()) < quorum.threshold:
                self._exclude(dealer, "the shares that it dealt do not reach the others")
        return view, layout, self._as_before(question, found)

    def _as_before(self, question: Question, found: dict[str, Masked]) -> dict[str, Masked]:
        """The answers of the sites over which this question was opened before, if it was."""
        before = self._opened.get((question.kind, question.round))
        if before is not None:
            wanted = before - set(self.excluded)
            if missing := wanted - set(found):
                msg = f"this question was opened over {', '.join(sorted(missing))} too, of which there is no answer now"
                raise NoSumError(msg)
            found = {name: one for name, one in found.items() if name in wanted}
        return found

    def _confirm(
        self, dealt: Dealt, view: View, masked: Mapping[str, Masked], ask: Ask, then: str
    ) -> tuple[Survivors, dict[str, str]]:
        """Exchange 4."""
        survivors = Survivors(digest(view), tuple(sorted(masked)), tuple(surviving(view, sorted(masked))))
        ahead = Dealt(then, {})
        if then:
            ahead.keys = self._keys({name: one.keys for name, one in masked.items()}, then, dealt.number + 1)
        enough = bool(ahead.keys) and len(ahead.keys) >= self._quorum(then).threshold
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
        node_keys = {site.name: site.node_key for site in self.roster}
        self._opened[view.message, view.round] = frozenset(masked)
        found = self._ask(ask, CONFIRM, requests, lambda name, reply: read_confirmed(reply, node_keys[name], survivors))
        _require(found, self._quorum(dealt.kind))
        self._look_ahead(ahead, {name: deal for name, (_, deal) in found.items() if deal is not None}, dealt.number + 1)
        return survivors, {name: signature for name, (signature, _) in found.items()}

    def _look_ahead(self, ahead: Dealt, deals: Mapping[str, tuple[Signed[Deal], Envelopes]], number: int) -> None:
        """Keeps what was dealt for the next sum, if it is enough for one."""
        for name, (deal, envelopes) in deals.items():
            try:
                self._keep(ahead, {name: self._checked(name, ahead, deal, envelopes)})
            except ProtocolError as error:
                self.problems[name] = f"{CONFIRM}: {error}"
        if ahead.deals and len(ahead.deals) >= self._quorum(ahead.kind).threshold:
            self._ahead, self._number = ahead, number

    def _open(self, dealt: Dealt, survivors: Survivors, signatures: Mapping[str, str], ask: Ask) -> Held:
        """Exchange 5; a site whose reply is lost is asked once more."""
        request = wire.pack({"sum": dealt.number, "signatures": dict(signatures)})
        held = self._ask(ask, OPEN, dict.fromkeys(signatures, request), lambda _, reply: read_shares(reply))
        again = dict.fromkeys(set(signatures) - set(held), request)
        if again:
            more = self._ask(ask, OPEN, again, lambda _, reply: read_shares(reply))
            held |= more
            self.problems = {name: why for name, why in self.problems.items() if name not in more}
        return held

    def _exclude(self, name: str, why: str) -> None:
        self.excluded[name] = self.problems[name] = why
        msg = f"{name} is left out: {why}"
        raise NoSumError(msg)


def _require(there: Collection[str], quorum: Quorum) -> None:
    if len(there) < quorum.threshold:
        names = ", ".join(sorted(there)) or "none"
        msg = f"{len(there)} of {quorum.sites} sites are left ({names}), at least {quorum.threshold} are needed"
        raise NoSumError(msg)


def _check_masked(name: str, one: Masked, view: View, layout: Layout, node_key: str) -> None:
    require(one.layout == layout, "its numbers stand for something else than the others': versions differ")
    require(verify(node_key, view, one.signature), "it saw something else than the others")
    groups = {group for group, sites in view.groups.items() if name in sites}
    require(set(one.blocks) == groups, "it did not answer for the groups that it adds to")
    _blocks(layout, one)


def _blocks(layout: Layout, one: Masked) -> dict[str, Block]:
    return {group: Block.unpack(data, *layout.sizes(group)) for group, data in one.blocks.items()}
