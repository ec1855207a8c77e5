from functools import cache

import numpy as np
import pytest
from scipy.stats import spearmanr

from client.extractors.kinetics import sphericity
from simulation.cohorts import phantom
from simulation.cohorts import population as who
from simulation.cohorts.breast_mri import kinetics
from simulation.cohorts.phantom import Exam, Scanner

SCANNERS = {
    "reference": Scanner(),
    "gain and bias": Scanner(gain=2.5, bias=0.25),
    "blur and noise": Scanner(blur_mm=1.2, noise=0.06),
    "late": Scanner(delay_s=60.0),
}


@cache
def measured(scanner, patients):
    rng = np.random.default_rng(0)
    z = who.draw(patients, rng).z
    rows = [kinetics.measure(phantom.acquire(latents, scanner, rng)) for latents in z]
    return z, {name: np.array([row[name] for row in rows]) for name in kinetics.FEATURES}


def rank_correlation(feature, latent):
    return spearmanr(feature, latent, nan_policy="omit").statistic


@pytest.mark.parametrize("scanner", SCANNERS.values(), ids=SCANNERS)
@pytest.mark.parametrize(
    ("feature", "latent", "at_least"),  # measured at the reference: 1.00, 1.00, .93, 1.00, .98
    [
        ("PE1_mean_tumor", "wash_in", 0.93),
        ("SER_map_mean_tumor", "wash_out", 0.97),
        ("Rim_to_core_PE1_ratio", "rim", 0.75),
        ("Volume_cu_mm_Tumor", "size", 0.97),
        ("Peak_SER_tumor", "wash_out", 0.80),
    ],
)
def test_features_show_their_latents(scanner, feature, latent, at_least):
    z, features = measured(scanner, 80 if scanner == Scanner() else 40)
    assert rank_correlation(features[feature], z[:, who.LATENTS.index(latent)]) > at_least


def test_relative_spread_of_enhancement_shows_heterogeneity():
    z, features = measured(Scanner(), 80)
    spread = features["PE1_std_dev_tumor"] / features["PE1_mean_tumor"]
    assert rank_correlation(spread, z[:, 3]) > 0.45


def test_sphericity_falls_with_spiculation():
    z, features = measured(Scanner(), 80)
    assert rank_correlation(features["Sphericity_tumor"], z[:, 5]) < -0.35


def test_enhancement_and_ser_are_those_of_the_latents():
    z, features = measured(Scanner(), 80)
    np.testing.assert_allclose(features["PE1_mean_tumor"], 100 * np.exp(0.30 * z[:, 0]), rtol=0.06)
    np.testing.assert_allclose(features["SER_map_mean_tumor"], np.exp(0.22 * z[:, 1]), rtol=0.06)


def test_gain_changes_no_feature():
    z = np.zeros(6)
    plain, loud = (
        kinetics.measure(phantom.acquire(z, Scanner(gain=gain), np.random.default_rng(0))) for gain in (1.0, 2.5)
    )
    for name in kinetics.FEATURES:
        assert loud[name] == pytest.approx(plain[name], rel=0.02, abs=1e-3), name


@pytest.mark.parametrize("size", [-4.0, 0.0, 4.0])
def test_an_exam_fits_its_volume(size):
    exam = phantom.acquire(np.array([2, 2, 2, 2, size, 2.0]), Scanner(2.5, 0.25), np.random.default_rng(0))
    assert exam.phases.shape == (4, 32, 64, 64)
    assert exam.phases.dtype == np.int16
    assert exam.phases.min() >= 0
    assert exam.phases.max() < 32767
    radius = np.clip(9 * np.exp(0.35 * size), 4, 26)
    assert exam.mask.sum() * 2 == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.35)
    assert all(np.isfinite(kinetics.measure(exam)[name]) for name in kinetics.FEATURES if "Rim" not in name)


def test_a_smooth_field_is_standard_and_correlated_over_its_width():
    field = phantom.smooth_field(np.random.default_rng(0), 3.0)
    assert field.mean() == pytest.approx(0, abs=1e-5)
    assert field.std() == pytest.approx(1, abs=1e-5)
    # exp(-d^2 / (4 sigma^2)) at 4 mm: two voxels in depth, four in height.
    for axis, step in ((0, 2), (1, 4)):
        assert (field * np.roll(field, step, axis)).mean() == pytest.approx(np.exp(-16 / 36), abs=0.1)


def ball(radius):
    z, y, x = np.meshgrid((np.arange(32) - 16) * 2.0, np.arange(64) - 32.0, np.arange(64) - 32.0, indexing="ij")
    return z**2 + y**2 + x**2 < radius**2


def test_sphericity_of_a_ball_and_of_a_rod():
    assert sphericity(ball(15), phantom.SPACING_MM) == pytest.approx(1, abs=0.05)
    rod = np.zeros((32, 64, 64), dtype=bool)
    rod[14:17, 29:35, 5:60] = True
    assert sphericity(rod, phantom.SPACING_MM) < 0.75


def test_kinetics_of_a_known_curve():
    mask = ball(10)
    before = np.full(mask.shape, 100)
    phases = np.stack([before, before * 2, before * 1.9, before + 50]).astype(np.int16)
    features = kinetics.measure(Exam(phases, mask, (0.0, 90.0, 270.0, 450.0)))
    assert features["PE1_mean_tumor"] == pytest.approx(100)
    assert features["SER_map_mean_tumor"] == pytest.approx(2)
    assert features["SER_map_std_dev_tumor"] == 0
    assert features["SER_map_Entropy_tumor"] == 0
    assert features["WashinRate_map_mean_tumor"] == pytest.approx(1 / 90)
    assert features["Rim_to_core_PE1_ratio"] == pytest.approx(1)
    assert features["SER_Washout_tumor_vol_cu_mm"] == features["Volume_cu_mm_Tumor"] == mask.sum() * 2
    assert features["SER_Partial_tumor_vol_cu_mm"] == 0


def test_a_tumour_that_does_not_enhance_has_no_ser():
    phases = np.full((4, 32, 64, 64), 100, dtype=np.int16)
    features = kinetics.measure(Exam(phases, ball(8), (0.0, 90.0, 270.0, 450.0)))
    assert features["SER_Total_tumor_vol_cu_mm"] == 0
    assert np.isnan(features["SER_map_mean_tumor"])
    assert np.isnan(features["Peak_SER_tumor"])
