"""An honest center gets the exact sum, whoever drops out within the table, and whatever a hostile site answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from federation import Federation, Network, federation, node_key, plain_sum, question, with_groups

from client.governance.secure_aggregation import dealing
from server.study.secure_aggregation import NoSumError, Opened, SecureAggregation
from shared_models.secure_aggregation import wire
from shared_models.secure_aggregation.blame import Proof
from shared_models.secure_aggregation.question import Question
from shared_models.secure_aggregation.secrets import new_private_key, public_of
from shared_models.secure_aggregation.signing import digest, read_signed, signed
from shared_models.secure_aggregation.statements import Deal, Keys

TABLE = {(3, 1): 0, (4, 1): 1, (4, 2): 0, (5, 1): 1, (5, 2): 1, (5, 3): 0, (8, 1): 3, (8, 2): 2, (8, 3): 2, (8, 4): 1}
QUICK = [(3, 1), (4, 1), (4, 2), (5, 2)]
SIZES = [
    *(pytest.param(*size) for size in QUICK),
    *(pytest.param(*size, marks=pytest.mark.slow) for size in TABLE if size not in QUICK),
]
EXCHANGES = ["enrol", "deal", "answer", "confirm", "open"]


def world_of(folder: Path, sites: int, colluders: int) -> Federation:
    return federation(folder, sites, colluders=colluders)


def run_of(world: Federation) -> SecureAggregation:
    return SecureAggregation(world.terms, "1")


def assert_exact(opened: Opened, value: Question) -> None:
    """Every open group's sum is that of its members among the survivors."""
    for group, block in opened.blocks.items():
        updates, statistics = opened.layout.named(group, block)
        expected = plain_sum(opened.groups[group], value)
        for found, plain, accuracy in ((updates, expected[0], 2.0**-20), (statistics, expected[1], 1e-12)):
            for name, array in found.items():
                np.testing.assert_allclose(array, plain[name], rtol=0, atol=accuracy, err_msg=name)


@pytest.mark.parametrize("sites", range(3, 9))
def test_a_sum_is_the_plain_one_in_five_exchanges_and_then_in_three(quick_disk: Path, sites: int) -> None:
    world = world_of(quick_disk, sites, 1)
    network, run = Network(world), run_of(world)
    for round_ in (1, 2, 3):
        value = question(round_=round_, model=round_)
        opened = run.add_up(value, list(world.facts), network.asking(value), "train")
        assert set(opened.groups) == {"train", "genomic", "validation"}
        assert opened.groups["train"] == tuple(world.facts)
        assert_exact(opened, value)
    assert network.asked == [*EXCHANGES, *EXCHANGES[2:] * 2]
    assert not run.problems


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
            continue
        opened = run.add_up(value, names, network.asking(value))
        assert_exact(opened, value)
        left = set(names) - set(gone) if exchange in EXCHANGES[:3] else set(names)
        assert set(opened.survivors.sites) == left
        assert set(run.problems) == set(gone)


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
    assert set(opened.view.groups) == {"train", "genomic", "validation"}
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


def spoil(field: str, value: object) -> Callable[[wire.Message], wire.Message]:
    def change(reply: wire.Message) -> wire.Message:
        control = wire.parse(reply["control"])
        return {**reply, "control": wire.canonical({**control, field: value})}

    return change


HOSTILE_REPLIES: dict[str, tuple[str, Callable[[wire.Message], wire.Message]]] = {
    **{f"nested JSON as its {e}": (e, lambda _: {"control": b"[" * 200_000}) for e in EXCHANGES},
    "keys that are none": ("enrol", spoil("keys", {"statement": {"mask_key": "00"}, "signature": "00"})),
    "envelopes that are none": ("deal", spoil("envelopes", {"s0": "zz"})),
    "other envelopes than it signed": ("deal", spoil("envelopes", dict.fromkeys(["s0", "s1", "s2", "s3"], "00"))),
    "a signature that is none": ("answer", spoil("signature", "00" * 100)),
    "another layout": ("answer", spoil("layout", {"updates": {"train": {"w": [3]}}, "statistics": {}})),
    "a layout of 2 ** 60 numbers": (
        "answer",
        spoil("layout", {"updates": {"train": {"w": [2**31, 2**29]}}, "statistics": {}}),
    ),
    "a block too short": ("answer", lambda reply: {**reply, "block/train": b"short"}),
    "a block too many": ("answer", lambda reply: {**reply, "block/other": b""}),
    "a block of no bytes": ("answer", lambda reply: {**reply, "block/train": "text"}),  # type: ignore[dict-item]
    "no signature of S": ("confirm", spoil("signature", "00" * 100)),
    "shares that are none": ("open", spoil("shares", {"s0": {"seed.train": ["00", "00"]}})),
    "shares of others": ("open", spoil("shares", {"s0": {"seed.train": ["00" * 32, "00" * 32]}})),
    "no record": ("answer", lambda _: "no record"),  # type: ignore[arg-type,return-value]
}


