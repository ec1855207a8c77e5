from __future__ import annotations

import pytest

from server.study.results.privacy_section import privacy_section
from shared_models.study_settings import parse_study_settings

PRIVATE = {"privacy": "patient", "noise-multiplier": 1.5, "clip-norm": 0.7}
SECURE = {"secure-aggregation": True, "min-sites": 3}


def section(**settings: object) -> dict[str, object]:
    return privacy_section(parse_study_settings({"task": "relapse_mammogram", **settings})).model_dump()


def test_without_noise_the_report_says_so_and_claims_nothing() -> None:
    privacy = section()
    assert "No differential privacy" in str(privacy["said"])
    assert "epsilon" not in str(privacy["said"])
    assert privacy["covered_by_noise"] == []
    assert "weights" in privacy["not_covered_by_noise"]  # type: ignore[operator]


def test_with_noise_the_report_says_for_whom_how_and_what_is_left_out() -> None:
    privacy = section(**PRIVATE)
    text = str(privacy["said"])
    for fact in ("the unit is the patient", "Poisson", "norm 0.7", "1.5 times", "Delta and the epsilon spent are each"):
        assert fact in text
    for left_uncovered in (
        "counts of classes",
        "sums of features",
        "z-scores",
        "counted and summed in bins",
        "metrics of each site",
    ):
        assert left_uncovered in text.partition("Not covered by noise")[2]
    assert privacy["covered_by_noise"] == ["weights"]
    assert "losses" not in text, "a private study sends none"


def test_a_target_epsilon_is_named_and_the_noise_is_not() -> None:
    text = str(section(**PRIVATE, **{"target-epsilon": 3.0})["said"])
    assert "below epsilon 3 at the site" in text
    assert "1.5" not in text


@pytest.mark.parametrize("noise", [{}, PRIVATE])
def test_secure_aggregation_is_claimed_only_where_it_was_used(noise: dict[str, object]) -> None:
    plain, secure = section(**noise), section(**noise, **SECURE)
    assert "no secure aggregation: the center saw all of it site by site" in str(plain["said"])
    assert plain["only_in_sums_of_three_sites_or_more"] == []
    assert "only as sums over three sites or more" in str(secure["said"])
    assert "no secure aggregation" not in str(secure["said"])
    own = "test metrics of each site, rounded"
    assert own in secure["not_covered_by_noise"]  # type: ignore[operator]
    assert own not in secure["only_in_sums_of_three_sites_or_more"]  # type: ignore[operator]


def test_what_is_made_of_counts_and_sums_is_named_where_it_is_made() -> None:
    assert "class weights" not in str(section(**PRIVATE)["said"])
    assert "class weights" in str(section(**PRIVATE, **{"class-weights": "balanced"})["said"])
    assert "ComBat" in str(section(**PRIVATE, harmonisation="combat")["said"])
