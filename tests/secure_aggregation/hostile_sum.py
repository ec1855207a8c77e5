"""One sum as a hostile center runs it, with another request for each site wherever it likes."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from federation import Federation, node_key, point, question

from client.governance.secure_aggregation.sum_session import Session
from shared_models.secure_aggregation import wire
from shared_models.secure_aggregation.blame import read_share
from shared_models.secure_aggregation.groups import all_groups
from shared_models.secure_aggregation.question import Question
from shared_models.secure_aggregation.secrets import new_private_key, public_of, unseal
from shared_models.secure_aggregation.signing import content, digest, read_signed, signed, verify
from shared_models.secure_aggregation.statements import Deal, Keys, Survivors, View

Json = dict[str, Any]
_numbers = itertools.count(1)


@dataclass
class Try:
    """One sum as a hostile center runs it; what it got so far, by site.

    Attributes:
        world: The sites.
        names: Those that it asks.
        number: Of the sum.
        sessions: Other memories than the sites' own, where it asks a second process.
    """

    world: Federation
    names: Sequence[str]
    number: int = 0
    keys: dict[str, Json] = field(default_factory=dict)
    enrolments: dict[str, Json] = field(default_factory=dict)
    deals: dict[str, Json] = field(default_factory=dict)
    envelopes: dict[str, dict[str, str]] = field(default_factory=dict)
    views: dict[str, list[View]] = field(default_factory=lambda: defaultdict(list))
    view_signatures: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    survivor_signatures: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    next_keys: dict[str, Json] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)

    def enrol(self, run: str = "1", names: Sequence[str] | None = None) -> Try:
        self.number = next(_numbers) * 1000
        for name in names or self.names:
            reply = self._ask("enrol", name, {"run": run, "sum": self.number})
            if reply:
                self.keys[name], self.enrolments[name] = reply["keys"], reply["enrolment"]
        return self

    def deal(
        self,
        kind: Callable[[str], str] = lambda name: "train",
        keys: Callable[[str, dict[str, Json]], Collection[Json]] = lambda name, keys: keys.values(),
        roster: Callable[[str, dict[str, Json]], Collection[Json]] = lambda name, enrolments: enrolments.values(),
    ) -> Try:
        for name in self.names:
            request = {
                **{"sum": self.number, "kind": kind(name)},
                **{"roster": list(roster(name, self.enrolments)), "keys": list(keys(name, deepcopy(self.keys)))},
            }
            self._dealt(name, self._ask("deal", name, request))
        return self

    def _dealt(self, name: str, reply: Json | None) -> None:
        if reply and reply["deal"]:
            self.deals[name], self.envelopes[name] = reply["deal"], reply["envelopes"]

    def answer(
        self,
        asked: Callable[[str], Question] = lambda name: question(),
        present: Callable[[str, list[str]], Sequence[str]] = lambda name, dealt: dealt,
        names: Sequence[str] | None = None,
        sealed: Callable[[str, str, str], str] = lambda dealer, receiver, envelope: envelope,
    ) -> Try:
        for name in names or self.names:
            there = [other for other in present(name, sorted(self.deals)) if other in self.deals]
            envelopes = {
                other: sealed(other, name, self.envelopes[other][name])
                for other in there
                if other != name and name in self.envelopes[other]
            }
            deals = [self.deals[other] for other in there]
            request = {"sum": self.number, "deals": deals, "envelopes": envelopes}
            reply = self._ask("answer", name, request, asked(name))
            if reply:
                view = self._session(name).sums[self.number].view
                assert view is not None
                self.views[name].append(view)
                self.view_signatures[name].append(reply["signature"])
                self.next_keys |= {name: reply["keys"]} if reply["keys"] else {}
        return self

    def confirm(
        self,
        survivors: Callable[[str, list[str]], Sequence[str]] = lambda name, answered: answered,
        ahead: str = "",
        proofs: Sequence[Json] = (),
    ) -> Try:
        for name in self.names:
            over = sorted(survivors(name, sorted(self.views)))
            signatures = self._views_of(name, over)
            keys = {"kind": ahead, "keys": list(self.next_keys.values())} if ahead and name in self.next_keys else None
            request = {"sum": self.number, "survivors": over, "signatures": signatures}
            reply = self._ask("confirm", name, {**request, "proofs": list(proofs), "next": keys})
            if reply:
                self.survivor_signatures[name].append(reply["signature"])
        return self

    def open(self, over: Callable[[str], Sequence[str]] | None = None) -> Try:
        for name in self.names:
            known = self._session(name).sums.get(self.number)
            if known is None or known.survivors is None:
                continue
            signatures = self._survivors_of(known.survivors)
            if over:
                signatures = {other: one for other, one in signatures.items() if other in over(name)}
            self._ask("open", name, {"sum": self.number, "signatures": signatures})
        return self

    def _session(self, name: str) -> Session:
        return self.sessions.get(name, self.world.sessions[name])

    def _ask(self, exchange: str, name: str, request: Json, asked: Question | None = None) -> Json | None:
        return self.world.ask(exchange, name, wire.pack(request), asked, self.sessions.get(name))

    def _views_of(self, name: str, over: Sequence[str]) -> dict[str, str]:
        """Signatures that fit a site's own view where there is one, of corrupt sites always."""
        view = (self.views[name] or [None])[-1] if name in self.views else None
        views = {}
        for other in over:
            given = self.view_signatures.get(other, [])
            if view is not None and other in self.world.corrupt:
                given = [forged(other, view)]
            fitting = [one for one in given if view is not None and verify(point(other), view, one)]
            views |= {other: (fitting or given)[0]} if given else {}
        return views

    def _survivors_of(self, statement: Survivors) -> dict[str, str]:
        survivors = {}
        for other in self.world.facts:
            given = self.survivor_signatures.get(other, [])
            if other in self.world.corrupt:
                given = [forged(other, statement)]
            fitting = [one for one in given if verify(point(other), statement, one)]
            survivors |= {other: (fitting or given)[0]} if given else {}
        return survivors


