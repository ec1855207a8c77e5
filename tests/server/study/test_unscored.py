"""A study whose rounds nobody can judge says so, why, and what to do."""

from __future__ import annotations

from typing import Any

import pytest

from server.study.enrolment import Enrolment
from server.study.unscored import unscored, unscored_so_far
from server.study.weights.checkpoint import Checkpoint
from shared_models.study_settings import StudySettings

NAN = float("nan")


def after(values: list[float], patients: int, best: float | None = None) -> Checkpoint:
    """Two sites that train and one that does not, after rounds whose weights have these values, the first ones' too."""
    enrolled = {
        site: Enrolment(site != "yew", {"train": 9, "validation": patients, "test": 9}, {}, excluded=0)
        for site in ("oak", "elm", "yew")
    }
    return Checkpoint({}, len(values) - 1, {}, {}, enrolled, best_value=best, values=tuple(enumerate(values)))


@pytest.mark.parametrize(
    ("patients", "settings", "reason", "cure"),
    [
        (7, {}, "minimum_count, 10 unless it says otherwise, of each): elm has 7, oak has 7.", "Name 3 or more sites"),
        (7, {"sites": "oak, elm, fir", "secure_aggregation": "off"}, "elm has 7, oak has 7", "Use secure aggregation"),
        (7, {"sites": "oak, elm, fir"}, "14 validation patients at all sites", "Try a higher validation-fraction"),
        (0, {}, "no validation patients", "a higher validation-fraction (now 0.15)"),
    ],
)
def test_the_reason_and_the_cure_fit_the_study(patients: int, settings: dict[str, Any], reason: str, cure: str) -> None:
    config = StudySettings(min_sites=2, **settings)
    for sentence in (unscored(after([NAN, NAN], patients), config), unscored_so_far(after([NAN], patients), config)):
        assert reason in sentence
        assert cure in sentence
        assert "yew" not in sentence


def test_a_study_that_chose_its_round_says_nothing() -> None:
    config = StudySettings(min_sites=2)
    assert unscored(after([NAN, 0.7], 7, best=0.7), config) == ""
    assert unscored_so_far(after([0.5], 7), config) == ""
    assert unscored(after([NAN], 7), config) == ""  # it ended before a round


def test_rounds_that_too_few_sites_scored_have_a_reason_of_their_own() -> None:
    assert "no round was scored by min-sites = 2 sites" in unscored(
        after([NAN, 0.7, NAN], 7), StudySettings(min_sites=2)
    )
