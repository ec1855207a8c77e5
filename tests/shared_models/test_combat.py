from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from shared_models.combat import adjustment, reference, references
from shared_models.features import FeatureStatistics, expand, parse_features
from shared_models.metrics.arrays import total
from shared_models.radiomics import pyradiomics_features
from shared_models.settings import SettingsError
from shared_models.study_settings import StudySettings
from shared_models.task import load_task

# neuroCombat 0.2.12 (Fortin 2018) on 6, 5 and 4 patients, its iteration carried to the end.
PATIENTS = (6, 5, 4)
ROWS = [
    [12.248, 22.866, 32.977, 42.563], [12.977, 21.696, 29.27, 37.336], [11.696, 18.139, 27.202, 40.205],
    [9.27, 17.202, 31.416, 42.451], [7.336, 20.205, 32.451, 37.248], [7.202, 22.919, 27.983, 40.408],
    [10.192, 30.552, 30.575, 62.255], [16.341, 19.044, 48.388, 37.773], [20.099, 16.766, 43.776, 54.098],
    [18.928, 26.927, 27.093, 61.616], [13.618, 35.219, 35.797, 37.479], [7.39, 18.49, 29.742, 35.759],
    [6.8, 15.122, 25.692, 37.841], [7.426, 14.68, 21.885, 29.466], [8.845, 17.786, 26.868, 36.087],
]  # fmt: skip
NEUROCOMBAT = [
    [13.48726976, 26.07629281, 36.98920466, 47.2435199], [14.38614549, 24.04184836, 30.03680549, 36.35761641],
    [12.8066396, 17.85679124, 26.15831502, 42.33268545], [9.81532008, 16.22749646, 34.0615816, 47.01026648],
    [7.43064807, 21.44923734, 36.00270128, 36.17435041], [7.26542287, 26.16845384, 27.62306378, 42.75545726],
    [8.66946041, 23.42461309, 27.24597876, 48.72829343], [12.21678946, 16.80948684, 37.49118654, 34.66357415],
    [14.38476295, 15.50002754, 34.83857923, 44.04215971], [13.70921767, 21.34085971, 25.24329434, 48.36119295],
    [10.64590367, 26.10733878, 30.24943001, 34.49467418], [9.93140372, 25.88556786, 39.11943534, 44.76109547],
    [8.65722431, 18.77969101, 31.40931713, 48.94365009], [10.00915085, 17.84715136, 24.16180958, 32.11901866],
    [13.07366234, 24.40025295, 33.64810751, 45.42002423],
]  # fmt: skip