@pytest.mark.parametrize("what", HOSTILE_REPLIES)
def test_a_sum_goes_on_without_a_hostile_site_and_names_it(quick_disk: Path, what: str) -> None:
    world, (at, change) = world_of(quick_disk, 5, 1), HOSTILE_REPLIES[what]
    network, run = Network(world), run_of(world)
    first, value = question("query.prepare", 0, model=0.0), question()
    run.add_up(first, list(world.facts), network.asking(first))
    network.tamper = lambda exchange, name, reply: change(reply) if (exchange, name) == (at, "s4") else reply
    opened = run.add_up(value, list(world.facts), network.asking(value))
    assert_exact(opened, value)
    assert set(opened.survivors.sites) >= {"s0", "s1", "s2", "s3"}
    assert ("s4" in opened.survivors.sites) == (at in ("confirm", "open"))
    if what != "shares of others":
        assert set(run.problems) == {"s4"}


def while_dealing(name: str, **patches: Callable[..., object]) -> Callable[[str, str], AbstractContextManager[None]]:
    """One site's program deals in another way."""

    @contextmanager
    def around() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for function, stand_in in patches.items():
                patch.setattr(dealing, function, stand_in)
            yield

    return lambda exchange, site: around() if (exchange, site) == ("deal", name) else nullcontext()


def test_a_dealer_whose_envelopes_do_not_open_is_left_out_by_name(quick_disk: Path) -> None:
    world, value, again = world_of(quick_disk, 5, 1), question(), question(attempt=2)
    network, run = Network(world, around=while_dealing("s4", seal=lambda *_: b"no envelope at all")), run_of(world)
    with pytest.raises(NoSumError, match="s4 is left out"):
        run.add_up(value, list(world.facts), network.asking(value))
    opened = run.add_up(again, list(world.facts), network.asking(again))
    assert_exact(opened, again)
    assert opened.survivors.sites == ("s0", "s1", "s2", "s3")
    assert "do not reach the others" in run.problems["s4"]


def test_a_dealer_of_inconsistent_shares_is_proved_and_the_same_question_asked_without_it(quick_disk: Path) -> None:
    world, value, again = world_of(quick_disk, 5, 1), question(), question(attempt=2)
    wrong = while_dealing("s4", split=lambda secret, _, holders: [bytes(len(secret))] * holders)
    network, run = Network(world, around=wrong), run_of(world)
    with pytest.raises(NoSumError, match="s4 is left out"):
        run.add_up(value, list(world.facts), network.asking(value))
    opened = run.add_up(again, list(world.facts), network.asking(again))
    assert_exact(opened, again)
    assert opened.survivors.sites == ("s0", "s1", "s2", "s3")
    assert len(run.proofs) == 1


def test_no_proof_holds_against_an_honest_site(quick_disk: Path) -> None:
    """Keys of one sum and a deal of another, too few shares, forged ones, other secrets."""
    world, found = world_of(quick_disk, 4, 1), {}
    network, run = Network(world), run_of(world)
    for round_ in (1, 2):
        value = question(round_=round_, model=round_)
        run.add_up(value, list(world.facts), network.asking(value))
        session = {name: world.sessions[name].sums[run.members.number] for name in world.facts}
        deal = read_signed(wire.parse(session["s0"].replies["deal"][1]["control"])["deal"], Deal)
        shares = {name: known.shares["s0"]["seed.train"] for name, known in session.items()}
        found[round_] = Proof(session["s0"].own, deal, "seed.train", shares)
    node_keys = {site.name: site.node_key for site in run.members.roster}
    one, two = found[1], found[2]
    few = dict(list(one.shares.items())[:2])
    forged = signed(node_key("ghost"), replace(one.keys.statement, mask_key=public_of(new_private_key())))
    tries = [
        one,
        replace(one, keys=two.keys),
        replace(one, deal=two.deal),
        replace(one, shares=few),
        replace(one, shares={name: (salt, bytes(32)) for name, (salt, _) in one.shares.items()}),
        replace(one, secret="mask"),
        replace(one, secret="seed.other"),
        replace(one, keys=forged),
        replace(
            one,
            keys=forged,
            deal=signed(node_key("ghost"), replace(one.deal.statement, own_keys=digest(forged.statement))),
        ),
    ]
    assert not any(proof.holds(world.terms.approval, node_keys) for proof in tries)
    assert isinstance(one.keys.statement, Keys)
    assert Proof.read(wire.parse(wire.canonical(one.to_json()))) == one
