"""Attacks on our own training: the bound on epsilon, the attacks' statistics, and a short audit."""

from __future__ import annotations

import importlib
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def programs():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield lambda name: importlib.import_module(f"privacy_{name}")


@pytest.fixture(scope="module")
def attacks(programs):
    return programs("attacks")


def test_the_bound_gives_the_papers_own_figures(attacks):
    """Steinke 2023 (arXiv:2305.08846), appendix D, to the digits printed there."""
    assert attacks.p_value(100, 100, 75, math.log(3), 0.0) == pytest.approx(0.553, abs=5e-4)
    assert attacks.epsilon_lower_bound(100, 100, 75, 0.0) == pytest.approx(0.702, abs=5e-4)
    assert attacks.epsilon_lower_bound(100, 100, 75, 1e-4) == pytest.approx(0.699, abs=5e-4)
    assert attacks.epsilon_lower_bound(1000, 100, 75, 1e-4) == pytest.approx(0.673, abs=5e-4)


def test_no_bound_from_guesses_that_are_no_better_than_a_coin(attacks):
    assert attacks.epsilon_lower_bound(100, 0, 0, 0.0) == 0.0
    assert attacks.epsilon_lower_bound(100, 100, 50, 0.0) == 0.0


def test_perfect_guesses_give_the_level_to_the_power_of_their_number(attacks):
    """All of r right: accuracy^r = 0.05."""
    accuracy = 0.05 ** (1 / 40)
    assert attacks.epsilon_lower_bound(40, 40, 40, 0.0) == pytest.approx(math.log(accuracy / (1 - accuracy)))


@pytest.mark.parametrize("epsilon", [0.2, 1.0, 3.0])
def test_the_bound_stays_below_the_epsilon_of_randomised_response(attacks, epsilon):
    """Randomised response reaches the bound's worst case: the 95 % are nearly used up, and never overdrawn."""
    chance = np.random.default_rng(0)
    correct, times = np.unique(chance.binomial(200, 1 / (1 + math.exp(-epsilon)), size=1000), return_counts=True)
    bounds = [attacks.epsilon_lower_bound(200, 200, int(count), 0.0) for count in correct]
    above = np.repeat(np.array(bounds) > epsilon, times)
    assert np.mean(above) < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1000)
    assert np.mean(above) > 0.01


def test_the_bound_from_scores_corrects_for_several_tries(attacks):
    chance = np.random.default_rng(1)
    bounds = []
    for _ in range(60):
        members = chance.random(400) < 0.5
        scores = np.where(members == (chance.random(400) < 1 / (1 + math.exp(-1.0))), 1.0, 0.0)
        bounds.append(attacks.empirical_epsilon(scores + 1e-6 * chance.random(400), members, 0.0))
    assert np.mean(np.array(bounds) > 1.0) < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 60)
    assert np.median(bounds) > 0.4


def test_the_true_positive_rate_of_two_gaussians(attacks):
    chance = np.random.default_rng(2)
    members = chance.random(200_000) < 0.5
    scores = chance.normal(size=200_000) + members
    assert attacks.true_positive_rate(scores, members, 0.01) == pytest.approx(norm.sf(norm.isf(0.01) - 1), rel=0.05)
    assert attacks.true_positive_rate(np.zeros(10), np.arange(10) < 5, 0.01) == 0.0


def test_the_likelihood_ratio_finds_members_whom_their_loss_hides(attacks):
    """Each patient has a difficulty of its own, far larger than what membership does to the loss."""
    from shared_models.metrics.delong import auc

    chance = np.random.default_rng(3)
    inside = chance.random((60, 300)) < 0.5
    confidences = 5 * chance.normal(size=300) + inside + chance.normal(size=(60, 300))
    ratios = attacks.likelihood_ratios(confidences[40:], confidences[:40], inside[:40])
    assert auc(ratios.ravel(), inside[40:].ravel()) == pytest.approx(norm.cdf(1 / math.sqrt(2)), abs=0.03)
    assert auc(confidences[40:].ravel(), inside[40:].ravel()) < 0.6


def test_confidence_is_the_logit_of_the_likelihood(attacks):
    likelihoods = np.array([0.01, 0.5, 0.9])
    np.testing.assert_allclose(
        attacks.confidence(-np.log(likelihoods)), np.log(likelihoods / (1 - likelihoods)), atol=1e-9
    )
    assert np.isfinite(attacks.confidence(np.array([0.0, 100.0]))).all()


@pytest.fixture(scope="module")
def bound(programs):
    """Accounted epsilon and its lower bound, of one training run with 400 canaries and everybody in each step."""
    parts, runs, attacks = programs("audit_parts"), programs("audit_runs"), programs("attacks")

    def run(spoil=None, rounds=10, noise=5.0, charged=None):
        everyone = {**parts.PRIVATE, **parts.EVERYONE, "rounds": rounds, "noise_multiplier": noise}
        config = parts.STUDY.model_copy(update=everyone)
        scores, _, members, asked = parts.audit(config, "own feature", 1, spoil, canaries=400)
        return runs.accounted(asked, charged or rounds), attacks.empirical_epsilon(scores, members, runs.POLICY.delta)

    return run


def test_private_training_leaks_no_more_than_was_accounted(bound):
    accounted, at_least = bound()
    assert at_least < accounted < 2.5


@pytest.mark.parametrize("spoil", ["no_noise", "no_clipping"])
def test_an_audit_finds_that_noise_or_clipping_was_forgotten(bound, programs, spoil):
    accounted, at_least = bound(getattr(programs("audit_parts"), spoil))
    assert at_least > accounted


def test_an_audit_finds_that_one_round_of_forty_was_charged(bound):
    accounted, at_least = bound(rounds=40, noise=3.0, charged=1)
    assert at_least > accounted


def test_a_line_of_the_audit_is_wrong_above_the_accounted_epsilon_or_where_a_broken_mechanism_is_not_found(programs):
    row = programs("audit_parts").Row
    assert row({}, accounted=1.0, empirical=0.9).wrong() == ""
    assert "at least 1.10" in row({}, accounted=1.0, empirical=1.1).wrong()
    assert row({}, accounted=1.0, empirical=1.1, broken=True).wrong() == ""
    assert "does not show" in row({}, accounted=1.0, empirical=0.9, broken=True).wrong()


def test_whether_one_patient_is_there_is_told_no_better_than_accounted_and_better_if_draws_go_by_place(
    programs, attacks
):
    single, parts = programs("audit_presence"), programs("audit_parts")
    changes, _ = single.SETTINGS[single.BROKEN]

    def bound():
        scores, members, asked = single.presence(changes, 600, seed=1, done=lambda: None)
        return parts.accounted(asked, 1), attacks.empirical_epsilon(scores, members, parts.POLICY.delta)

    accounted, at_least = bound()
    assert at_least < accounted  # real noise: 0.2 to 0.7 of 1.7 in most runs; draws by place prove 2.2 and more
    with single.draws_by_place():
        accounted, at_least = bound()
    assert at_least > accounted
