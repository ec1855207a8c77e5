"""A center that does what it likes, with up to c sites on its side, sees no single honest hospital."""

from __future__ import annotations

from pathlib import Path

import pytest
from algebra import revealed, violations
from federation import federation
from strategies import STRATEGIES, honest_sum

SIZES = [(3, 1), (4, 1), (5, 1), (5, 2), (6, 1), (6, 2), (8, 2), (8, 3)]


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize(("sites", "corrupt"), SIZES)
def test_a_directed_strategy_gets_nothing(quick_disk: Path, name: str, sites: int, corrupt: int) -> None:
    world = federation(quick_disk, sites, corrupt)
    STRATEGIES[name](world)
    assert violations(world) == []
    assert world.events or world.refusals


@pytest.mark.parametrize(("sites", "corrupt"), SIZES)
def test_the_algebra_sees_the_sum_that_an_honest_center_opens(quick_disk: Path, sites: int, corrupt: int) -> None:
    world = federation(quick_disk, sites, corrupt)
    honest_sum(world)
    assert not world.refusals
    shown = revealed(world, lambda event, group: event.site)
    assert set(shown) == {"train", "genomic", "validation"}
    for basis in shown.values():
        assert [set(row) for row in basis] == [set(world.honest)]
