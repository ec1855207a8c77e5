"""When weights and statistics reach the center as sums only."""

from __future__ import annotations

import pytest

from shared_models.agreed import settings_hash
from shared_models.secure_aggregation.choice import (
    choose_secure_aggregation,
    named_training_sites,
    uses_secure_aggregation,
)
from shared_models.settings import SettingsError
from shared_models.study_settings import StudySettings, parse_study_settings


def study(**settings):
    return parse_study_settings({"secure-aggregation": "auto", **settings})


@pytest.mark.parametrize(
    ("settings", "sites", "secure", "why"),
    [
        ({}, 3, True, "3 sites train, and nothing in the study needs one site's own numbers"),
        ({}, 2, False, "2 sites train, and of two sites each knows the other's part"),
        ({"harmonisation": "combat"}, 5, False, "ComBat needs each site's sums"),
        ({"secure-aggregation": "on", "min-sites": 3}, 2, True, "the study asks for it"),
        ({"secure-aggregation": "off"}, 9, False, "the study turns it off"),
    ],
)
def test_a_study_is_summed_securely_where_that_hides_a_site_and_the_page_says_why(settings, sites, secure, why):
    chosen, reason = choose_secure_aggregation(study(**settings), sites)
    assert chosen is secure
    assert why in reason
    assert ("the center sees all of this site by site" in reason) is not secure


@pytest.mark.parametrize("strategy", ["fedmedian", "trimmed-mean", "krum"])
def test_a_strategy_that_looks_at_single_updates_is_not_summed(strategy):
    settings = study().model_copy(update={"strategy": strategy})
    chosen, reason = choose_secure_aggregation(settings, 5)
    assert not chosen
    assert f"{strategy} compares single updates" in reason


def test_the_number_of_sites_is_that_of_the_approval():
    assert named_training_sites(study(sites="a, b, c, d", **{"evaluation-only-sites": "d, e"})) == 3
    assert named_training_sites(study(**{"min-sites": 4})) == 4
    assert uses_secure_aggregation(study(sites="a, b, c"))
    assert not uses_secure_aggregation(study(sites="a, b, c", **{"evaluation-only-sites": "c"}))


@pytest.mark.parametrize(("written", "meant"), [(True, "on"), (False, "off")])
def test_true_and_false_mean_on_and_off(written, meant):
    one, other = (parse_study_settings({"secure-aggregation": v, "min-sites": 3}) for v in (written, meant))
    assert one == other
    assert settings_hash(one) == settings_hash(other)


@pytest.mark.parametrize("written", ["true", "always", 1, 0, None, [], {}])
def test_anything_else_is_refused(written):
    with pytest.raises(SettingsError, match="secure_aggregation"):
        parse_study_settings({"secure-aggregation": written})


def test_auto_is_the_default():
    assert StudySettings().secure_aggregation == "auto"
