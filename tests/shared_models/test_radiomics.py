import pytest

from shared_models.radiomics import PYRADIOMICS, duke_kinetics_features, pyradiomics_features


def test_there_are_107_features_in_seven_classes() -> None:
    counts = {"shape": 14, "firstorder": 18, "glcm": 24, "gldm": 14, "glrlm": 16, "glszm": 16, "ngtdm": 5}
    assert {group: len(names) for group, names in PYRADIOMICS.items()} == counts
    assert len({feature.name for feature in pyradiomics_features()}) == 107
    assert len({feature.name for feature in duke_kinetics_features()}) == 9


@pytest.mark.parametrize("group", list(PYRADIOMICS))
def test_names_are_those_that_pyradiomics_gives_by_default(group: str) -> None:
    radiomics = pytest.importorskip("radiomics")
    classes = radiomics.getFeatureClasses()
    features = classes["shape" if group == "shape" else group].getFeatureNames()
    current = {f"original_{group}_{name}" for name, deprecated in features.items() if not deprecated}
    assert {f.name for f in pyradiomics_features() if f.name.startswith(f"original_{group}_")} == current


def test_what_may_be_negative_is_taken_as_it_is() -> None:
    signed = ("Skewness", "ClusterShade", "Correlation", "Mean", "Median", "Minimum", "Maximum", "10Percentile", "Imc1")
    logged = {feature.name for feature in pyradiomics_features() if feature.log}
    assert len(logged) == 39
    assert not [name for name in logged if name.rsplit("_", 1)[1] in signed]
