"""Each check of a site is needed: without it, a directed strategy gets something, or another check stands behind it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from algebra import violations
from federation import Federation, with_groups
from strategies import STRATEGIES

from client.governance.secure_aggregation import dealing
from shared_models.secure_aggregation import groups

CHECKS = "client.governance.secure_aggregation.checks"
REMOVED = {
    "C2": "check_keys",
    "C4": "check_deals",
    "C5": "mark_used",
    "C6": "check_survivors",
    "C7": "sign_once",
    "C8": "check_signers",
}
SECOND_BELTS = {
    "C4": "A deal for other keys, or with another threshold, gives its dealer another view, which C6 keeps out of U. A "
    "forged deal comes with an envelope that its receiver cannot open, so nobody holds a share of it. Too few present "
    "sites cannot be enough survivors (C6). Nothing but the blame of a dealer rests on C4 alone.",
}
FOUND_BY = {
    "C2": "foreign_keys",
    "C5": "two_questions",
    "C6": "open_before_masking",
    "C7": "retry_without",
    "C8": "both_secrets",
    "shared seeds": "shrunk_group",
    "zeros back": "honest_sum",
}


SLOW = [pytest.param(check, marks=pytest.mark.slow) for check in SECOND_BELTS]  # all strategies fail


@pytest.fixture(params=[*FOUND_BY, *SLOW])
def removed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """One thing that protects sites is not there."""
    if request.param in REMOVED:
        monkeypatch.setattr(f"{CHECKS}.{REMOVED[request.param]}", lambda *_: ())
    elif request.param == "shared seeds":
        _share_seeds(monkeypatch)
    else:
        everything = groups.Facts(True, True, True, ("genomic",), ("test.x", "validation.x"))
        plain = groups.groups_of
        monkeypatch.setattr(groups, "groups_of", lambda kind, facts: plain(kind, everything))
    return str(request.param)


def _share_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """All groups of one set of keys share a seed."""
    plain, newest = dealing.new_private_key, [b""]

    def new_private_key() -> bytes:
        newest[0] = plain()[:32]
        return plain()

    monkeypatch.setattr(dealing, "new_private_key", new_private_key)
    monkeypatch.setattr(dealing, "new_seed", lambda: newest[0])


def worlds(folder: Path) -> list[Callable[[], Federation]]:
    """One with a group of a single honest site, one with a small group, one with a large one."""
    sizes = [(4, 1, 1), (6, 2, 2), (8, 1, 3)]
    return [lambda size=size: with_groups(folder, *size) for size in sizes]


def test_without_it_a_directed_strategy_gets_something(removed: str, quick_disk: Path) -> None:
    names = STRATEGIES if removed in SECOND_BELTS else [FOUND_BY[removed]]
    successful = set()
    for name in names:
        for make in worlds(quick_disk):
            world = make()
            world.refuses = (Exception,)
            STRATEGIES[name](world)
            successful |= {name} if violations(world) else set()
    assert successful == (set() if removed in SECOND_BELTS else set(names))
