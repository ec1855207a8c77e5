"""Random-effects summaries, against what metafor publishes of its example."""

import math

import numpy as np
import pytest

from shared_models.metrics.heterogeneity import random_effects, random_effects_of_shares
from shared_models.metrics.interval import Interval

# The 13 trials of the BCG vaccine (Colditz 1994, 10.1001/jama.1994.03510330076038): cases, others; vaccinated, not.
TRIALS = np.array(
    [
        *((4, 119, 11, 128), (6, 300, 29, 274), (3, 228, 11, 209), (62, 13536, 248, 12619), (33, 5036, 47, 5761)),
        *((180, 1361, 372, 1079), (8, 2537, 10, 619), (505, 87886, 499, 87892), (29, 7470, 45, 7232)),
        *((17, 1699, 65, 1600), (186, 50448, 141, 27197), (5, 2493, 3, 2338), (27, 16886, 29, 17825)),
    ]
).T


def test_the_summary_is_metafors_of_the_trials_of_the_bcg_vaccine():
    with_it, well, without, others = TRIALS
    ratio = np.log(with_it / (with_it + well) / (without / (without + others)))
    error = np.sqrt(1 / with_it - 1 / (with_it + well) + 1 / without - 1 / (without + others))
    summary = random_effects(ratio, error)
    assert summary.tau2 == pytest.approx(0.3132, abs=5e-5)
    assert summary.i2 == pytest.approx(0.9222, abs=5e-5)
    assert summary.mean == pytest.approx(-0.7145, abs=5e-5)
    assert (summary.mean_low, summary.mean_high) == pytest.approx((-1.1084, -0.3206), abs=5e-5)  # `test = "knha"`


def test_sites_that_agree_have_no_variance_between_them_and_a_few_predict_nothing():
    same = [Interval(0.7, 0.6, 0.78)] * 4
    summary = random_effects_of_shares(same)
    assert (summary.tau2, summary.i2) == (0.0, 0.0)
    assert summary.mean == pytest.approx(0.7)
    of_logit = (np.log(0.78 / 0.22) - np.log(0.6 / 0.4)) / (2 * 1.96) / 2  # of four sites half of one's standard error
    logits = [np.log(share / (1 - share)) for share in (summary.mean_low, summary.mean, summary.mean_high)]
    assert np.diff(logits) == pytest.approx(3.182 * of_logit, rel=1e-3), "sites that agree by chance are not certain"
    assert math.isnan(summary.prediction_low)
    with pytest.raises(ValueError, match="3 or more"):
        random_effects_of_shares(same[:2])


def test_the_interval_of_a_mean_over_few_sites_covers_it():
    rng, covered = np.random.default_rng(1), 0
    for _ in range(400):
        errors = rng.uniform(0.1, 0.4, 3)
        summary = random_effects(rng.normal(1.0, errors), errors)
        covered += summary.mean_low <= 1.0 <= summary.mean_high
    assert covered / 400 >= 0.95


def test_a_prediction_interval_covers_a_new_site():
    rng, covered = np.random.default_rng(0), 0
    for _ in range(300):
        errors = rng.uniform(0.1, 0.3, 8)
        summary = random_effects(rng.normal(1.0, np.sqrt(0.3**2 + errors**2)), errors)
        covered += summary.prediction_low <= rng.normal(1.0, 0.3) <= summary.prediction_high
    assert 0.9 < covered / 300 < 0.99
