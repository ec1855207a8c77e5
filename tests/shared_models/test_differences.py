"""Differences between hospitals' sums: what another unit or code does to a column is told, what chance does is not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from shared_models.differences import MIN_KNOWN, SortedColumns, Sums, differences, each_from_the_others, without
from shared_models.features import FeatureStatistics, expand, parse_features
from shared_models.metrics.arrays import total
from shared_models.targets import Binary, Categorical, Regression, TimeToEvent
from shared_models.task import Table, Task

FEATURES = parse_features("clinical: size_mm, nodes:log, er{negative|positive}, hormon, ESR1")["clinical"]
TARGETS = {
    "relapse": Binary(),
    "subtype": Categorical(("a", "b")),
    "recurrence": TimeToEvent((365.0, 730.0)),
    "dose": Regression(),
}
TASK = Task({"clinical": Table(FEATURES)}, TARGETS, build_model=lambda *_: None)  # type: ignore[arg-type, return-value]
Change = Callable[[dict[str, np.ndarray]], None]


def patients(seed: int, count: int = 60) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    days = draw.uniform(10, 800, count)
    return {
        "size_mm": draw.gamma(4, 5, count),
        "nodes": draw.poisson(2, count).astype(float),
        "er": (draw.random(count) < 0.75).astype(float),
        "hormon": (draw.random(count) < 0.4).astype(float),
        "ESR1": draw.normal(8, 1.5, count),
        "relapse": (draw.random(count) < 0.2).astype(float),
        "subtype": (draw.random(count) < 0.8).astype(float),
        "recurrence": np.stack([days, (draw.random(count) < 0.15).astype(float)], axis=1),
        "dose": draw.normal(50, 5, count),
    }


def sums(columns: dict[str, np.ndarray]) -> Sums:
    values = expand(FEATURES, np.stack([columns[feature.name] for feature in FEATURES], axis=1))
    counts = {name: target.counts(columns[name]) for name, target in TARGETS.items()}
    return Sums({"clinical": FeatureStatistics.of(values)}, counts)


def replaced(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Change:
    return lambda columns: columns.update({name: change(columns[name])})


CHANGES: dict[str, tuple[Change, str]] = {
    "size in cm": (replaced("size_mm", lambda x: x / 10), "clinical: size_mm is"),
    "size in inches": (replaced("size_mm", lambda x: x / 25.4), "clinical: size_mm is"),
    "nodes in percent": (replaced("nodes", lambda x: 10 * x), "clinical: nodes as log(1 + x) is"),
    "a receptor's codes reversed": (replaced("er", lambda x: 1 - x), "clinical: er=negative is"),
    "1 and 2 for 0 and 1": (replaced("hormon", lambda x: x + 1), "clinical: hormon is"),
    "a gene not logged": (replaced("ESR1", lambda x: 2**x), "clinical: ESR1 is"),
    "a gene's natural logarithm": (replaced("ESR1", lambda x: x * np.log(2)), "clinical: ESR1 is"),
    "a standardised gene": (replaced("ESR1", lambda x: (x - x.mean()) / x.std()), "clinical: ESR1 is"),
    "an outcome reversed": (replaced("relapse", lambda x: 1 - x), "outcome relapse: 1 is"),
    "classes swapped": (replaced("subtype", lambda x: 1 - x), "outcome subtype: a is"),
    "events for censorings": (replaced("recurrence", lambda x: x * [1, -1] + [0, 1]), "outcome recurrence: the event"),
    "another unit of a number": (replaced("dose", lambda x: x / 10), "outcome dose is"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_hospital_whose_table_means_another_thing_is_told_of(change: str) -> None:
    apply, expected = CHANGES[change]
    columns = patients(0)
    apply(columns)
    sentence = each_from_the_others(
        {"oak": sums(columns)} | {name: sums(patients(seed)) for seed, name in enumerate("abc", 1)}, TASK
    )
    assert list(sentence) == ["oak"]
    assert sentence["oak"][0].startswith(expected)
    assert len(sentence["oak"]) == 1


def test_hospitals_that_differ_by_chance_are_not_told_of() -> None:
    for seed in range(0, 400, 4):
        assert not each_from_the_others(
            {name: sums(patients(seed + i, 25 + 40 * i)) for i, name in enumerate("abcd")}, TASK
        )


def test_a_hospital_that_knows_the_sum_alone_finds_the_same_as_the_center() -> None:
    oak, others = patients(0), [sums(patients(seed)) for seed in (1, 2, 3)]
    CHANGES["size in cm"][0](oak)
    own, elsewhere = sums(oak).statistics["clinical"], total([one.statistics["clinical"] for one in others])
    rest = {"clinical": without(own + elsewhere, own)}
    sentences = differences(Sums({"clinical": own}, {}), Sums(rest, {}), TASK)
    assert sentences == differences(Sums({"clinical": own}, {}), Sums({"clinical": elsewhere}, {}), TASK)
    assert "size_mm" in sentences[0]


def test_a_hospital_is_compared_with_the_middle_one_of_the_others() -> None:
    rng = np.random.default_rng(0)
    sites = [
        FeatureStatistics.of(np.where(rng.random((30, 4)) < 0.3, np.nan, rng.normal(rng.normal(), 1, (30, 4))))
        for _ in range(7)
    ]
    columns = SortedColumns.of(sites)
    for row, own in enumerate(sites):
        middle, others = columns.middle_of_others(row), [one for place, one in enumerate(sites) if place != row]
        assert middle.patients == 180
        for column in range(4):
            there = sorted((one.mean[column], one.known[column]) for one in others if one.known[column] >= MIN_KNOWN)
            near = min(
                there[(len(there) - 1) // 2], there[len(there) // 2], key=lambda one: abs(one[0] - own.mean[column])
            )
            assert (middle.mean[column], middle.known[column]) == (pytest.approx(near[0]), near[1])
