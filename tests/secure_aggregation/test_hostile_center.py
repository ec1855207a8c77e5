"""A center that does what it likes, with up to c sites on its side, sees no single honest hospital."""

from __future__ import annotations

from pathlib import Path

import pytest
from algebra import revealed, violations
from federation import federation, with_groups
from strategies import STRATEGIES, honest_sum

# sites, corrupt ones, honest ones that have genomics
WORLDS = [(3, 1, 2), (6, 2, 2)]
MORE_WORLDS = [(5, 1, 2), (8, 1, 3), (4, 1, 3), (4, 2, 2), (5, 2, 3), (6, 1, 5), (7, 2, 1), (8, 2, 2), (8, 3, 5)]


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize(
    ("sites", "corrupt", "members"),
    [*WORLDS, *(pytest.param(*world, marks=pytest.mark.slow) for world in MORE_WORLDS)],
)
def test_a_directed_strategy_gets_nothing(quick_disk: Path, name: str, sites: int, corrupt: int, members: int) -> None:
    world = with_groups(quick_disk, sites, corrupt, members)
    STRATEGIES[name](world)
    assert violations(world) == []
    assert world.events or world.refusals


@pytest.mark.parametrize(("sites", "corrupt"), [(3, 1), (5, 2), (8, 3)])
def test_the_algebra_sees_the_sum_that_an_honest_center_opens(quick_disk: Path, sites: int, corrupt: int) -> None:
    world = federation(quick_disk, sites, corrupt)
    honest_sum(world)
    assert not world.refusals
    shown = revealed(world, lambda event, group: event.site)
    assert set(shown) == {"train", "genomic", "validation", "validation.x"}
    for basis in shown.values():
        assert [set(row) for row in basis] == [set(world.honest)]
