import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.training.rule import site_rule
from server.study.aggregation.guard import Update
from server.study.aggregation.rule import Round, at_sites, load_rule, take_step
from server.study.aggregation.rules import rule_names
from server.study.enrolment import Enrolment
from shared_models.messages import Arrays
from shared_models.secure_aggregation.choice import NEEDS_SINGLE_UPDATES
from shared_models.settings import SettingsError
from shared_models.study_settings import StudySettings

ZERO: Arrays = {
    "tokens.encoders.mri.weight": np.zeros((2, 3), np.float32),
    "head.weight": np.zeros(4, np.float32),
}
ROBUST = ("fedmedian", "trimmed-mean", "krum")


def model(value: float) -> Arrays:
    return {name: np.full_like(array, value) for name, array in ZERO.items()}


def update(site: str, value: float, patients: float = 100, mri: float = 100) -> Update:
    return Update((site,), model(value), patients, {"mri": mri}, 0.0, rule_change=model(value))


def aggregate(updates: list[Update], start: Arrays = ZERO, **settings: object) -> Arrays:
    config = StudySettings(**settings)  # type: ignore[arg-type]
    enrolled = {
        site: Enrolment(True, {"train": int(one.patients)}, {n: int(c) for n, c in one.patients_by_modality.items()}, 0)
        for one in updates
        for site in one.sites
    }
    return take_step(load_rule(config), Round(1, start, updates, config, enrolled), {})[0]


def test_the_sites_know_which_rules_look_at_single_updates() -> None:
    off = {"secure_aggregation": "off"}
    needs = {name: load_rule(StudySettings(strategy=name, **off)).NEEDS for name in rule_names()}  # type: ignore[arg-type]
    assert {name for name, need in needs.items() if need == "single updates"} == NEEDS_SINGLE_UPDATES


def test_the_rules_are_the_files_there_are() -> None:
    others = ["fedadam", "fedavg", "fedavgm", "fednova", "fedprox", "fedyogi", "scaffold"]
    assert rule_names() == sorted([*others, *ROBUST])
    with pytest.raises(SettingsError, match="there is no rule 'fedmedain'; did you mean 'fedmedian'"):
        load_rule(StudySettings(strategy="fedmedain"))


def test_a_rule_has_a_half_at_the_sites_where_it_says_so() -> None:
    off = {"secure_aggregation": "off"}
    rules = {name: StudySettings(strategy=name, **off) for name in rule_names()}  # type: ignore[arg-type]
    assert {name: at_sites(load_rule(config)) for name, config in rules.items()} == {
        name: site_rule(config) is not None for name, config in rules.items()
    }
    assert at_sites(load_rule(rules["scaffold"]))


@pytest.mark.parametrize("name", rule_names())
def test_a_rule_that_needs_single_updates_is_refused_where_only_sums_are_seen(name: str) -> None:
    secure = StudySettings(strategy=name, secure_aggregation=True, min_sites=3)
    if name in ROBUST:
        with pytest.raises(SettingsError, match=f"^strategy: {name} compares the sites' single updates"):
            load_rule(secure)
    else:
        assert load_rule(secure).NEEDS == "sums"


def test_an_encoder_is_averaged_over_its_owners_only() -> None:
    mean = aggregate([update("a", 1, 100, 50), update("b", 2, 300, 0), update("c", 4, 100, 100)])
    np.testing.assert_allclose(mean["head.weight"], (100 * 1 + 300 * 2 + 100 * 4) / 500)
    np.testing.assert_allclose(mean["tokens.encoders.mri.weight"], (50 * 1 + 100 * 4) / 150)


def test_whole_numbers_are_rounded_in_their_own_dtype() -> None:
    start = {"steps": np.array(0, np.int64)}
    sites = [Update((str(n),), {"steps": np.array(n, np.int64)}, 1.0, {}, 0.0) for n in (1, 2, 2)]
    assert repr(aggregate(sites, start)["steps"]) == repr(np.array(2))


@pytest.mark.parametrize("name", rule_names())
def test_an_encoder_that_nobody_owns_stays_as_it_was(name: str) -> None:
    start = model(9)
    after = aggregate([update("a", 1, 100, 0), update("b", 2, 300, 0), update("c", 3, 9, 0)], start, strategy=name)
    np.testing.assert_array_equal(after["tokens.encoders.mri.weight"], 9)
    assert (after["head.weight"] != 9).all()


@given(st.lists(st.tuples(st.floats(-10, 10, width=32), st.integers(1, 1000)), min_size=1, max_size=6))
def test_the_mean_lies_between_the_updates(sites: list[tuple[float, int]]) -> None:
    mean = aggregate([update(str(i), value, n, n) for i, (value, n) in enumerate(sites)])
    expected = np.average([value for value, _ in sites], weights=[n for _, n in sites])
    for name in ("head.weight", "tokens.encoders.mri.weight"):
        assert mean[name].dtype == np.float32
        np.testing.assert_allclose(mean[name], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("fedmedian", 3.0), ("trimmed-mean", (2 + 3 + 4) / 3), ("krum", (1 * 1 + 9 * 2 + 1 * 3 + 1 * 4) / 12)],
)
def test_a_robust_rule_gives_what_its_definition_says(name: str, expected: float) -> None:
    sites = [update("a", 1, 1), update("b", 2, 9), update("c", 3, 1), update("d", 4, 1), update("e", 1e30, 1)]
    after = aggregate(sites, strategy=name)
    np.testing.assert_allclose(after["head.weight"], expected)
    shared_encoder = expected if name != "krum" else (1 + 2 + 3 + 4) / 4  # weighted by who has the modality: 100 each
    np.testing.assert_allclose(after["tokens.encoders.mri.weight"], shared_encoder)


