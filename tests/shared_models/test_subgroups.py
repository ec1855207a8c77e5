"""Subgroups as a study writes them."""

from __future__ import annotations

import numpy as np
import pytest

from shared_models.features import Feature
from shared_models.metrics.by_subgroup import releasable_subgroups
from shared_models.settings import SettingsError
from shared_models.subgroups import parse_subgroups

FEATURES = [Feature("age_years"), Feature("scanner", ("ge", "siemens"))]


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("age: <50 | 50-70 | >70", [49, 50, 70, 70.5, np.nan], [0, 1, 1, 2, 3]),
        ("age: 50-60 | 60-70", [49, 60, 70], [2, 1, 1]),
        ("age: >=70 | <70", [70, 69], [0, 1]),
        ("age: ≤50 | >50", [50, 51], [0, 1]),
        ("age: <50 | 55-60", [52], [2]),
        ("z: -2.5--1 | -1-1", [-2.5, -1, 1, 2], [0, 1, 1, 2]),
        ("scanner", [0, 1, np.nan], [0, 1, 2]),
        ("stage{i|ii|iii}", [2, np.nan], [2, 3]),
    ],
)
def test_a_value_lies_in_one_subgroup_or_in_none(text: str, values: list[float], expected: list[int]) -> None:
    (grouping,) = parse_subgroups(text, FEATURES)
    assert grouping.divide(np.array(values)).tolist() == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("age_years", "age_years is a number; say its ranges, as `age_years: <50 | 50-70 | >70`"),
        ("race", "race is none of the study's features; say its ranges, `race: <50 | >=50`, or `race{a|b}`"),
        ("age_years: <50 | 40-70", "the ranges of age_years overlap; expected each number in one of them at most"),
        ("age_years: <=50 | >=50 | 50-60", "the ranges of age_years overlap"),
        ("age_years: young | old", "cannot read 'young' of age_years; expected `<50`, `50-70` or `>=70`"),
        ("age_years: 70-50", "'70-50' of age_years ends before it begins"),
        ("age_years: <50 |", "cannot read '' of age_years"),
        ("scanner; scanner", "scanner is named twice"),
        ("scanner{a|b}: <3", "scanner has categories and ranges"),
        ("age years: <3", "cannot read 'age years: <3'"),
        ("x: " + " | ".join(f"{n}-{n + 1}" for n in range(31)), "31 of them, expected at most 30"),
    ],
)
def test_what_cannot_be_read_is_said_in_a_sentence(text: str, complaint: str) -> None:
    with pytest.raises(SettingsError) as error:
        parse_subgroups(text, FEATURES)
    assert str(error.value).startswith(f"subgroups: {complaint}")


def test_what_one_site_tells_leaves_no_few_patients_over() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        outcomes = np.concatenate([rng.integers(0, 40, (4, 2)), np.zeros((4, 1))], axis=1)
        releasable = releasable_subgroups(outcomes, 10)
        known = outcomes[:, :-1]
        rest = known[-1] + known[:-1][~releasable].sum(axis=0)
        shown = known[:-1][releasable]
        assert not ((shown > 0) & (shown < 10)).any()
        assert releasable.sum() == 0 or not ((rest > 0) & (rest < 10)).any()
