import numpy as np
import pytest

from shared_models.metrics.names import NAMES
from shared_models.metrics.summary import (
    empty_summary,
    pack_summary,
    pooled_metrics,
    site_metrics,
    summarise,
    target_score,
    total_summary,
    unpack_summary,
)
from shared_models.targets import Binary, Categorical, Regression, Target, TimeToEvent

BOUNDS = ("_low", "_high", "_bound")
KINDS: list[Target] = [Binary(), TimeToEvent(), Categorical(("a", "b", "c")), Regression()]


def patients(target: Target, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores and truths, every tenth unknown."""
    chance = np.random.default_rng(count)
    scores = chance.uniform(size=count)
    truth = (chance.uniform(size=count) < scores).astype(float)
    if isinstance(target, Categorical):
        scores, truth = chance.dirichlet(np.ones(3), count), chance.integers(0, 3, count).astype(float)
    if isinstance(target, TimeToEvent):
        truth = np.stack([chance.uniform(1, 6000, count), truth], axis=1)
    truth[::10] = np.nan
    return scores, truth


@pytest.mark.parametrize("target", KINDS, ids=lambda target: type(target).__name__)
def test_all_statistics_of_a_target_travel_add_up_and_are_told_and_described(target: Target) -> None:
    scores, truth = patients(target, 200)
    sites = []
    for part in (slice(0, 70), slice(70, 200)):
        sent = pack_summary(summarise(target, scores[part], truth[part]), "test.outcome")
        sites.append(unpack_summary(target, sent, "test.outcome"))
    together, here = pooled_metrics(total_summary(sites), 0.5), pooled_metrics(summarise(target, scores, truth), 0.5)
    assert together.keys() == here.keys()
    for name, value in together.items():
        if "within_sites" in name:  # counted in one place, the pairs would be others: see test_within_site.py
            continue
        np.testing.assert_allclose(value, here[name], rtol=1e-12)
    described = [name for statistic in sites[0].values() for name in statistic.METRICS]
    assert together.keys() == set(described)
    numbers = {name for name, value in together.items() if isinstance(value, float) and not name.endswith(BOUNDS)}
    assert numbers | site_metrics(target, scores, truth, 0.5).keys() - {*together} <= {*NAMES}
    assert target_score(sites[0]) > 0


@pytest.mark.parametrize("target", KINDS, ids=lambda target: type(target).__name__)
def test_nobody_is_the_zero_of_the_sum(target: Target) -> None:
    summary = summarise(target, *patients(target, 50))
    both = total_summary([empty_summary(target), summary])
    for name, array in pack_summary(both, "x").items():
        np.testing.assert_array_equal(array, pack_summary(summary, "x")[name])
    for name, value in pooled_metrics(empty_summary(target), 0.5).items():
        assert name in ("net_benefit_threshold", "by_threshold") or np.isnan(value).all() or not np.any(value)


def test_a_statistic_of_other_bins_or_one_that_lacks_a_part_is_refused() -> None:
    arrays = pack_summary(summarise(Binary(), *patients(Binary(), 50)), "test.er")
    with pytest.raises(ValueError, match=r"test\.er\.calibration\.counts has shape \(3,\), expected \(16,\)"):
        unpack_summary(Binary(), {**arrays, "test.er.calibration.counts": np.ones(3)}, "test.er")
    with pytest.raises(ValueError, match=r"test\.er\.scores\.positives is missing"):
        unpack_summary(Binary(), {n: a for n, a in arrays.items() if "positives" not in n}, "test.er")


def test_the_calibration_curve_of_a_binary_target_is_of_no_bin_with_fewer_than_five_patients() -> None:
    scores = np.array([0.25] * 5 + [0.55] * 4)
    metrics = pooled_metrics(summarise(Binary(), scores, np.array([1.0, 0, 0, 0, 0, 1, 1, 1, 1])), 0.5)
    expected = np.full(16, np.nan)
    expected[5] = 0.25
    np.testing.assert_allclose(metrics["calibration_predicted"], expected)
    expected[5] = 0.2
    np.testing.assert_allclose(metrics["calibration_observed"], expected)
    assert metrics["expected_observed_ratio"] == pytest.approx((5 * 0.25 + 4 * 0.55) / 5)


def test_the_metrics_of_a_site_are_numbers() -> None:
    for target in KINDS:
        assert all(isinstance(value, float) for value in site_metrics(target, *patients(target, 60), 0.5).values())
