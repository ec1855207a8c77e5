import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from scipy.ndimage import label
from scipy.stats import multivariate_normal
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score

from shared_models.features import parse_features
from shared_models.tasks.subtype_histology import TABLES
from simulation.cohorts.expression import cohort as who
from simulation.cohorts.expression.ceiling import POSITIVE, subtype_auc, subtype_posterior
from simulation.cohorts.expression.cohort import write_cohort
from simulation.cohorts.expression.dialects import FACTOR_GENES, GENES, SUBTYPES
from simulation.cohorts.expression.tiles import Stain, draw_tile
from simulation.cohorts.sites import SITES


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, scale=0.06)
    return folder


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    write_cohort(folder, images=False)
    return folder


@pytest.mark.parametrize(
    ("modalities", "quoted"),
    [(("expression",), 0.970), (("histology",), 0.850), (("expression", "histology"), 0.981)],
)
def test_ceilings_are_the_quoted_ones(modalities, quoted):
    ceiling = subtype_auc(modalities, patients=100_000)
    assert ceiling.value == pytest.approx(quoted, abs=3 * ceiling.standard_error + 0.001)


def test_genes_that_load_nothing_say_nothing():
    assert subtype_auc(("expression",), kappa=1e-3, patients=50_000).value == pytest.approx(0.5, abs=0.02)
    assert subtype_auc((), patients=1_000).value == 0.5


def test_the_posterior_is_that_of_all_genes_at_once():
    population = who.draw(50, np.random.default_rng(0))
    covariance = who.KAPPA**2 * who.LOADINGS @ who.LOADINGS.T + np.eye(50)
    means = who.KAPPA * who.FACTOR_MEANS @ who.LOADINGS.T
    log = np.column_stack([multivariate_normal(mean, covariance).logpdf(population.genes) for mean in means])
    log += np.column_stack(
        [multivariate_normal(mean, np.eye(2)).logpdf(population.tissue) for mean in who.TISSUE_MEANS]
    )
    posterior = np.exp(log) * who.subtype_shares()
    posterior /= posterior.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(subtype_posterior(population, ("expression", "histology")), posterior, atol=1e-9)


def test_a_fitted_discriminant_comes_near_the_ceiling_and_not_above():
    train, test = (who.draw(20_000, np.random.default_rng(seed)) for seed in (1, 2))
    fitted = LinearDiscriminantAnalysis().fit(train.genes, train.subtype)
    score = fitted.predict_proba(test.genes)[:, POSITIVE].sum(axis=1)
    auc = roc_auc_score(np.isin(test.subtype, POSITIVE), score)
    ceiling = subtype_auc(("expression",)).value
    assert ceiling - 0.01 < auc < ceiling + 0.004


def test_shares_and_the_factor_on_her2():
    assert who.subtype_shares() == pytest.approx(who.SUBTYPE_SHARES)
    doubled = who.subtype_shares(2.0)
    assert doubled.sum() == pytest.approx(1)
    assert doubled[SUBTYPES.index("Her2")] == pytest.approx(2 * who.SUBTYPE_SHARES[SUBTYPES.index("Her2")])


def test_the_genes_are_those_of_the_task():
    ours = {gene for genes in FACTOR_GENES.values() for gene in genes}
    assert ours == {feature.name for feature in parse_features(TABLES)["expression"]}
    assert len(GENES) == len(set(GENES)) == 100


def test_hospitals_agree_in_log2_and_one_has_no_genes_and_one_no_slides(tables, cohort, open_hospital):
    for site in SITES:
        settings, table = open_hospital(tables, site.name)
        assert ("expression" in settings["modalities"]) == (site.name != "C")
        assert ("tiles" in open_hospital(cohort, site.name)[0]["modalities"]) == (site.name != "D")
        assert "tile_features" not in settings["modalities"]
        if site.name == "C":
            continue
        entries = settings["modalities"]["expression"]["features"]
        assert list(entries) == list(GENES)
        entry = entries["NOISE07"]
        column, scale = (entry, 1) if isinstance(entry, str) else (entry["column"], entry["scale"])
        values = table["expression"][column] * scale
        assert values.mean() == pytest.approx(8, abs=0.6)
        assert values.std() == pytest.approx(1.2, abs=0.3)


def test_the_codes_give_the_truth_back(tables, open_hospital):
    truth = pd.read_csv(tables / "truth.csv", dtype={"patient_id": str}).set_index("patient_id")["pam50"]
    for site in SITES:
        settings, table = open_hospital(tables, site.name)
        patients = table["patients"].set_index(settings["tables"]["patients"]["patient_id"])
        four, two = (settings["targets"][name]["label"] for name in ("pam50", "basal_or_her2"))
        known = patients[four["column"]].map(four["codes"]).dropna()
        assert (known == truth[known.index]).all()
        positive = patients[two["column"]].map(two["codes"]).dropna()
        assert (positive == truth[positive.index].isin(["Her2", "Basal"])).all()


def test_a_patient_has_six_to_twelve_tiles(cohort):
    counts = [len(list(folder.iterdir())) for folder in cohort.glob("*/histology/*")]
    assert min(counts) >= 6
    assert max(counts) <= 12
    tile = sitk.ReadImage(next((cohort / "A" / "histology").rglob("tile_00.png")))
    assert (tile.GetSize(), tile.GetNumberOfComponentsPerPixel(), tile.GetPixelIDTypeAsString()) == (
        (64, 64),
        3,
        "vector of 8-bit unsigned integer",
    )


def test_tiles_show_their_latents():
    def nuclei(density, size):
        rng = np.random.default_rng(0)
        dark = [draw_tile(density, size, Stain(), rng)[..., 0] < 130 for _ in range(20)]
        return np.mean([label(one)[1] for one in dark]), np.mean(dark)

    few, small = nuclei(-1.5, 0.0)
    many, _ = nuclei(1.0, 0.0)
    assert many > 1.5 * few
    assert nuclei(0.0, 2.0)[1] > 1.5 * nuclei(0.0, -2.0)[1]
    assert 0 < small < 0.3


def test_hospitals_with_slides_get_a_copy_of_the_weights(tmp_path, open_hospital):
    weights = tmp_path / "resnet50.safetensors"
    weights.write_bytes(b"weights")
    write_cohort(tmp_path / "cohort", sites=SITES[2:4], scale=0.02, weights=weights)
    settings, _ = open_hospital(tmp_path / "cohort", "C")
    assert settings["modalities"]["tile_features"] == {
        "reader": "tiles",
        "tiles": "histology/{patient}/*.png",
        "weights": "resnet50.safetensors",
    }
    assert (tmp_path / "cohort" / "C" / "resnet50.safetensors").read_bytes() == b"weights"
    assert not (tmp_path / "cohort" / "D" / "resnet50.safetensors").exists()


def test_equal_seeds_give_equal_bytes_in_any_number_of_processes(tmp_path, digests):
    write_cohort(tmp_path / "one", sites=SITES[1:3], scale=0.03, seed=3)
    write_cohort(tmp_path / "two", sites=SITES[1:3], scale=0.03, seed=3, workers=2)
    write_cohort(tmp_path / "alone", sites=SITES[2:3], scale=0.03, seed=3)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert digests(tmp_path / "alone" / "C") == digests(tmp_path / "one" / "C")
