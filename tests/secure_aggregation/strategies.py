"""Directed strategies of a hostile center: each tries one way to see a single hospital, as far as the sites let it.

A strategy ignores refusals and goes on with what it got. What it then holds is for `algebra.violations` to say.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from federation import ALL, Federation, node_key, pick, point, question
from hostile_sum import Forged, Try, halves, same_round_of, start
from strategies_over_sums import (
    asked_again,
    old_keys,
    open_before_masking,
    restart_between,
    retry_nearly_the_same,
    retry_without,
    run_ahead,
    same_question_after_restart,
    same_question_by_kind,
    two_questions,
)

from shared_models.secure_aggregation import wire
from shared_models.secure_aggregation.question import Question
from shared_models.secure_aggregation.signing import sign, signed
from shared_models.secure_aggregation.statements import Enrolment


def honest_sum(world: Federation) -> None:
    """3 and nothing hostile: a group that only the victim and corrupt sites have is closed by itself."""
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
    ghost = Enrolment(world.terms.approval, "ghost", point("ghost"), ALL)
    entry = signed(node_key("ghost"), ghost).to_json()
    for gone in ("", world.honest[-1]):
        roster = lambda name, honest, gone=gone: [*(e for n, e in honest.items() if n != gone), entry]  # noqa: E731
        Try(world, list(world.facts)).enrol().deal(roster=roster).answer().confirm().open()


def foreign_keys(world: Federation) -> None:
    """9: the center's own keys under the names of honest sites, for one site or all; it reads what is dealt to them."""
    for victims in ([world.honest[0]], world.honest):
        tried = Try(world, list(world.facts)).enrol()
        forged = {name: Forged(world, tried, name) for name in world.honest}

        def keys(name: str, honest: dict[str, Any], v: Any = victims, f: Any = forged) -> list[Any]:
            others = {other: one.to_json for other, one in f.items() if other != name} if name in v else {}
            return list((honest | others).values())

        tried.deal(keys=keys)
        for name, envelopes in tried.envelopes.items():
            for receiver, envelope in envelopes.items():
                if receiver in forged and name in victims:
                    forged[receiver].read(name, tried, bytes.fromhex(envelope))
        tried.answer().confirm().open()


def same_site_twice(world: Federation) -> None:
    """10: one site's enrolment and keys twice, or under another name with its key."""
    victim = world.honest[0]
    again = replace(world.sites[victim].enrolment, name="again")
    entry = signed(node_key(victim), again).to_json()
    Try(world, list(world.facts)).enrol().deal(
        roster=lambda name, honest: [*honest.values(), entry],
        keys=lambda name, honest: [*honest.values(), honest[victim]],
    ).answer().confirm().open()


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


def _changed(**values: Any) -> Callable[[Question], Question]:
    return lambda asked: replace(asked, **values)


STRATEGIES: Mapping[str, Callable[[Federation], None]] = {
    function.__name__: function
    for function in (
        honest_sum,
        cut_pairs,
        cut_ring,
        false_kind,
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
