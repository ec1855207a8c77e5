import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from simulation.cohorts import population as who
from simulation.cohorts.ceiling import bayes_auc, expected_auc, ki67_error, receptor_auc, recurrence_risk

# The quoted ceilings have three decimals and came from finite samples of labels.
QUOTED_ERROR = 0.003


@pytest.mark.parametrize(
    ("prevalence", "modalities", "quoted"),
    [
        (0.095, ("mri", "clinical", "genomic"), 0.796),
        (0.25, ("mri", "clinical", "genomic"), 0.783),
        (0.095, ("mri",), 0.757),
        (0.095, ("clinical",), 0.730),
        (0.095, ("genomic",), 0.728),
    ],
)
def test_recurrence_ceilings_are_the_quoted_ones(prevalence, modalities, quoted):
    ceiling = bayes_auc(prevalence, modalities, patients=100_000)
    assert ceiling.standard_error < 0.001
    assert ceiling.value == pytest.approx(quoted, abs=3 * ceiling.standard_error + QUOTED_ERROR)


@pytest.mark.parametrize(
    ("latents", "quoted"),
    [
        (range(6), {"er": 0.949, "pr": 0.866, "her2": 0.799}),
        ([0, 2, 3, 4, 5], {"er": 0.924, "pr": 0.836, "her2": 0.786}),
        ([4], {"er": 0.736, "pr": 0.680, "her2": 0.656}),
    ],
    ids=["four phases", "single phase", "size only"],
)
def test_receptor_ceilings_are_the_quoted_ones(latents, quoted):
    for name, ceiling in receptor_auc(latents, patients=100_000).items():
        assert ceiling.value == pytest.approx(quoted[name], abs=3 * ceiling.standard_error + QUOTED_ERROR), name


@pytest.mark.parametrize(
    ("latents", "quoted"),
    [([], 13.0), ([0, 2, 3, 4, 5], 9.4), (list(range(6)), 9.0)],
    ids=["the constant median", "single phase", "four phases"],
)
def test_ki67_ceilings_are_the_quoted_ones(latents, quoted):
    ceiling = ki67_error(latents, patients=50_000)
    assert ceiling.value == pytest.approx(quoted, abs=3 * ceiling.standard_error + 0.05)


def test_without_latents_the_ki67_error_is_that_of_the_median():
    ki67 = who.draw(50_000, np.random.default_rng(0)).ki67_percent
    assert ki67_error([], patients=50_000).value == pytest.approx(np.abs(ki67 - np.median(ki67)).mean(), abs=0.01)


def test_no_regression_on_the_latents_beats_the_ki67_ceiling():
    cohort = who.draw(50_000, np.random.default_rng(6))
    inputs = np.column_stack([np.ones(50_000), cohort.z, cohort.z**2])
    logit = np.log(cohort.ki67_percent / (100 - cohort.ki67_percent))
    fitted = inputs @ np.linalg.lstsq(inputs, logit, rcond=None)[0]
    error = np.abs(100 * expit(fitted) - cohort.ki67_percent).mean()
    assert ki67_error(range(6), patients=50_000).value < error < 10


def test_a_modality_more_never_lowers_the_ceiling():
    ladder = [("clinical",), ("clinical", "genomic"), ("mri", "clinical", "genomic")]
    values = [bayes_auc(0.25, modalities, patients=50_000).value for modalities in ladder]
    assert values == sorted(values)


def test_everything_observed_gives_the_true_risk():
    cohort = who.draw(500, np.random.default_rng(1))
    risk = recurrence_risk(cohort, 0.25, ("mri", "clinical", "genomic"))
    np.testing.assert_allclose(risk, expit(who.intercept(0.25) + cohort.risk), atol=1e-9)


@pytest.mark.parametrize("modalities", [(), ("mri",), ("clinical",), ("genomic",), ("clinical", "genomic")])
def test_the_posterior_risk_is_calibrated(modalities):
    cohort = who.draw(100_000, np.random.default_rng(2))
    truth = expit(who.intercept(0.25) + cohort.risk)
    risk = recurrence_risk(cohort, 0.25, modalities)
    order = np.argsort(risk, kind="stable")
    for part in np.array_split(order, 10):
        error = np.std(truth[part]) / np.sqrt(len(part))
        assert truth[part].mean() == pytest.approx(risk[part].mean(), abs=4 * error)


def test_no_classifier_of_the_observed_beats_the_ceiling():
    cohort = who.draw(100_000, np.random.default_rng(3))
    truth = expit(who.intercept(0.25) + cohort.risk)
    linear = 0.5 * cohort.measured_size - 0.5 * cohort.receptors[:, 0] + 0.55 * cohort.node - 0.15 * cohort.age
    ceiling = bayes_auc(0.25, ("clinical",), patients=100_000)
    assert ceiling.value - 0.02 < expected_auc(linear, truth) < ceiling.value + 3 * ceiling.standard_error


def test_intercepts_are_the_quoted_ones():
    assert who.intercept(0.095) == pytest.approx(-3.119, abs=0.01)
    assert who.intercept(0.25) == pytest.approx(-1.713, abs=0.01)


def test_expected_auc_of_certain_labels_is_the_auc():
    rng = np.random.default_rng(4)
    labels, scores = rng.integers(0, 2, 300), rng.integers(0, 20, 300).astype(float)
    assert expected_auc(scores, labels.astype(float)) == pytest.approx(roc_auc_score(labels, scores))


def test_receptor_prevalences_and_the_factor_on_her2():
    np.testing.assert_allclose(who.configuration_probabilities() @ who.CONFIGURATIONS, [0.745, 0.62, 0.19])
    doubled = who.configuration_probabilities(2.0)
    assert doubled.sum() == pytest.approx(1)
    assert doubled @ who.CONFIGURATIONS[:, 2] == pytest.approx(0.38)


def test_the_genomic_score_is_standard_normal_and_stands_in_no_single_gene():
    cohort = who.draw(50_000, np.random.default_rng(5))
    assert cohort.genomic_score.std() == pytest.approx(1, abs=0.02)
    single = [abs(np.corrcoef(gene, cohort.genomic_score)[0, 1]) for gene in cohort.expression.T]
    assert max(single) < 0.55


def test_an_unknown_modality_is_named():
    with pytest.raises(ValueError, match="histology"):
        bayes_auc(modalities=("histology",), patients=100)
