"""Directed strategies of a hostile center over several sums: retries, restarts, old keys, second processes."""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import replace
from typing import Any

from federation import Federation, pick, question
from hostile_sum import Try, all_enrolments, same_round_of, start

from shared_models.secure_aggregation import wire

Json = dict[str, Any]
_numbers = itertools.count(1)


def old_keys(world: Federation) -> None:
    """11: a site drops out, its mask key is revealed, and its old keys come again."""
    gone = world.honest[-1]
    first = start(world).answer(asked=same_round_of(world))
    first.confirm(survivors=lambda name, there: pick(there, gone)).open()
    for number in (first.number, None):
        second = Try(world, list(world.facts)).enrol()
        second.number = number or second.number
        second.deal(keys=lambda name, honest: [*(k for n, k in honest.items() if n != gone), first.keys[gone]])
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


def retry_without(world: Federation) -> None:
    """17: the same question again, over all but the victim, signed by others."""
    victim = world.honest[0]
    start(world).answer().confirm().open()
    for attempt in (1, 2):
        again = lambda name, attempt=attempt: question(attempt=attempt)  # noqa: E731
        start(world).answer(asked=again).confirm(survivors=lambda name, there: pick(there, victim)).open()
    names = pick(list(world.facts), victim)
    Try(world, names).enrol().deal(roster=lambda name, honest: all_enrolments(world)).answer().confirm().open()


def retry_nearly_the_same(world: Federation) -> None:
    """17, 18: a model one bit away in the same round, the same one in the next round, or with another request."""
    victim = world.honest[0]
    start(world).answer().confirm().open()
    other = question(round_=4, unread=1)
    for near in (question(model=1.0 + 2**-52, attempt=2), question(round_=2), question(round_=3, attempt=3), other):
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
