"""Members of a run's secure sums at the center: the roster, their keys and deals, and why one is not among them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from server.study.secure_aggregation.replies import Dealt, Enrolled, Envelopes, read_deal
from shared_models.secure_aggregation import wire
from shared_models.secure_aggregation.groups import participants
from shared_models.secure_aggregation.membership import (
    Dealing,
    check_enrolment,
    check_member_keys,
    distinct,
    require,
)
from shared_models.secure_aggregation.parameters import Quorum, Terms
from shared_models.secure_aggregation.signing import Signed, digest_all
from shared_models.secure_aggregation.statements import Deal, Enrolment, Keys
from shared_models.secure_aggregation.wire import Message, ProtocolError

ENROL, DEAL, ANSWER, CONFIRM, OPEN = "enrol", "deal", "answer", "confirm", "open"
MAX_REASON = 300
T = TypeVar("T")
Ask = Callable[[str, dict[str, Message]], Mapping[str, Message | str]]
"""Asks sites in one exchange; a reply, or why there is none. A site may be missing from what it returns."""


class NoSumError(Exception):
    """Too few sites are left for a sum, or it cannot be opened: the question may be asked again."""


@dataclass
class Members:
    """Who is in the secure sums of one run.

    Attributes:
        terms: What the sites approved.
        run: Of the study.
        problems: Why a site is not in the newest sum, by name.
        excluded: Sites that are not asked any more, and why.
        roster: R, once it is known.
        number: Of the newest sum.
    """

    terms: Terms
    run: str
    problems: dict[str, str] = field(default_factory=dict)
    excluded: dict[str, str] = field(default_factory=dict)
    roster: list[Enrolment] = field(default_factory=list)
    number: int = 0
    _signed: list[Signed[Enrolment]] = field(default_factory=list)

    @property
    def node_keys(self) -> dict[str, str]:
        """Public keys of the sites by name."""
        return {site.name: site.node_key for site in self.roster}

    def ask(
        self, ask: Ask, exchange: str, requests: dict[str, Message], read: Callable[[str, Message], T]
    ) -> dict[str, T]:
        """What can be read of the replies; why the others cannot goes to `problems`."""
        contents: dict[str, T] = {}
        replies = ask(exchange, requests)
        for name in sorted(requests):
            reply = replies.get(name, "it did not answer")
            try:
                if isinstance(reply, str):
                    raise ProtocolError(reply)
                contents[name] = read(name, reply)
            except ProtocolError as error:
                self.problems[name] = f"{exchange}: {error}"[:MAX_REASON]
        return contents

    def quorum(self, kind: str) -> Quorum:
        """What holds for a kind of message.

        Raises:
            NoSumError: If too few sites take part in it.
        """
        try:
            return self.terms.quorum(len(participants(kind, self.roster)))
        except ValueError as error:
            raise NoSumError(str(error)) from None

    def can_be_summed(self, kind: str) -> bool:
        """Whether enough sites take part in a kind, there or not."""
        return self.terms.hides(len(participants(kind, self.roster)))

    def exclude(self, name: str, why: str) -> NoSumError:
        """Does not ask a site any more; the error to raise."""
        self.excluded[name] = self.problems[name] = why
        return NoSumError(f"{name} is left out: {why}")

    def enrol(self, sites: Collection[str], ask: Ask) -> dict[str, Enrolled]:
        """Exchange 1: fresh keys; the first time it settles the roster."""
        self.number = max(self.number + 1, time.time_ns() // 10**6)  # it rises over runs, too
        request = wire.pack({"run": self.run, "sum": self.number})
        enrolled = self.ask(ask, ENROL, dict.fromkeys(sites, request), lambda _, reply: Enrolled.read(reply))
        if not self.roster:
            self._set_roster(self._first_roster(enrolled))
        return enrolled

    def deal(self, kind: str, sites: Collection[str], ask: Ask) -> Dealt:
        """Exchanges 1 and 2: fresh keys, and shares of the secrets behind them.

        Raises:
            NoSumError: If too few sites are left.
        """
        enrolled = self.enrol(sites, ask)
        dealt = Dealt(kind, self.keys({name: one.keys for name, one in enrolled.items()}, kind, self.number))
        require_quorum(dealt.keys, self.quorum(kind))
        roster, keys = ([one.to_json() for one in part] for part in (self._signed, dealt.keys.values()))
        request = wire.pack({"sum": self.number, "kind": kind, "roster": roster, "keys": keys})

        def read(name: str, reply: Message) -> tuple[Signed[Deal], Envelopes]:
            parts = wire.unpack(reply, "deal", "envelopes")
            return self.checked_deal(name, dealt, *read_deal(parts["deal"], parts["envelopes"]))

        for name, deal_and_envelopes in self.ask(ask, DEAL, dict.fromkeys(dealt.keys, request), read).items():
            dealt.deals[name], dealt.envelopes[name] = deal_and_envelopes
        require_quorum(dealt.deals, self.quorum(kind))
        return dealt

    def _set_roster(self, signed: list[Signed[Enrolment]]) -> None:
        """Settles for the run who takes part, if a sum of theirs can be; no site has seen a roster that is refused.

        Raises:
            NoSumError: If too few enrolled, as where others restart; the next attempt enrols anew.
        """
        if not self.terms.hides(len(signed)):
            names = ", ".join(one.statement.name for one in signed) or "none"
            msg = f"{len(signed)} sites enrolled ({names}), too few for a sum that hides each"
            raise NoSumError(msg)
        self._signed, self.roster = signed, [one.statement for one in signed]

    def _first_roster(self, enrolled: Mapping[str, Enrolled]) -> list[Signed[Enrolment]]:
        """The roster of a run before, if more than the colluders say so; else all who enrolled now."""
        known = Counter(digest_all(site.statement for site in one.roster) for one in enrolled.values() if one.roster)
        usual, count = known.most_common(1)[0] if known else ("", 0)
        for one in enrolled.values() if count > self.terms.colluders else ():
            if one.roster and digest_all(site.statement for site in one.roster) == usual:
                return list(one.roster)
        enrolments: list[Signed[Enrolment]] = []
        for name, one in sorted(enrolled.items()):
            try:
                check_enrolment(one.enrolment, self.terms.approval)
                require(one.enrolment.statement.name == name, "it enrolled under another name")
                points = [other.statement.node_key for other in [*enrolments, one.enrolment]]
                require(distinct(points), "its key is another site's")
                enrolments.append(one.enrolment)
            except ProtocolError as error:
                self.problems[name] = f"{ENROL}: {error}"
        return enrolments

    def keys(self, offered: Mapping[str, Signed[Keys] | None], kind: str, number: int) -> dict[str, Signed[Keys]]:
        """The keys that hold, of sites that take part in a kind."""
        sites = {site.name: site for site in self.roster}
        taking_part = participants(kind, self.roster)
        valid: dict[str, Signed[Keys]] = {}
        for name, keys in sorted(offered.items()):
            if name not in sites:
                late = "it is not in the roster of this study: it came after the others had enrolled"
                self.problems.setdefault(name, late)
            if keys is None or name not in taking_part:
                continue
            try:
                check_member_keys(keys, sites[name], (self.terms.approval, self.run, number))
                both = [one.statement for one in (*valid.values(), keys)]
                require(distinct(p for one in both for p in (one.mask_key, one.share_key)), "its keys appear twice")
                valid[name] = keys
            except ProtocolError as error:
                self.problems[name] = f"{ENROL}: {error}"
        return valid

    def checked_deal(
        self, name: str, dealt: Dealt, deal: Signed[Deal], envelopes: Envelopes
    ) -> tuple[Signed[Deal], Envelopes]:
        """A site's deal, if it holds.

        Raises:
            ProtocolError: If it does not.
        """
        require(deal.statement.name == name, "it dealt under another name")
        Dealing.of(dealt.statements, self.roster, self.quorum(dealt.kind).threshold).check(deal)
        return deal, envelopes


def require_quorum(there: Collection[str], quorum: Quorum) -> None:
    """Continues only with enough sites.

    Raises:
        NoSumError: If there are too few.
    """
    if len(there) < quorum.threshold:
        names = ", ".join(sorted(there)) or "none"
        msg = f"{len(there)} of {quorum.sites} sites are left ({names}), at least {quorum.threshold} are needed"
        raise NoSumError(msg)
