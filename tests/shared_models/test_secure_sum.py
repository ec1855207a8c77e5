from __future__ import annotations

import os
from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shared_models.secure_sum import (
    FIXED,
    STATISTICS,
    WEIGHTS,
    Member,
    Vector,
    flatten,
    group_of,
    group_of_parameter,
    least_survivors,
    pack_members,
    summed_groups,
    unflatten,
    unpack_members,
)

ANY = st.floats(-1e60, 1e60).map(lambda value: 0.0 if abs(value) < 1e-20 else value)


@given(arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 8)), elements=ANY))
def test_a_sum_of_statistics_is_the_sum_of_the_real_numbers(values: np.ndarray) -> None:
    total = reduce(Vector.plus, (Vector.of(np.zeros(1), row) for row in values)).real()[1]
    scale = np.abs(values).max(axis=0)
    assert (np.abs(total - values.sum(axis=0)) <= 1e-14 * scale + 1e-27).all()


@given(arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 8)), elements=st.floats(-4e8, 4e8)))
def test_a_sum_of_weights_is_right_to_the_last_bits(values: np.ndarray) -> None:
    total = reduce(Vector.plus, (Vector.of(row, np.zeros(1)) for row in values)).real()[0]
    rounding = len(values) * 2.0**-25 + 4 * np.spacing(np.abs(values).sum(axis=0))
    assert (np.abs(total - values.sum(axis=0)) <= rounding).all()


@given(st.lists(st.integers(-(2**53), 2**53), min_size=1, max_size=6))
def test_whole_numbers_are_exact(values: list[int]) -> None:
    total = reduce(Vector.plus, (Vector.of(np.zeros(0), np.array([float(v)])) for v in values)).real()[1][0]
    assert total == float(sum(values))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e70])
def test_what_has_no_place_in_a_sum_is_refused(value: float) -> None:
    for name in (WEIGHTS, STATISTICS):
        with pytest.raises(ValueError, match="not finite or too large"):
            FIXED[name].encode(np.array([1.0, value]))


def test_a_mask_hides_the_numbers_and_goes_again() -> None:
    plain = Vector.of(np.full(4096, 0.25), np.full(1000, 7.0))
    key = os.urandom(32)
    masked = plain.plus_mask(key)
    for part in (masked.weights, masked.statistics):
        bits = np.unpackbits(part.view(np.uint8))
        assert abs(bits.mean() - 0.5) < 5 * 0.5 / np.sqrt(len(bits)), "a mask has as many ones as zeros"
        assert len(np.unique(part)) == part.size
    back = masked.plus_mask(key, -1)
    np.testing.assert_array_equal(back.weights, plain.weights)
    np.testing.assert_array_equal(back.statistics, plain.statistics)
    assert (masked.plus_mask(os.urandom(32), -1).weights != plain.weights).all()


def test_two_pairwise_masks_cancel() -> None:
    one, two = Vector.of(np.array([1.5]), np.array([-3.0])), Vector.of(np.array([2.0]), np.array([1e40]))
    key = os.urandom(32)
    weights, statistics = one.plus_mask(key, 1).plus(two.plus_mask(key, -1)).real()
    assert (weights[0], statistics[0]) == (3.5, 1e40)


def test_arrays_are_flattened_by_name_and_come_back() -> None:
    before = {"b": np.arange(6.0).reshape(2, 3), "a": np.array(5.0)}
    after = unflatten(flatten(before), {"b": (2, 3), "a": ()})
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array)
    with pytest.raises(ValueError, match="7 numbers do not fill arrays of 6"):
        unflatten(flatten(before), {"b": (2, 3)})


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("features.genomic.total", "genomic"),
        ("patients.train", "train"),
        ("patients.mri", "mri"),
        ("counts.er", "train"),
        ("loss", "train"),
        ("validation.er.positives", "validation"),
        ("test.er.positives", "test"),
    ],
)
def test_every_statistic_belongs_to_those_who_add_to_it(name: str, group: str) -> None:
    assert group_of(name) == group


def test_an_encoder_belongs_to_those_who_have_its_modality() -> None:
    assert group_of_parameter("tokens.encoders.mri.stem.weight") == "mri"
    assert group_of_parameter("head.weight") == "train"


def test_two_thirds_open_a_secret_and_never_fewer_than_three() -> None:
    assert [least_survivors(n) for n in (3, 4, 5, 6, 7, 9, 12)] == [3, 3, 4, 4, 5, 6, 8]
    assert all(2 * least_survivors(n) > n for n in range(3, 50)), "else a center could open both secrets of a site"


def test_what_fewer_than_three_add_to_is_not_summed() -> None:
    members = [
        Member(n, b"m" + n.encode(), b"s" + n.encode(), ("train", "mri") if n < "c" else ("train",)) for n in "abcd"
    ]
    assert summed_groups(members) == {"train"}


def test_members_travel_as_text_and_none_stands_twice() -> None:
    one, two = Member("a", b"1", b"2", ("train",), b"\x00\xff"), Member("b", b"3", b"4", ())
    assert unpack_members(pack_members([two, one])) == [one, two]
    for twice in ([one, one], [one, Member("b", b"1", b"4", ())], [one, Member("b", b"3", b"1", ())]):
        with pytest.raises(ValueError, match="stands twice"):
            unpack_members(pack_members(twice))
    with pytest.raises(ValueError, match="cannot be read"):
        unpack_members('[{"name": "a"}]')
    assert one.statement("this sum") != one.statement("another sum")
