"""An honest center gets the exact sum, whoever drops out within the table, and whatever a hostile site answers."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from algebra import revealed, violations
from federation import ALL, Federation, question, with_groups
from network import Network, assert_exact, run_of, world_of

from server.study.secure_aggregation.spooled_message import SpooledMessage
from server.study.secure_aggregation.summing import NoSumError, SecureAggregation
from server.study.weights import spool
from shared_models.secure_aggregation.wire import Message

TABLE = {(3, 1): 0, (4, 1): 1, (4, 2): 0, (5, 1): 1, (5, 2): 1, (5, 3): 0, (8, 1): 3, (8, 2): 2, (8, 3): 2, (8, 4): 1}
QUICK = [(3, 1), (4, 1), (4, 2), (5, 2)]
SIZES = [
    *(pytest.param(*size) for size in QUICK),
    *(pytest.param(*size, marks=pytest.mark.slow) for size in TABLE if size not in QUICK),
]
EXCHANGES = ["enrol", "deal", "answer", "confirm", "open"]


@pytest.mark.parametrize("sites", range(3, 9))
def test_a_sum_is_the_plain_one_in_five_exchanges_and_then_in_three(quick_disk: Path, sites: int) -> None:
    world = world_of(quick_disk, sites, 1)
    network, run = Network(world), run_of(world)
    for round_ in (1, 2, 3):
        value = question(round_=round_, model=round_)
        opened = run.add_up(value, list(world.facts), network.asking(value), "train")
        assert set(opened.groups) == {"train", "genomic", "validation", "validation.x"}
        assert opened.groups["train"] == tuple(world.facts)
        assert_exact(opened, value)
    assert network.asked == [*EXCHANGES, *EXCHANGES[2:] * 2]
    assert not run.problems


def test_masked_numbers_that_lie_on_the_disk_give_the_same_sum(
    quick_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "IN_MEMORY_BYTES", 0)
    world, value, disk = world_of(quick_disk, 4, 1), question(), spool.Spool(tmp_path)
    answers: list[SpooledMessage] = []

    def stored(exchange: str, name: str, reply: Message) -> Message:
        if exchange != "answer":
            return reply
        answers.append(SpooledMessage(reply, disk))
        assert dict(answers[-1]) == dict(reply)
        return answers[-1]

    assert_exact(run_of(world).add_up(value, list(world.facts), Network(world, tamper=stored).asking(value)), value)
    assert disk.file().seek(0, 2) >= sum(len(block) for one in answers for name, block in one.items() if "/" in name)


def test_a_site_that_always_refuses_costs_few_rounds_a_target_that_too_few_know(
    quick_disk: Path,
) -> None:
    known = replace(ALL, known=("train.her2",))
    world = Federation(quick_disk, {"a": known, "b": known, "c": known, "d": ALL}, frozenset())
    run, network = run_of(world), Network(world, lost=lambda exchange, name: (exchange, name) == ("answer", "c"))
    tried = []
    for round_ in range(1, 8):
        opened = None
        for attempt in (1, 2):
            value = question(round_=round_, attempt=attempt, model=round_)
            with suppress(NoSumError):
                opened = run.add_up(value, list(world.facts), network.asking(value), "train")
                tried.append(attempt)
                break
        assert opened is not None
        assert_exact(opened, value)
        assert opened.survivors.sites == ("a", "b", "d")
        assert "train.her2" not in opened.groups
        assert "c" in run.problems
    assert tried == [2, 2, 1, 2, 1, 1, 1]
    network.lost = lambda exchange, name: False
    value = question(round_=8, model=8)
    assert run.add_up(value, list(world.facts), network.asking(value)).survivors.sites == ("a", "b", "c", "d")


@pytest.mark.parametrize(("sites", "colluders"), SIZES)
@pytest.mark.parametrize("exchange", EXCHANGES)
def test_a_sum_survives_who_may_be_lost_and_no_more(
    quick_disk: Path, sites: int, colluders: int, exchange: str
) -> None:
    may_be_lost = TABLE[sites, colluders]
    for lost in (may_be_lost, may_be_lost + 1):
        world, first, value = (
            world_of(quick_disk, sites, colluders),
            question("query.prepare", 0, model=0.0),
            question(),
        )
        names = list(world.facts)
        network, run = Network(world), run_of(world)
        assert_exact(run.add_up(first, names, network.asking(first)), first)
        gone = names[1 : 1 + lost]
        network.lost = lambda at, name, gone=gone: at == exchange and name in gone
        if lost > may_be_lost:
            with pytest.raises(NoSumError, match=r"are needed"):
                run.add_up(value, names, network.asking(value))
            masked = [event for event in world.events if event.question == value]
            shown = revealed(replace(world, events=masked), lambda event, group: event.site)
            assert not any(shown.values())
            continue
        opened = run.add_up(value, names, network.asking(value))
        assert_exact(opened, value)
        left = set(names) - set(gone) if exchange in EXCHANGES[:3] else set(names)
        assert set(opened.survivors.sites) == left
        assert set(run.problems) == set(gone)
        assert violations(world) == []


def test_a_site_that_returns_is_there_again(quick_disk: Path) -> None:
    world, run = world_of(quick_disk, 5, 1), None
    run, names = run_of(world), list(world.facts)
    network = Network(world, lost=lambda exchange, name: name == "s1" and len(network.asked) == 3)
    for round_, there in ((1, 4), (2, 4), (3, 5)):
        value = question(round_=round_, model=round_)
        reachable = names if round_ != 2 else [name for name in names if name != "s1"]
        opened = run.add_up(value, reachable, network.asking(value), "train")
        assert len(opened.survivors.sites) == there
        assert_exact(opened, value)
    assert network.asked == [*EXCHANGES, *EXCHANGES[2:], *EXCHANGES]


def test_a_group_that_shrinks_below_the_least_stays_closed(quick_disk: Path) -> None:
    world = with_groups(quick_disk, 5, 0, 3)
    network = Network(world, lost=lambda exchange, name: (exchange, name) == ("answer", "s1"))
    opened = run_of(world).add_up(question(), list(world.facts), network.asking(question()))
    assert set(opened.view.groups) == {"train", "genomic", "validation", "validation.x"}
    assert set(opened.blocks) == {"train", "validation"}
    assert_exact(opened, question())


def test_a_latecomer_is_named_and_not_asked_on(quick_disk: Path) -> None:
    world = world_of(quick_disk, 5, 1)
    network, run = Network(world, lost=lambda exchange, name: name == "s4"), run_of(world)
    value, after = question(), question(round_=2, model=2.0)
    run.add_up(value, list(world.facts), network.asking(value))
    network.lost = lambda exchange, name: False
    opened = run.add_up(after, list(world.facts), network.asking(after))
    assert opened.survivors.sites == ("s0", "s1", "s2", "s3")
    assert "came after the others" in run.problems["s4"]


def test_a_new_run_learns_the_roster_from_the_sites(quick_disk: Path) -> None:
    world = world_of(quick_disk, 4, 1)
    value, after = question(), question(round_=2, model=2.0)
    run_of(world).add_up(value, list(world.facts), Network(world).asking(value))
    network = Network(world, lost=lambda exchange, name: exchange == "enrol" and name == "s3")
    opened = SecureAggregation(world.terms, "2").add_up(after, list(world.facts), network.asking(after))
    assert opened.view.sites == 4
    assert opened.survivors.sites == ("s0", "s1", "s2")


def test_the_same_question_is_repeated_over_the_same_sites_only(quick_disk: Path) -> None:
    world, value = world_of(quick_disk, 4, 1), question()
    network, run = Network(world, lost=lambda exchange, _: exchange == "open"), run_of(world)
    with pytest.raises(NoSumError, match="shares"):
        run.add_up(value, list(world.facts), network.asking(value))
    network.lost, again = (lambda exchange, name: name == "s3"), question(attempt=2)
    with pytest.raises(NoSumError, match="s3"):
        run.add_up(again, list(world.facts), network.asking(again))
    network.lost, again = (lambda exchange, name: False), question(attempt=3)
    assert_exact(run.add_up(again, list(world.facts), network.asking(again)), again)