def federated(sites: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Every site's rows as it harmonises them, from sums alone."""
    sums = [FeatureStatistics.of(rows) for rows in sites]
    target = reference(sums)
    return [adjustment(own, target).columns(rows) for own, rows in zip(sums, sites, strict=True)]


def pooled(sites: Sequence[np.ndarray]) -> np.ndarray:
    """ComBat on the pooled rows with a batch label each, as Johnson 2007 writes it."""
    rows, batch = np.concatenate(sites), np.repeat(np.arange(len(sites)), [len(site) for site in sites])
    means = np.array([rows[batch == i].mean(axis=0) for i in range(len(sites))])
    sigma = np.sqrt(((rows - means[batch]) ** 2).mean(axis=0))
    z = (rows - rows.mean(axis=0)) / sigma
    for i in range(len(sites)):
        site = z[batch == i]
        gamma_hat, delta_hat = site.mean(axis=0), site.var(axis=0, ddof=1)
        tau2, lam, theta = gamma_hat.var(ddof=1), delta_hat.mean() ** 2 / delta_hat.var(ddof=1) + 2, delta_hat.mean()
        theta *= lam - 1  # of the inverse gamma with the moments of delta_hat
        gamma, delta = gamma_hat, delta_hat
        for _ in range(200):
            weight = len(site) * tau2
            gamma = (weight * gamma_hat + delta * gamma_hat.mean()) / (weight + delta)
            delta = (theta + 0.5 * ((site - gamma) ** 2).sum(axis=0)) / (len(site) / 2 + lam - 1)
        z[batch == i] = (site - gamma) / np.sqrt(delta)
    return z * sigma + rows.mean(axis=0)


def draw(seed: int, patients: Sequence[int], width: int = 6) -> list[np.ndarray]:
    """Rows of sites whose scanners shift and stretch each column."""
    chance = np.random.default_rng(seed)
    levels = chance.normal(0, 30, width)
    scales = chance.lognormal(0, 1, width)
    return [
        levels
        + scales * (chance.normal(0, 1, width) + chance.lognormal(0, 0.4, width) * chance.normal(0, 1, (n, width)))
        for n in patients
    ]


def test_it_is_neurocombat() -> None:
    sites = np.split(np.array(ROWS), np.cumsum(PATIENTS)[:-1])
    np.testing.assert_allclose(np.concatenate(federated(sites)), NEUROCOMBAT, atol=1e-7)


@settings(max_examples=10)
@given(st.integers(0, 10_000), st.lists(st.integers(3, 80), min_size=3, max_size=5))
def test_sums_of_the_sites_give_what_the_pooled_rows_give(seed: int, patients: list[int]) -> None:
    sites = draw(seed, patients)
    corrected, expected = np.concatenate(federated(sites)), pooled(sites)
    np.testing.assert_allclose(corrected, expected, rtol=1e-6, atol=1e-6)


@given(st.integers(0, 10_000), st.integers(1, 40))
def test_statistics_after_harmonisation_need_no_second_exchange(seed: int, patients: int) -> None:
    sites = draw(seed, [30, patients, 12])
    sites[0][::3, 1] = np.nan
    sums = [FeatureStatistics.of(rows) for rows in sites]
    target = reference(sums)
    statistics = total(adjustment(own, target).statistics(own) for own in sums)
    rows = np.concatenate(federated(sites))
    np.testing.assert_array_equal(statistics.known, (~np.isnan(rows)).sum(axis=0))
    np.testing.assert_allclose(statistics.mean, np.nanmean(rows, axis=0), rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(statistics.deviation, np.nanstd(rows, axis=0), rtol=1e-6)


def z_scores(sites: Sequence[np.ndarray]) -> np.ndarray:
    rows = np.concatenate(federated(sites))
    return (rows - rows.mean(axis=0)) / rows.std(axis=0)


@given(st.floats(0.1, 10.0), st.floats(-50, 50), st.integers(0, 1000))
def test_another_unit_at_all_sites_changes_nothing(gain: float, shift: float, seed: int) -> None:
    sites = draw(seed, [30, 40, 8])
    np.testing.assert_allclose(z_scores([shift + gain * rows for rows in sites]), z_scores(sites), atol=1e-6)


@given(st.floats(0.1, 10.0), st.floats(-50, 50), st.integers(0, 1000))
def test_a_scanners_gain_and_offset_on_one_column_vanish_where_nothing_is_shrunk(
    gain: float, shift: float, seed: int
) -> None:
    sites = draw(seed, [30, 40, 8], width=1)
    np.testing.assert_allclose(z_scores([sites[0], shift + gain * sites[1], sites[2]]), z_scores(sites), atol=1e-6)


@settings(max_examples=20)
@given(st.floats(0.3, 3.0), st.floats(-50, 50), st.integers(0, 1000))
def test_what_shrinkage_leaves_of_a_scanners_effect_falls_with_the_number_of_patients(
    gain: float, shift: float, seed: int
) -> None:
    first, second = draw(seed, [40, 40])
    second[:, 2] = shift + gain * second[:, 2]
    left = []
    for times in (1, 1000):
        sums = [total([FeatureStatistics.of(rows)] * times) for rows in (first, second)]
        target = reference(sums)
        one, other = (adjustment(own, target).statistics(own) for own in sums)
        left += [
            np.abs(one.mean - other.mean).max() / one.deviation.min(),
            np.abs(one.deviation / other.deviation - 1).max(),
        ]
    assert left[2] < 0.02 + 0.1 * left[0]
    assert left[3] < 0.05


def test_a_distorting_site_can_no_longer_be_told_and_the_outcome_can() -> None:
    chance = np.random.default_rng(0)
    outcome = chance.integers(0, 2, 600)
    rows = chance.normal(0, 1, (600, 8)) + outcome[:, None] * np.array([0.7, 0.5, 0.5, 0, 0, 0, 0, 0])
    where = np.repeat([0, 1, 2], 200)
    distorted = np.where(where[:, None] == 1, 2.5 * rows + 4, rows)
    harmonised = np.concatenate(federated([distorted[where == site] for site in range(3)]))

    def auc(values: np.ndarray, truth: np.ndarray) -> float:
        scaled = (values - values.mean(axis=0)) / values.std(axis=0)
        model = LogisticRegression()
        return float(roc_auc_score(truth, cross_val_predict(model, scaled, truth, method="decision_function")))

    # squares, too: a gain alone would not show in a linear score
    aucs = [auc(np.hstack([values, values**2]), where == 1) for values in (rows, distorted, harmonised)]
    assert abs(aucs[0] - 0.5) < 0.06
    assert aucs[1] > 0.95
    assert aucs[2] < 0.56  # below chance, too: what a fold lacks of a mean of zero, its rest has in excess
    learned = [auc(values, outcome) for values in (rows, distorted, harmonised)]
    assert learned[1] < learned[0] - 0.03
    assert learned[2] == pytest.approx(learned[0], abs=0.01)


def test_categories_and_columns_of_yes_and_no_are_left_alone() -> None:
    features = parse_features("t: size, grade{1|2}, menopause, dose")["t"]
    chance = np.random.default_rng(0)

    def site(shift: float, yes: float) -> np.ndarray:
        grade, menopause = chance.random((2, 50)) < yes
        return expand(
            features, np.stack([chance.normal(shift, 2, 50), grade, menopause, chance.normal(-shift, 1, 50)], axis=1)
        )

    sites = [site(0, 0.2), site(9, 0.8)]
    corrected = federated(sites)
    for before, after in zip(sites, corrected, strict=True):
        np.testing.assert_array_equal(after[:, 1:4], before[:, 1:4])
    assert abs(corrected[0][:, 0].mean() - corrected[1][:, 0].mean()) < 0.2


def test_a_site_of_one_patient_is_shifted_part_of_the_way_and_not_scaled() -> None:
    sites = draw(0, [60, 1, 40])
    sums = [FeatureStatistics.of(rows) for rows in sites]
    target = reference(sums)
    own = adjustment(sums[1], target)
    np.testing.assert_array_equal(own.factor, 1.0)
    away, left = (np.abs(rows - target.mean) for rows in (sites[1], own.columns(sites[1])))
    assert left.sum() < away.sum()
    assert left.sum() > 0.05 * away.sum()


def test_missing_values_stay_so_and_the_known_ones_of_a_column_count() -> None:
    sites = draw(1, [50, 60, 40])
    sites[1][:25, 2] = np.nan
    sites[2][:, 3] = np.nan  # a column that one site does not have
    corrected = federated(sites)
    for before, after in zip(sites, corrected, strict=True):
        np.testing.assert_array_equal(np.isnan(after), np.isnan(before))
    short = [sites[0], sites[1][25:], sites[2]]
    target = reference([FeatureStatistics.of(rows) for rows in sites])
    known = reference([FeatureStatistics.of(rows) for rows in short])
    assert target.mean[2] == pytest.approx(known.mean[2])
    assert target.variance[2] == pytest.approx(known.variance[2])
    assert target.mean[3] == pytest.approx(np.concatenate(sites[:2])[:, 3].mean())


def test_what_training_patients_of_a_site_do_not_know_is_left_as_it_is() -> None:
    sites = draw(2, [50, 60])
    sums = [FeatureStatistics.of(rows) for rows in sites]
    target = reference(sums)
    rows = sites[1].copy()
    rows[:, 4] = np.nan
    own = adjustment(FeatureStatistics.of(rows), target)
    assert (own.factor[4], own.offset[4]) == (1.0, 0.0)
    nobody = adjustment(FeatureStatistics.of(np.empty((0, 6))), target)
    np.testing.assert_array_equal(nobody.columns(rows[:3]), rows[:3])


def test_columns_that_do_not_vary_do_no_harm() -> None:
    sites = draw(3, [50, 60, 30])
    for rows in sites:
        rows[:, 0] = 7.3  # nowhere
    sites[1][:, 1] = 5e6  # not at one site
    corrected = federated(sites)
    assert all(np.isfinite(rows).all() for rows in corrected)
    for rows in corrected:
        np.testing.assert_array_equal(rows[:, 0], 7.3)
    np.testing.assert_allclose(corrected[1][:, 1], corrected[1][0, 1])
    assert corrected[1][0, 1] < 4e6
    sums = [FeatureStatistics.of(rows) for rows in sites]
    target = reference(sums)
    assert adjustment(sums[1], target).factor[1] == 1.0  # of a spread that it does not have it learns nothing
    assert (adjustment(sums[1], target).factor[2:] != 1.0).all()


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("patients", [[1, 1], [2, 2], [1, 30], [40, 40]])
def test_few_columns_and_few_patients_give_finite_values(width: int, patients: list[int]) -> None:
    assert all(np.isfinite(rows).all() for rows in federated(draw(4, patients, width)))


def test_a_column_alone_has_no_prior_and_loses_all_of_the_sites_effect() -> None:
    first, second = federated(draw(5, [80, 50], width=1))
    assert first.mean() == pytest.approx(second.mean())
    assert first.std(ddof=1) == pytest.approx(second.std(ddof=1))


FEATURES = "clinical: age_years, size_mm\nradiomics: x, y"


def test_a_study_names_the_tables_it_harmonises() -> None:
    config = StudySettings(task="recurrence_mri", features=FEATURES, modalities="clinical, radiomics")
    assert config.harmonised_tables == ()
    asked = config.model_copy(update={"harmonisation": "combat"})
    task = load_task(asked)
    sums = {name: FeatureStatistics.of(np.ones((3, 2))) for name in task.tables}
    assert list(references([sums, sums], asked)) == ["radiomics"]
    assert references([sums, sums], config) == {}


@pytest.mark.parametrize(("named", "complaint"), [("radiomic", "no table radiomic in this study"), (" ", "no table")])
def test_a_table_that_is_not_there_is_refused(named: str, complaint: str) -> None:
    with pytest.raises(SettingsError, match=f"harmonised: {complaint}"):
        load_task(StudySettings(features="clinical: age_years", harmonisation="combat", harmonised=named))


@pytest.fixture
def lesions() -> tuple[np.ndarray, np.ndarray]:
    """Radiomics `(2699, 107)` of real brain metastases as network input, and whose each is."""
    import pandas as pd

    beside = Path(__file__).parents[3] / "shared" / "data"
    file = Path(os.environ.get("FEDERATION_TEST_DATA", beside)) / "bcbm" / "radiomics_lesions.csv"
    if not file.is_file():
        pytest.skip(f"no real data: set FEDERATION_TEST_DATA (looked for {file})")
    table, features = pd.read_csv(file), pyradiomics_features()
    return expand(features, table[[feature.name for feature in features]].to_numpy(float)), table["patient"].to_numpy()


def test_sums_give_what_the_pooled_rows_of_real_lesions_give(lesions: tuple[np.ndarray, np.ndarray]) -> None:
    rows, patients = lesions
    shares = np.array([zlib.crc32(str(patient).encode()) % 10 for patient in patients])
    where = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 3])[shares]
    distorted = np.where(where[:, None] == 1, 2.5 * rows + 1, rows).astype(np.float64)
    sites = [distorted[where == site] for site in range(4)]
    corrected, expected = np.concatenate(federated(sites)), pooled(sites)
    assert corrected.shape == (2699, 107)
    np.testing.assert_allclose((corrected - expected) / expected.std(axis=0), 0.0, atol=1e-6)
    means = np.array([site.mean(axis=0) for site in federated(sites)])
    gaps = np.abs(means - corrected.mean(axis=0)) / corrected.std(axis=0)
    assert np.median(gaps) < 0.02
