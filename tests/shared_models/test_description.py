"""Counts of patients add up over sites, and a withheld cell is never taken for a 0."""

from __future__ import annotations

import numpy as np
import pytest

from shared_models.description import Description, count_outcomes, one_site_counts, outcome_names, withheld_if_small
from shared_models.study_settings import parse_study_settings
from shared_models.targets import Binary, Categorical, Regression, TimeToEvent
from shared_models.task import load_task

YEAR = 365.25
TIMES = np.array([[100, 1], [5 * YEAR, 1], [5 * YEAR + 1, 1], [5 * YEAR, 0], [4000, 0], [90, 0], [np.nan, np.nan]])


@pytest.mark.parametrize(
    ("target", "truth", "expected"),
    [
        (Binary(), np.array([0, 1, 1, np.nan]), {"without": 1, "with": 2, "unknown": 1}),
        (Categorical(("a", "b", "c")), np.array([0, 2, 2, np.nan]), {"a": 1, "b": 0, "c": 2, "unknown": 1}),
        (Regression(), np.array([3.5, np.nan]), {"known": 1, "unknown": 1}),
        (TimeToEvent(), TIMES, {"event": 2, "free": 3, "censored": 1, "unknown": 1}),
    ],
)
def test_each_patient_has_one_outcome(target, truth, expected):
    counts = count_outcomes(target, truth)
    assert dict(zip(outcome_names(target), counts.tolist(), strict=True)) == expected
    halves = count_outcomes(target, truth[:1]) + count_outcomes(target, truth[1:])
    assert halves.tolist() == counts.tolist()


def test_a_small_cell_takes_those_of_its_part_along_and_a_sum_says_how_many_sites_tell():
    large, small = one_site_counts(np.array([40.0, 12.0, 0.0])), one_site_counts(np.array([40.0, 3.0, 0.0]))
    sent = [withheld_if_small(counts, 10) for counts in (large, small)]
    assert sent[0].tolist() == [1, 40, 12, 0]
    assert sent[1].tolist() == [0, 0, 0, 0]  # nor the 40: they and the exact number of patients would give the 3
    assert sum(sent).tolist() == [1, 40, 12, 0]


def test_a_description_travels_and_refuses_what_is_not_one():
    task = load_task(parse_study_settings({"features": "clinical: age_years, grade{1|2|3}"}))
    zero = Description.empty(task)
    arrays = (zero + zero).pack()
    assert {name: array.tolist() for name, array in Description.unpack(arrays, task).pack().items()} == {
        name: array.tolist() for name, array in arrays.items()
    }
    for name in (name for name in arrays if not name.endswith(".total")):  # a sum may be negative
        missing = {other: array for other, array in arrays.items() if other != name}
        for changed in (missing, {**arrays, name: np.full(arrays[name].shape, -1.0)}):
            with pytest.raises(ValueError, match="patients"):
                Description.unpack(changed, task)
