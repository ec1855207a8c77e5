import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shared_models.features import MAX_Z_SCORE, Feature, FeatureStatistics, expand, parse_features
from shared_models.settings import SettingsError


def test_a_study_lists_features_in_text() -> None:
    tables = parse_features("clinical: age_years, nodes:log, grade{1|2|3}\ngenomic: ESR1")
    assert tables["clinical"] == (Feature("age_years"), Feature("nodes", log=True), Feature("grade", ("1", "2", "3")))
    assert tables["genomic"] == (Feature("ESR1"),)
    assert parse_features(" ") == {}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("age_years", "expected one `modality:"),
        ("clinical: age years", "cannot read 'age years'"),
        ("clinical: a, a", "a twice"),
        ("clinical: a\nclinical: b", "expected one `modality:"),
        ("clinical: grade{1|2}:log", "cannot read"),
        ("clinical: ,", "names nothing"),
    ],
)
def test_a_list_that_cannot_be_read_says_why(text: str, complaint: str) -> None:
    with pytest.raises(SettingsError, match="features: ") as error:
        parse_features(text)
    assert complaint in str(error.value)


def test_categories_become_columns_and_missing_stays_missing() -> None:
    features = parse_features("t: size:log, grade{1|2}")["t"]
    columns = expand(features, np.array([[np.e - 1, 1.0], [np.nan, np.nan]]))
    np.testing.assert_allclose(columns, [[1.0, 0.0, 1.0], [np.nan] * 3], rtol=1e-6)


tables = arrays(np.float64, (12, 3), elements=st.one_of(st.floats(-1e3, 1e3), st.just(float("nan"))))


@given(tables, st.integers(0, 12))
def test_statistics_of_two_sites_equal_those_of_all_patients(values: np.ndarray, cut: int) -> None:
    pooled = FeatureStatistics.of(values)
    merged = FeatureStatistics.of(values[:cut]) + FeatureStatistics.of(values[cut:])
    for name in ("patients", "known", "total", "squares"):
        np.testing.assert_allclose(getattr(merged, name), getattr(pooled, name), rtol=1e-9, atol=1e-6)


@given(tables)
def test_standardised_values_are_finite_and_bounded(values: np.ndarray) -> None:
    standard = FeatureStatistics.of(values).standardise(values * 1e6)
    assert standard.shape == (12, 6)
    assert np.isfinite(standard).all()
    assert np.abs(standard[:, :3]).max() <= MAX_Z_SCORE


def test_a_missing_value_becomes_the_mean_and_raises_a_flag_only_where_training_knew_it() -> None:
    statistics = FeatureStatistics.of(np.array([[1.0, 5.0], [3.0, np.nan], [2.0, 7.0]]))
    standard = statistics.standardise(np.array([[np.nan, np.nan]]))
    np.testing.assert_array_equal(standard, [[0.0, 0.0, 0.0, 1.0]])


def test_z_scores_are_those_of_numpy() -> None:
    values = np.random.default_rng(0).normal(5.0, 2.0, (50, 2))
    z = FeatureStatistics.of(values).standardise(values)[:, :2]
    np.testing.assert_allclose(z, (values - values.mean(0)) / values.std(0), rtol=1e-5, atol=1e-6)
