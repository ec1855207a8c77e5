"""Directed strategies of a hostile center: each tries one way to see a single hospital, as far as the sites let it.

A strategy ignores refusals and goes on with what it got. What it then holds is for `algebra.violations` to say.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from federation import Federation, node_key, pick, point, question

from client.governance.secure_aggregation.session import Session
from shared_models.secure_aggregation import wire
from shared_models.secure_aggregation.blame import read_share
from shared_models.secure_aggregation.groups import all_groups
from shared_models.secure_aggregation.question import Question
from shared_models.secure_aggregation.secrets import new_private_key, public_of, unseal
from shared_models.secure_aggregation.signing import content, digest, read_signed, sign, signed, verify
from shared_models.secure_aggregation.statements import Deal, Enrolment, Facts, Keys, Survivors, View

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
            found = self._ask("enrol", name, {"run": run, "sum": self.number})
            if found:
                self.keys[name], self.enrolments[name] = found["keys"], found["enrolment"]
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

    def _dealt(self, name: str, found: Json | None) -> None:
        if found and found["deal"]:
            self.deals[name], self.envelopes[name] = found["deal"], found["envelopes"]

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
            found = self._ask("answer", name, request, asked(name))
            if found:
                view = self._session(name).sums[self.number].view
                assert view is not None
                self.views[name].append(view)
                self.view_signatures[name].append(found["signature"])
                self.next_keys |= {name: found["keys"]} if found["keys"] else {}
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
            found = self._ask("confirm", name, {**request, "proofs": list(proofs), "next": keys})
            if found:
                self.survivor_signatures[name].append(found["signature"])
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
        found = {}
        for other in over:
            given = self.view_signatures.get(other, [])
            if view is not None and other in self.world.corrupt:
                given = [forged(other, view)]
            fitting = [one for one in given if view is not None and verify(point(other), view, one)]
            found |= {other: (fitting or given)[0]} if given else {}
        return found

    def _survivors_of(self, statement: Survivors) -> dict[str, str]:
        found = {}
        for other in self.world.facts:
            given = self.survivor_signatures.get(other, [])
            if other in self.world.corrupt:
                given = [forged(other, statement)]
            fitting = [one for one in given if verify(point(other), statement, one)]
            found |= {other: (fitting or given)[0]} if given else {}
        return found


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


def honest_sum(world: Federation) -> None:
    """Nothing hostile: what the center may have."""
    start(world).answer().confirm().open()


def cut_pairs(world: Federation) -> None:
    """1: each site is told other present ones, so that few masks stand between two of them."""
    victim, *others = world.honest
    for spared in range(1, len(others) + 1):
        cut = others[:spared]

        def present(name: str, dealt: list[str], cut: list[str] = cut) -> list[str]:
            if name == victim:
                return [one for one in dealt if one not in cut]
            return pick(dealt, victim) if name in cut else dealt

        start(world).answer(present=present).confirm(survivors=lambda name, there: present(name, there)).open()


def cut_ring(world: Federation) -> None:
    """1: every second pair is cut, and each site signs for whom it was told."""
    names = list(world.facts)

    def present(name: str, dealt: list[str]) -> list[str]:
        at = names.index(name)
        return [one for one in dealt if one == name or (names.index(one) - at) % len(names) not in (1, len(names) - 1)]

    start(world).answer(present=present).confirm(survivors=lambda name, there: present(name, there)).open()


def false_kind(world: Federation) -> None:
    """2: half of the sites are asked under another kind of message."""
    one, _ = halves(world)
    kinds = lambda name: "train" if name in one else "query.prepare"  # noqa: E731
    rounds = lambda name: question(kinds(name), 1)  # noqa: E731
    start(world).answer(asked=rounds).confirm().open()
    Try(world, list(world.facts)).enrol().deal(kind=kinds).answer(asked=rounds).confirm().open()


def lonely_group(world: Federation) -> None:
    """3: a group that only the victim and corrupt sites have."""
    start(world).answer().confirm().open()


def split_survivors(world: Federation) -> None:
    """4, 12: two sets of survivors for one set of keys, each signed by its own half and all corrupt sites."""
    one, other = halves(world)
    tried = start(world).answer()
    tried.confirm(survivors=lambda name, there: [n for n in there if n in (one if name in one else other)]).open()
    everyone, fewer = list(world.facts), pick(list(world.facts), world.honest[0])
    for first in (everyone, fewer):
        second = fewer if first is everyone else everyone
        tried = start(world).answer(asked=same_round_of(world))
        tried.confirm(survivors=lambda name, there, a=first, b=second: a if name in one else b).open()


def small_quorums(world: Federation) -> None:
    """4, 12: survivors far below the threshold, each signed by its own."""
    tried = start(world).answer(asked=same_round_of(world))
    for part in halves(world):
        tried.confirm(survivors=lambda name, there, part=part: [n for n in there if n in part])
    tried.open()


def both_secrets(world: Federation) -> None:
    """12: half of the sites release a victim's mask key, the other half its seeds."""
    victim, *others = world.honest
    half = set(others[: len(others) // 2]) | set(sorted(world.corrupt)[:1])
    tried = start(world).answer(asked=same_round_of(world))
    tried.confirm(survivors=lambda name, there: pick(there, victim) if name in half else there).open()


def second_confirm(world: Federation) -> None:
    """4, 12, 13: a second process of each site is asked to sign other survivors."""
    tried = start(world).answer(asked=same_round_of(world))
    memories = {name: world.fork(name) for name in world.facts}
    tried.confirm().open()
    again = replace(tried, sessions=memories, survivor_signatures=defaultdict(list))
    victim = world.honest[0]
    again.names = pick(list(tried.names), victim)
    again.confirm(survivors=lambda name, there: pick(there, victim)).open()


def shrunk_group(world: Federation) -> None:
    """5: a group of which only the victim and corrupt sites survive, while the others survive for others."""
    members = [name for name in world.honest if "genomic" in world.facts[name].modalities]
    gone = members[1:]
    start(world).answer(asked=same_round_of(world)).confirm(
        survivors=lambda name, there: [one for one in there if one not in gone]
    ).open()


def shrunk_present(world: Federation) -> None:
    """5: the same, before the question."""
    members = [name for name in world.honest if "genomic" in world.facts[name].modalities]
    gone = members[1:]
    start(world).answer(
        asked=same_round_of(world), present=lambda name, there: [one for one in there if one not in gone]
    ).confirm().open()


def unequal(change: Callable[[Question], Question]) -> Callable[[Federation], None]:
    """6, 7: the victim is asked something else than the others."""

    def strategy(world: Federation) -> None:
        victim, asked = world.honest[0], question(round_=2)
        tried = start(world).answer(asked=lambda name: change(asked) if name == victim else asked)
        tried.confirm().open()
        start(world).answer().confirm().open()

    return strategy


def invented_member(world: Federation) -> None:
    """8: a site that nobody has seen, in place of an honest one or beside it."""
    ghost = Enrolment(world.terms.approval, "ghost", point("ghost"), Facts(True, True, True, ("genomic",)))
    entry = signed(node_key("ghost"), ghost).to_json()
    for gone in ("", world.honest[-1]):
        roster = lambda name, found, gone=gone: [*(e for n, e in found.items() if n != gone), entry]  # noqa: E731
        Try(world, list(world.facts)).enrol().deal(roster=roster).answer().confirm().open()


def foreign_keys(world: Federation) -> None:
    """9: the center's own keys under the names of honest sites, for one site or all; it reads what is dealt to them."""
    for victims in ([world.honest[0]], world.honest):
        tried = Try(world, list(world.facts)).enrol()
        forged = {name: Forged(world, tried, name) for name in world.honest}

        def keys(name: str, found: dict[str, Json], v: Any = victims, f: Any = forged) -> list[Json]:
            others = {other: one.to_json for other, one in f.items() if other != name} if name in v else {}
            return list((found | others).values())

        tried.deal(keys=keys)
        for name, envelopes in tried.envelopes.items():
            for receiver, envelope in envelopes.items():
                if receiver in forged and name in victims:
                    forged[receiver].read(name, tried, bytes.fromhex(envelope))
        tried.answer().confirm().open()


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


def same_site_twice(world: Federation) -> None:
    """10: one site's enrolment and keys twice, or under another name with its key."""
    victim = world.honest[0]
    again = replace(world.sites[victim].enrolment, name="again")
    entry = signed(node_key(victim), again).to_json()
    Try(world, list(world.facts)).enrol().deal(
        roster=lambda name, found: [*found.values(), entry],
        keys=lambda name, found: [*found.values(), found[victim]],
    ).answer().confirm().open()


def world_enrolment(world: Federation, name: str) -> Json:
    """A site's signed enrolment."""
    return signed(node_key(name), world.sites[name].enrolment).to_json()


def old_keys(world: Federation) -> None:
    """11: a site drops out, its mask key is revealed, and its old keys come again."""
    gone = world.honest[-1]
    first = start(world).answer(asked=same_round_of(world))
    first.confirm(survivors=lambda name, there: pick(there, gone)).open()
    for number in (first.number, None):
        second = Try(world, list(world.facts)).enrol()
        second.number = number or second.number
        second.deal(keys=lambda name, found: [*(k for n, k in found.items() if n != gone), first.keys[gone]])
        second.answer(asked=lambda name: question(round_=2)).confirm().open()


def two_questions(world: Federation) -> None:
    """13: two processes of each site answer two questions under one set of keys; then both are opened."""
    tried = start(world)
    memories = {name: world.fork(name) for name in world.facts}
    again = replace(
        tried,
        sessions=memories,
        views=defaultdict(list),
        view_signatures=defaultdict(list),
        survivor_signatures=defaultdict(list),
    )
    tried.answer(asked=lambda name: question(model=1.0, round_=1)).confirm().open()
    again.answer(asked=lambda name: question(model=2.0, round_=2)).confirm().open()


def asked_again(world: Federation) -> None:
    """13: the same process is asked another question under the same keys."""
    tried = start(world)
    tried.answer(asked=lambda name: question(round_=1)).answer(asked=lambda name: question(round_=2, model=2.0))
    tried.confirm().open()


def other_envelopes(world: Federation) -> None:
    """14: envelopes of another sum, of the other direction, of another pair."""
    before = start(world)
    tried = start(world)
    tried.answer(sealed=lambda dealer, receiver, envelope: before.envelopes[dealer][receiver]).confirm().open()
    tried = start(world)
    tried.answer(sealed=lambda dealer, receiver, _: tried.envelopes[receiver].get(dealer, "")).confirm().open()


def signature_twice(world: Federation) -> None:
    """16: one corrupt site's signature of S in the place of all others."""
    victim = world.honest[0]
    tried = start(world).answer(asked=same_round_of(world))
    tried.confirm(survivors=lambda name, there: pick(there, victim) if name == world.honest[1] else there)
    for name in world.honest:
        known = world.sessions[name].sums.get(tried.number)
        if known and known.survivors and world.corrupt:
            one = sign(node_key(min(world.corrupt)), known.survivors)
            request = {"sum": tried.number, "signatures": dict.fromkeys(world.facts, one)}
            world.ask("open", name, wire.pack(request))


def few_signers(world: Federation) -> None:
    """16: S of one site, signed by it and the corrupt ones only."""
    victim = world.honest[0]
    tried = start(world).answer(asked=same_round_of(world))
    tried.confirm(survivors=lambda name, there: pick(there, victim) if name != victim else there)
    tried.open(over=lambda name: [name, *world.corrupt])


def retry_without(world: Federation) -> None:
    """17: the same question again, over all but the victim, signed by others."""
    victim = world.honest[0]
    start(world).answer().confirm().open()
    for attempt in (1, 2):
        again = lambda name, attempt=attempt: question(attempt=attempt)  # noqa: E731
        start(world).answer(asked=again).confirm(survivors=lambda name, there: pick(there, victim)).open()
    names = pick(list(world.facts), victim)
    Try(world, names).enrol().deal(roster=lambda name, found: all_enrolments(world)).answer().confirm().open()


def all_enrolments(world: Federation) -> list[Json]:
    """E of every site."""
    return [world_enrolment(world, name) for name in world.facts]


def retry_nearly_the_same(world: Federation) -> None:
    """17, 18: a model one bit away in the same round, or the same model in the next round, without the victim."""
    victim = world.honest[0]
    start(world).answer().confirm().open()
    for near in (question(model=1.0 + 2**-52, attempt=2), question(round_=2), question(round_=3, attempt=3)):
        start(world).answer(asked=lambda name, near=near: near).confirm(
            survivors=lambda name, there: pick(there, victim)
        ).open()


def same_question_by_kind(world: Federation) -> None:
    """18: the same model by another kind of message, without the victim, in this round or another."""
    victim = world.honest[0]
    start(world).answer(asked=lambda name: question(rate=1.0)).confirm().open()
    for round_ in (1, 2):
        asked = question("evaluate.validation", round_, cut=0.5)
        start(world, "evaluate.validation").answer(asked=lambda name, asked=asked: asked).confirm(
            survivors=lambda name, there: pick(there, victim)
        ).open()


def same_question_after_restart(world: Federation) -> None:
    """18: the same question in a new run, after all sites have restarted."""
    victim = world.honest[0]
    start(world).answer().confirm().open()
    for name in world.facts:
        world.restart(name)
    Try(world, list(world.facts)).enrol(run="2").deal().answer(asked=lambda name: question(attempt=2)).confirm(
        survivors=lambda name, there: pick(there, victim)
    ).open()


def restart_between(world: Federation) -> None:
    """18: sites restart between masking and signing, and are asked under a new number."""
    tried = start(world).answer()
    for name in world.honest[::2]:
        world.restart(name)
    tried.confirm().open()
    start(world).answer(asked=lambda name: question(attempt=2)).confirm(
        survivors=lambda name, there: pick(there, world.honest[0])
    ).open()


def open_before_masking(world: Federation) -> None:
    """C6: secrets of sites that have not masked yet are opened; then they mask an old question, without a third site.

    Needs a group of three honest sites beside so many others that these are a quorum with the corrupt ones.
    """
    members = [name for name in world.honest if "genomic" in world.facts[name].modalities]
    signers = [name for name in world.facts if name not in members]
    start(world).answer().confirm().open()
    tried = start(world).answer(asked=same_round_of(world), names=signers)
    everyone = pick(list(world.facts), members[-1])
    tried.confirm(survivors=lambda name, there: everyone).open()
    tried.answer(asked=lambda name: question(attempt=2), names=members[:-1])


def run_ahead(world: Federation) -> None:
    """The next sum is dealt and answered before this one is opened."""
    tried = start(world).answer().confirm(ahead="train")
    after = Try(world, tried.names, number=tried.number + 1, keys=tried.next_keys)
    for name in tried.names:
        known = world.sessions[name].sums.get(tried.number)
        if known and "confirm" in known.replies:
            after._dealt(name, wire.parse(known.replies["confirm"][1]["control"]))
    after.answer(asked=lambda name: question(round_=2, model=2.0))
    tried.open()
    after.confirm(survivors=lambda name, there: pick(there, world.honest[0])).open()
    tried.confirm(survivors=lambda name, there: pick(there, world.honest[0])).open()


_rounds = itertools.count()


def same_round_of(world: Federation) -> Callable[[str], Question]:
    """A question of a round that was not asked yet in this world, with a model of its own."""
    used = {event.question.round for event in world.events}
    free = next(r for r in range(1, world.terms.rounds + 1) if r not in used)
    asked = question(round_=free, model=100.0 + next(_rounds))
    return lambda name: asked


def _changed(**values: Any) -> Callable[[Question], Question]:
    return lambda asked: replace(asked, **values)


STRATEGIES: Mapping[str, Callable[[Federation], None]] = {
    function.__name__: function
    for function in (
        honest_sum,
        cut_pairs,
        cut_ring,
        false_kind,
        lonely_group,
        split_survivors,
        small_quorums,
        both_secrets,
        second_confirm,
        shrunk_group,
        shrunk_present,
        invented_member,
        foreign_keys,
        same_site_twice,
        old_keys,
        two_questions,
        asked_again,
        other_envelopes,
        signature_twice,
        few_signers,
        retry_without,
        retry_nearly_the_same,
        same_question_by_kind,
        same_question_after_restart,
        restart_between,
        open_before_masking,
        run_ahead,
    )
} | {
    "unequal_models": unequal(lambda asked: question(model=1.0 + 2**-52, round_=asked.round)),
    "unequal_statistics": unequal(_changed(statistics="0" * 64)),
    "unequal_requests": unequal(_changed(request="0" * 64)),
    "unequal_rounds": unequal(_changed(round=3)),
    "unequal_attempts": unequal(_changed(attempt=2)),
}
