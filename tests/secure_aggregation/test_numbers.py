"""Numbers in fixed point, thresholds, groups and secrets: the parts of a secure sum one by one."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_models.secure_aggregation import secrets
from shared_models.secure_aggregation.encoding import Block
from shared_models.secure_aggregation.groups import (
    KINDS,
    all_groups,
    group_of_array,
    group_of_parameter,
    groups_of,
    learned,
    participants,
)
from shared_models.secure_aggregation.layout import Contribution
from shared_models.secure_aggregation.parameters import Quorum, Terms, default_colluders
from shared_models.secure_aggregation.question import Question
from shared_models.secure_aggregation.statements import Enrolment, Facts
from shared_models.secure_aggregation.wire import ProtocolError

TERMS = Terms("ab" * 32, 1, 5)
# from the design: sites, colluders, threshold, may be lost
TABLE = [(3, 1, 3, 0), (4, 1, 3, 1), (4, 2, 4, 0), (5, 1, 4, 1), (5, 2, 4, 1), (5, 3, 5, 0)]
TABLE += [(8, 1, 5, 3), (8, 2, 6, 2), (8, 3, 6, 2), (8, 4, 7, 1)]


@pytest.mark.parametrize(("sites", "colluders", "threshold", "may_be_lost"), TABLE)
def test_the_threshold_is_that_of_the_table(sites: int, colluders: int, threshold: int, may_be_lost: int) -> None:
    quorum = Quorum(sites, colluders)
    assert (quorum.threshold, quorum.may_be_lost) == (threshold, may_be_lost)


@given(st.integers(3, 1023), st.data())
def test_any_two_quorums_share_an_honest_site_and_a_group_has_two(sites: int, data: st.DataObject) -> None:
    colluders = data.draw(st.integers(1, sites - 2))
    quorum = Quorum(sites, colluders)
    assert 2 * quorum.threshold - sites > colluders
    assert quorum.least_group - colluders == 2
    assert quorum.threshold <= sites
    assert 1 <= default_colluders(sites) <= sites - 2


@pytest.mark.parametrize(("sites", "colluders"), [(2, 1), (3, 2), (3, 0), (1024, 1), (5, -1)])
def test_too_few_sites_for_the_colluders_are_refused(sites: int, colluders: int) -> None:
    with pytest.raises(ValueError, match="are needed"):
        Quorum(sites, colluders)


@pytest.mark.parametrize(
    "change",
    [
        {"update_bound": 1e4, "patients_bound": 10**6},
        {"update_bound": math.nan},
        {"update_bound": math.inf},
        {"update_bound": 0.0},
        {"patients_bound": 0},
        {"rounds": 0},
        {"attempts": 0},
        {"survivor_sets": 0},
    ],
)
def test_terms_that_do_not_fit_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"fit|at least"):
        Terms(**{"approval": "ab" * 32, "colluders": 1, "rounds": 5, **change})  # type: ignore[arg-type]


def test_the_largest_sum_of_updates_does_not_overflow() -> None:
    terms = Terms("ab" * 32, 1, 5, update_bound=2.0, patients_bound=2**27)
    with pytest.raises(ValueError, match="53 bits"):
        Terms("ab" * 32, 1, 5, update_bound=4.0, patients_bound=2**27)
    for value in (1e300, -1e300):
        block = Block.of(np.array([value]), np.zeros(0), 1e12, terms)
        total = block
        for _ in range(1022):
            total = total.plus(block)
        assert total.real()[0][0] == math.copysign(1023.0 * 2.0 * 2**27, value)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=5), st.integers(0, 10**6))
def test_an_update_is_exact_to_half_a_step(values: list[float], patients: int) -> None:
    decoded = Block.of(np.array(values), np.zeros(0), patients, TERMS).real()[0]
    for value, one in zip(values, decoded, strict=True):
        assert (
            abs(Fraction(float(one)) - Fraction(value) * patients)
            <= Fraction(1, 2**25) + abs(Fraction(value) * patients) / 2**52
        )


@given(st.lists(st.floats(-1e60, 1e60), min_size=1, max_size=8))
def test_a_sum_of_statistics_is_exact_to_its_last_bits(values: list[float]) -> None:
    blocks = [Block.of(np.zeros(0), np.array([value]), 1, TERMS) for value in values]
    total = blocks[0]
    for block in blocks[1:]:
        total = total.plus(block)
    expected, decoded = sum(map(Fraction, values)), Fraction(float(total.real()[1][0]))
    assert abs(decoded - expected) <= abs(expected) / 2**52 + Fraction(len(values), 2**96)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_adds_nothing(value: float) -> None:
    block = Block.of(np.array([value, 1.0]), np.array([value, 1.0]), 1, TERMS)
    assert [part.tolist() for part in block.real()] == [[0.0, 1.0], [0.0, 1.0]]
    contribution = Contribution({"w": np.array([value, 1.0])}, {"x": np.array([value])}, {"train": 1})
    assert contribution.altered(TERMS) == 2


def test_what_is_too_large_is_clamped() -> None:
    block = Block.of(np.array([1e9, -1e9]), np.array([1e300, -1e300]), 1, TERMS)
    updates, statistics = block.real()
    assert updates.tolist() == [100.0, -100.0]
    assert statistics[0] > 1e63
    assert statistics[0] == -statistics[1]


@given(st.binary(min_size=32, max_size=32), st.integers(0, 5), st.integers(0, 5))
def test_a_mask_comes_off_again_and_hides_all(key: bytes, updates: int, statistics: int) -> None:
    block = Block.of(np.arange(updates), np.arange(statistics), 1, TERMS)
    masked = block.plus_mask(key)
    assert masked.plus_mask(key, -1).pack() == block.pack()
    assert block.plus_mask(key, -1).plus_mask(key).pack() == block.pack()
    assert Block.unpack(masked.pack(), updates, statistics).pack() == masked.pack()
    stream = Block.of(np.zeros(updates), np.zeros(statistics), 1, TERMS).plus_mask(key).pack()
    assert len(stream) == 8 * updates + 40 * statistics
    assert len(set(stream)) > len(stream) / 4 or len(stream) < 64


def test_a_block_of_another_length_is_refused() -> None:
    with pytest.raises(ProtocolError):
        Block.unpack(bytes(7), 1, 0)


@pytest.mark.parametrize("length", [32, 48])
def test_any_threshold_of_shares_opens_a_secret_and_fewer_do_not(length: int) -> None:
    secret = bytes(range(length))
    shares = dict(enumerate(secrets.split(secret, 3, 5), 1))
    for chosen in combinations(shares, 3):
        assert secrets.combine({place: shares[place] for place in chosen}) == secret
    assert secrets.combine({place: shares[place] for place in (1, 2)}) != secret
    with pytest.raises(ProtocolError):
        secrets.combine({1: shares[1], 2: shares[2][:16]})


def test_an_envelope_opens_for_its_receiver_its_sender_its_sum_and_its_direction_only() -> None:
    one, other, third = (secrets.new_private_key() for _ in range(3))
    points = [secrets.public_of(key) for key in (one, other, third)]
    sealed = secrets.seal(one, points[1], b"shares", "00" * 32, "a", "b")
    assert secrets.unseal(other, points[0], sealed, "00" * 32, "a", "b") == b"shares"
    spoilt = bytes([sealed[0] ^ 1]) + sealed[1:]
    tries = [
        (third, points[0], sealed, "00" * 32, "a", "b"),
        (other, points[2], sealed, "00" * 32, "a", "b"),
        (other, points[0], sealed, "01" * 32, "a", "b"),
        (other, points[0], sealed, "00" * 32, "b", "a"),
        (other, points[0], spoilt, "00" * 32, "a", "b"),
        (other, points[0], b"", "00" * 32, "a", "b"),
    ]
    for arguments in tries:
        with pytest.raises(ProtocolError):
            secrets.unseal(*arguments)


def test_keys_of_masks_differ_by_view_group_site_and_use() -> None:
    views, groups, names = ("00" * 32, "01" * 32), ("train", "genomic"), ("a", "b")
    keys = [secrets.pair_key(bytes(32), view, "a", "b", group) for view in views for group in groups]
    keys += [secrets.self_key(bytes(32), view, name, group) for view in views for name in names for group in groups]
    assert len(set(keys)) == len(keys) == 12
    assert secrets.pair_key(bytes(32), views[0], "b", "a", "train") == keys[0]
    assert secrets.sign_between("a", "b") == -secrets.sign_between("b", "a")


def test_groups_follow_from_facts_and_kind() -> None:
    full, bare = Facts(True, True, False, ("genomic",)), Facts(False, True, True, ("genomic",))
    assert groups_of("train", full) == {"train", "genomic", "validation"}
    assert groups_of("query.prepare", full) == {"train", "genomic"}
    assert groups_of("evaluate.test", full) == groups_of("train", bare) == set()
    assert groups_of("evaluate.validation", bare) == {"validation"}
    assert groups_of("evaluate.comparison", bare) == {"compared"}
    assert all_groups(bare) == {"validation", "external", "compared"}
    assert groups_of("evaluate.test", Facts(True, True, True, ())) == {"test"}
    knows = Facts(False, True, True, (), ("test.er", "test.genomic", "train.her2", "validation.pr"))
    expected = {"external", "external.er", "external.genomic", "external.train.her2", "external.validation.pr"}
    assert groups_of("evaluate.test", knows) == expected
    assert groups_of("evaluate.validation", knows) == {"validation", "validation.pr"}
    assert groups_of("query.prepare", replace(knows, trains=True)) == {"train", "train.her2"}
    assert groups_of("train", replace(knows, trains=True)) == {"train", "train.her2", "validation", "validation.pr"}
    assert learned(groups_of("train", replace(knows, trains=True))) == {"her2"}
    roster = [Enrolment("ab" * 32, name, "02" * 49, facts) for name, facts in (("b", full), ("a", bare))]
    assert {kind: participants(kind, roster) for kind in KINDS} == {
        "query.prepare": ("b",),
        "train": ("b",),
        "evaluate.validation": ("a", "b"),
        "evaluate.test": ("a",),
        "evaluate.comparison": ("a",),
    }
    with pytest.raises(ProtocolError):
        groups_of("other", full)


@pytest.mark.parametrize(
    ("name", "group"),
    [("encoders.genomic.0.weight", "genomic"), ("model.encoders.a_b.w", "a_b"), ("fusion.weight", "train")],
)
def test_a_parameter_belongs_to_its_encoders_modality(name: str, group: str) -> None:
    assert group_of_parameter(name) == group


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("features.genomic.mean", "genomic"),
        ("patients.train", "train"),
        ("steps.train", "train"),
        ("validation.recurrence.x", "validation.recurrence"),
        ("external.recurrence.within_site.cases", "external.recurrence"),
        ("test.patients.left_out.no_modality", "test"),
        ("test.patients.excluded.mri", "test"),
        ("test.patients.outcomes.er.train", "test.train.er"),
        ("test.patients.outcomes.er.test", "test.er"),
        ("test.patients.train.genomic.total", "test.genomic"),
        ("test.patients.test.genomic.total", "test.tested.genomic"),
        ("test.subgroups.0.outcomes.er", "test.er"),
        ("test.subgroups.0.1.er.histogram.positives", "test.er"),
        ("test.importance.patients", "test"),
        ("test.importance.er.pooled.1.events", "test.er"),
        ("compared.er.calls.both", "compared.er"),
        ("counts.recurrence", "train.recurrence"),
        ("loss", "train"),
    ],
)
def test_an_array_of_results_belongs_to_who_adds_to_it(name: str, group: str) -> None:
    assert group_of_array(name) == group


def test_a_question_is_another_one_by_any_bit_that_its_handler_reads() -> None:
    def asked(**change: Any) -> Question:
        parts = {
            "model": np.array([1.0]),
            "statistics": np.array([1.0]),
            "values": {"a": "b"},
            "round": 1,
            "attempt": 1,
        }
        changed = parts | change
        arrays = ({"w": changed["model"]}, {"s": changed["statistics"]})
        return Question.of("train", changed["round"], changed["attempt"], *arrays, changed["values"])

    others = [
        asked(model=np.array([1.0 + 2**-52])),
        asked(model=np.array([1.0], dtype=np.float32)),
        asked(model=np.array([[1.0]])),
        asked(statistics=np.array([-0.0])),
        *(asked(values=values) for values in ({}, {"a": b"b"}, {"a:str": "b"}, {"a": 1}, {"a": True}, {"a": 1.0})),
    ]
    hashes = {(one.model, one.statistics, one.request) for one in (asked(), *others)}
    assert len(hashes) == len({one.inputs for one in (asked(), *others)}) == len(others) + 1
    later = [asked(round=2), asked(attempt=2), asked(values={"a": "b", "round": 7})]
    assert {one.inputs for one in later} == {asked().inputs}
    assert len({one.request for one in [asked(), *later[:2]]}) == 3
    assert asked().subject == f"model/{asked().model}"
    assert Question.of("query.prepare", 0, 1, {}, {}, {}).subject.startswith("inputs/")
