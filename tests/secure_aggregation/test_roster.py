"""Who may be in a secure sum with this site: those who signed themselves, whom it knows, for good."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from federation import ALL, Federation, federation, node_key, point, question
from network import Network, assert_exact, run_of, spoil

from client.governance.secure_aggregation import checks
from shared_models.secure_aggregation.signing import Signed, signed
from shared_models.secure_aggregation.statements import Enrolment, Facts
from shared_models.secure_aggregation.wire import ProtocolError

Roster = list[Signed[Enrolment]]


def roster_of(world: Federation) -> Roster:
    return [signed(node_key(name), site.enrolment) for name, site in world.sites.items()]


def changed(index: int, by: str = "", **fields: object) -> Callable[[Roster], Roster]:
    """One entry with other fields, signed by its own node key or another."""

    def change(roster: Roster) -> Roster:
        one = replace(roster[index].statement, **fields)  # type: ignore[arg-type]
        return [*roster[:index], signed(node_key(by or one.name), one), *roster[index + 1 :]]

    return change


WRONG: dict[str, Callable[[Roster], Roster]] = {
    "without this site": lambda roster: roster[1:],
    "this site with other facts": changed(0, facts=Facts(True, True, True)),
    "a site twice": lambda roster: [*roster, roster[1]],
    "one key under two names": lambda roster: [*roster, *changed(1, by="s1", name="again")(roster)[1:2]],
    "a site of another approval": changed(1, approval="cd" * 32),
    "a site with another's signature": changed(1, by="s2"),
    "a site with another key than its own": changed(1, by="ghost", node_key=point("ghost")),
    "a stranger": lambda roster: [
        *roster,
        signed(node_key("x"), replace(roster[1].statement, name="x", node_key=point("x"))),
    ],
}


@pytest.mark.parametrize("what", WRONG)
def test_a_roster_that_is_not_as_its_sites_signed_it_is_refused(quick_disk: Path, what: str) -> None:
    world = federation(quick_disk, 4)
    site, roster = world.sites["s0"], roster_of(world)
    site.record.enrol(roster[0])
    with pytest.raises(ProtocolError):
        checks.check_roster(site, WRONG[what](roster))
    assert site.record.roster() is None
    assert site.record.pins() == {}
    checks.check_roster(site, roster)
    with pytest.raises(ProtocolError, match="the one that this approval has"):
        checks.check_roster(site, roster[:3])
    checks.check_roster(site, roster[::-1])


def test_without_partners_a_sum_is_unverified_and_required_refuses_it(quick_disk: Path) -> None:
    world = Federation(quick_disk, dict.fromkeys(["s0", "s1", "s2"], ALL), frozenset(), partners=False)
    opened = run_of(world).add_up(question(), list(world.facts), Network(world).asking(question()))
    assert_exact(opened, question())
    site = world.sites["s0"]
    assert not checks.is_verified(site, site.record.roster() or ())
    strict = Federation(quick_disk, world.facts, frozenset(), partners=False).sites["s0"]
    with pytest.raises(ProtocolError, match="required"):
        checks.check_roster(replace(strict, verified_only=True), roster_of(world))
    known = federation(quick_disk, 3).sites["s0"]
    assert checks.is_verified(known, [one.statement for one in roster_of(world)])


def test_one_site_cannot_give_the_center_a_roster_of_its_own(quick_disk: Path) -> None:
    world = federation(quick_disk, 4)
    own = [one.to_json() for one in roster_of(world)[3:]]
    change = spoil("roster", own)
    network = Network(world, tamper=lambda at, name, reply: change(reply) if (at, name) == ("enrol", "s3") else reply)
    opened = run_of(world).add_up(question(), list(world.facts), network.asking(question()))
    assert opened.view.sites == 4
