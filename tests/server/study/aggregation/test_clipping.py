import dataclasses
import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.study.aggregation.clipping import Influence, clip_updates, log_influences
from server.study.aggregation.guard import Update
from shared_models.messages import Arrays

START: Arrays = {"head.weight": np.array([5, -5], np.float32), "head.bias": np.array([1], np.float32)}


def update(site: str, *change: float, sites: tuple[str, ...] = ()) -> Update:
    moved = {"head.weight": START["head.weight"] + np.array(change[:2], np.float32)}
    moved["head.bias"] = START["head.bias"] + np.array(change[2:], np.float32)
    return Update(sites or (site,), moved, 10.0, {}, 0.0)


def change_of(one: Update) -> np.ndarray:
    return np.concatenate([one.change(START, name, slice(None)) for name in START])


def test_an_update_above_the_bound_is_scaled_to_it_and_keeps_its_direction() -> None:
    sites = [update("a", 3, 4, 0), update("b", 0, 5, 0), update("e", -60, -80, 0)]  # norms 5, 5, 100
    clipped, influences = clip_updates(sites, START, 3.0)
    np.testing.assert_allclose(change_of(clipped[2]), [-9, -12, 0], rtol=1e-6)
    assert clipped[:2] == sites[:2]
    assert [one.clipped for one in influences.values()] == [False, False, True]
    assert influences["e"].norm == pytest.approx(100)
    # after clipping, the others' mean is (-4.5, -3.5, 0) for a, and (1.5, 4.5, 0) for e
    assert influences["a"].cosine == pytest.approx((-13.5 - 14) / 5 / (4.5**2 + 3.5**2) ** 0.5)
    assert influences["e"].cosine == pytest.approx((-9 * 1.5 - 12 * 4.5) / 15 / (1.5**2 + 4.5**2) ** 0.5)


def test_an_update_at_the_bound_itself_is_not_clipped() -> None:
    sites = [update("a", 1, 0, 0), update("b", 1, 0, 0), update("c", 3, 0, 0)]
    assert not clip_updates(sites, START, 3.0)[1]["c"].clipped
    assert clip_updates(sites, START, 2.9)[1]["c"].clipped


@given(st.floats(2.0**-10, 2.0**100, width=32), st.integers(0, 4))
def test_a_hostile_minority_moves_the_mean_by_no_more_than_its_share_of_the_bound(scale: float, place: int) -> None:
    sites = [update(name, 1, 0, 0) for name in "abcde"]
    sites[place] = update("abcde"[place], 0, -scale, 0)
    clipped, _ = clip_updates(sites, START, 3.0)
    assert np.linalg.norm(change_of(clipped[place])) <= 3.0 * (1 + 1e-5)
    assert all(change_of(one)[0] == 1 for index, one in enumerate(clipped) if index != place)


def test_with_0_nothing_is_clipped_and_the_norms_are_told_all_the_same() -> None:
    sites = [update("a", 1, 0, 0), update("b", 1, 0, 0), update("e", 1e6, 0, 0)]
    clipped, influences = clip_updates(sites, START, 0.0)
    assert clipped == sites
    assert influences["e"].norm == pytest.approx(1e6)


def test_a_secure_sum_shows_no_single_norm() -> None:
    together = [update("", 1, 0, 0, sites=("a", "b", "c"))]
    assert clip_updates(together, START, 3.0) == (together, {})


def test_who_changed_nothing_has_no_cosine(caplog: pytest.LogCaptureFixture) -> None:
    _, influences = clip_updates([update("a", 0, 0, 0), update("b", 2, 0, 0)], START, 3.0)
    assert influences == {"a": Influence(0.0, None, False), "b": Influence(2.0, None, False)}
    with caplog.at_level(logging.INFO, logger="server"):
        log_influences(influences)
    assert caplog.messages[-1:] == ["norms of the updates, and cosines to the others' mean: a 0 none; b 2 none"]


def test_what_a_rule_adds_is_clipped_by_itself_and_says_how_much_is_left() -> None:
    changes = {"a": [3, 4], "b": [0, 5], "e": [-60, -80]}
    sites = [
        dataclasses.replace(update(site, 1, 0, 0), rule_change={"head.weight": np.array(change, np.float32)})
        for site, change in changes.items()
    ]
    clipped, influences = clip_updates(sites, START, 3.0)
    zeros = {"head.weight": np.zeros(2, np.float32)}
    np.testing.assert_allclose(clipped[2].of_rule().change(zeros, "head.weight", slice(None)), [-9, -12])
    assert [one.rule_share for one in clipped] == pytest.approx([1, 1, 0.15])
    assert not any(one.clipped for one in influences.values())


def test_a_round_without_updates_has_nothing_to_clip() -> None:
    assert clip_updates([], START, 3.0) == ([], {})