@given(
    st.sampled_from(ROBUST),
    st.lists(st.floats(-10, 10, width=32), min_size=4, max_size=8),
    st.floats(-(2.0**100), 2.0**100, width=32),
)
def test_one_hostile_site_of_five_or_more_never_drags_a_robust_rule_beyond_the_others(
    name: str, honest: list[float], hostile: float
) -> None:
    sites = [update(str(i), value) for i, value in enumerate([*honest, hostile])]
    after = aggregate(sites, strategy=name)["head.weight"]
    # Multi-Krum may choose a hostile update that is as near to the others as they are to each other
    beyond = max(honest) - min(honest) if name == "krum" else 0.0
    assert (after >= np.float32(min(honest) - beyond) - 1e-4).all()
    assert (after <= np.float32(max(honest) + beyond) + 1e-4).all()


def test_an_encoder_is_aggregated_by_a_robust_rule_among_its_owners(caplog: pytest.LogCaptureFixture) -> None:
    sites = [update("a", 1, mri=0), update("b", 2, mri=0), update("c", 3), update("d", 4), update("e", 900)]
    with caplog.at_level(logging.WARNING, logger="server"):
        after = aggregate(sites, strategy="fedmedian")
    assert (after["head.weight"] == 3).all()
    assert (after["tokens.encoders.mri.weight"] == 4).all()
    assert not caplog.records
    with caplog.at_level(logging.WARNING, logger="server"):
        aggregate([update("a", 1, mri=0), *sites[2:4]], strategy="fedmedian")
    assert caplog.messages == ["2 sites changed the encoder of mri; the rule needs 3 to withstand a hostile one"]


def test_krum_tells_updates_apart_that_differ_little_from_large_weights() -> None:
    start = model(1e4)
    step = np.float32(0.002)
    sites = [update(str(i), 1e4 + i * step) for i in range(4)] + [update("e", 1e4 + 50 * step)]
    after = aggregate(sites, start, strategy="krum")
    assert (after["head.weight"] < 1e4 + 4 * step).all()


@pytest.mark.parametrize(("hostile", "expected"), [(0, 202.0), (1, 3.0), (2, 3.0), (40, 3.0)])
def test_hostile_sites_says_how_many_the_trimmed_mean_cuts(hostile: int, expected: float) -> None:
    sites = [update(str(i), value) for i, value in enumerate([1, 2, 3, 4, 1000])]
    after = aggregate(sites, strategy="trimmed-mean", hostile_sites=hostile)
    np.testing.assert_allclose(after["head.weight"], expected)


def test_the_trimmed_mean_cuts_as_many_of_any_number_of_sites() -> None:
    for count in range(3, 60):  # 1 / 49 * 49 is less than 1
        sites = [update(str(i), 0.0) for i in range(count - 1)] + [update("e", 1000.0)]
        assert (aggregate(sites, strategy="trimmed-mean")["head.weight"] == 0).all(), count


@pytest.mark.parametrize("name", ["fedadam", "fedyogi", "fedavgm"])
def test_an_adaptive_server_goes_on_from_its_moments_as_if_never_stopped(name: str) -> None:
    config = StudySettings(strategy=name)
    rule = load_rule(config)

    def run(restart: bool) -> Arrays:
        weights, state = model(0), {}
        for number in (1, 2, 3):
            if restart:  # what a checkpoint brings back
                state = {key: array.copy() for key, array in state.items()}
            weights, state = take_step(rule, Round(number, weights, [update("a", float(number))], config, {}), state)
        moments = ["velocity"] if name == "fedavgm" else ["m_t", "v_t"]
        assert sorted({key.partition("/")[0] for key in state}) == moments
        return weights

    for one, other in zip(run(False).values(), run(True).values(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (run(True)["head.weight"] > 0).all()


def test_momentum_at_the_center_is_the_papers_also_where_it_is_set() -> None:
    config = StudySettings(strategy="fedavgm", server_momentum=0.5)
    weights, state = ZERO, {}
    for number, value in enumerate((1.0, 3.0, 3.0), start=1):  # changes 1, 2, -1 and velocities 1, 2.5, 0.25
        weights, state = take_step(load_rule(config), Round(number, weights, [update("a", value)], config, {}), state)
    np.testing.assert_allclose(weights["head.weight"], 1 + 2.5 + (3 - 3.5) + 0.5 * 2.5)


def test_averaging_remembers_nothing_and_one_site_is_its_own_mean() -> None:
    config = StudySettings()
    weights, state = take_step(load_rule(config), Round(1, ZERO, [update("a", 0.1)], config, {}), {})
    np.testing.assert_array_equal(weights["head.weight"], np.float32(0.1))
    assert state == {}


def test_a_rule_is_called_by_nothing_but_its_files_name() -> None:
    package = Path(__file__).parents[4] / "server" / "study"
    others = [file for file in package.rglob("*.py") if file.parent.name != "rules"]
    for name in (name.replace("-", "_") for name in rule_names()):
        assert not [file for file in others if f"rules.{name}" in file.read_text(encoding="utf-8")]