@lru_cache(maxsize=10_000)
def _forged(name: str, content: bytes) -> str:
    return node_key(name).sign(content, ec.ECDSA(hashes.SHA384())).hex()


def forged(name: str, statement: View | Survivors) -> str:
    """A corrupt site's signature of whatever the center likes."""
    return _forged(name, content(statement))


def start(world: Federation, kind: str = "train", names: Sequence[str] | None = None) -> Try:
    """Keys and deals, as they should be."""
    return Try(world, names or list(world.facts)).enrol().deal(kind=lambda name: kind)


def halves(world: Federation) -> tuple[list[str], list[str]]:
    """Honest sites in two parts, the corrupt ones in both."""
    honest, corrupt = world.honest, sorted(world.corrupt)
    return honest[: len(honest) // 2] + corrupt, honest[len(honest) // 2 :] + corrupt


class Forged:
    """Keys of the center's making under a site's name, which it cannot sign."""

    def __init__(self, world: Federation, tried: Try, name: str) -> None:
        mask_key, self.share_key = new_private_key(), new_private_key()
        world.private[public_of(mask_key)] = mask_key
        seeds = dict.fromkeys(all_groups(world.facts[name]), "00" * 32)
        own = Keys(world.terms.approval, "1", tried.number, name, public_of(mask_key), public_of(self.share_key), seeds)
        self.world, self.name, self.to_json = world, name, signed(node_key("ghost"), own).to_json()

    def read(self, dealer: str, tried: Try, envelope: bytes) -> None:
        """What a site has dealt to these keys, the center has."""
        own = read_signed(tried.keys[dealer], Keys).statement
        keys = read_signed(tried.deals[dealer], Deal).statement.keys
        content = wire.parse(unseal(self.share_key, own.share_key, envelope, keys, dealer, self.name))
        for secret, share in content.items():
            self.world.shares[digest(own), secret, self.name] = read_share(share)


def world_enrolment(world: Federation, name: str) -> Json:
    """A site's signed enrolment."""
    return signed(node_key(name), world.sites[name].enrolment).to_json()


def all_enrolments(world: Federation) -> list[Json]:
    """E of every site."""
    return [world_enrolment(world, name) for name in world.facts]


_rounds = itertools.count()


def same_round_of(world: Federation) -> Callable[[str], Question]:
    """A question of a round that was not asked yet in this world, with a model of its own."""
    used = {event.question.round for event in world.events}
    free = next(r for r in range(1, world.terms.rounds + 1) if r not in used)
    asked = question(round_=free, model=100.0 + next(_rounds))
    return lambda name: asked
