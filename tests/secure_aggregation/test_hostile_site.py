"""A hostile site is named, left out, or proved a cheat; the sum goes on, and no honest site is ever proved one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from federation import node_key, question
from network import Network, assert_exact, run_of, spoil, world_of

from client.governance.secure_aggregation import dealing
from server.study.secure_aggregation.summing import NoSumError
from shared_models.secure_aggregation import wire
from shared_models.secure_aggregation.blame import Proof
from shared_models.secure_aggregation.secrets import new_private_key, public_of
from shared_models.secure_aggregation.signing import digest, read_signed, signed
from shared_models.secure_aggregation.statements import Deal, Keys

EXCHANGES = ["enrol", "deal", "answer", "confirm", "open"]


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
    world, proofs = world_of(quick_disk, 4, 1), {}
    network, run = Network(world), run_of(world)
    for round_ in (1, 2):
        value = question(round_=round_, model=round_)
        run.add_up(value, list(world.facts), network.asking(value))
        session = {name: world.sessions[name].sums[run.members.number] for name in world.facts}
        deal = read_signed(wire.parse(session["s0"].replies["deal"][1]["control"])["deal"], Deal)
        shares = {name: known.shares["s0"]["seed.train"] for name, known in session.items()}
        proofs[round_] = Proof(session["s0"].own, deal, "seed.train", shares)
    node_keys = {site.name: site.node_key for site in run.members.roster}
    one, two = proofs[1], proofs[2]
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
