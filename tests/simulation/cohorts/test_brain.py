import re

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from simulation.cohorts import population as who
from simulation.cohorts.brain import cohort as brain_lesions
from simulation.cohorts.brain.ceiling import SHOWN, receptor_auc
from simulation.cohorts.brain.cohort import lesion_shares, radiomics, write_cohort
from simulation.cohorts.brain.dialects import HEMISPHERES, REGIONS, WORDS
from simulation.cohorts.ceiling import configuration_posterior
from simulation.cohorts.ceiling import receptor_auc as breast_auc
from simulation.cohorts.phantom import BRAIN, Exam, Scanner, acquire
from simulation.cohorts.sites import SITES

SCALE = 0.03


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, scale=SCALE)
    return folder


def test_patients_have_two_and_a_half_lesions():
    shares = lesion_shares()
    assert shares.sum() == pytest.approx(1)
    assert shares @ np.arange(1, 9) == pytest.approx(2.5, abs=0.01)


def test_a_lesion_has_its_files_its_row_and_its_volume(cohort, open_hospital):
    for site in SITES:
        settings, tables = open_hospital(cohort, site.name)
        identifier, named = settings["tables"]["lesions"]["patient_id"], settings["instances"]["column"]
        lesions = tables["lesions"]
        assert set(lesions[identifier]) == set(tables["patients"][identifier])
        assert not lesions.duplicated([identifier, named]).any()
        volume = settings["instances"]["volume"]
        column, scale = (volume, 1) if isinstance(volume, str) else (volume["column"], volume["scale"])
        pattern, masks = settings["modalities"]["brain_mri"]["phases"][0], settings["modalities"]["brain_mri"]["mask"]
        for _, row in lesions.iterrows():
            names = {"patient": row[identifier], "instance": row[named]}
            image, mask = (sitk.ReadImage(cohort / site.name / path.format(**names)) for path in (pattern, masks))
            assert image.GetSize() == mask.GetSize() == (40, 40, 40)
            assert image.GetSpacing() == mask.GetSpacing() == (1, 1, 1)
            assert sitk.GetArrayFromImage(mask).sum() == pytest.approx(row[column] * scale, rel=1e-3)
        assert len(list((cohort / site.name / "lesions").rglob("*.nii.gz"))) == 2 * len(lesions)


def test_the_table_has_what_pyradiomics_measures_on_the_files(cohort, open_hospital):
    settings, tables = open_hospital(cohort, "B")
    features = settings["modalities"]["radiomics"]["features"]
    assert len(features) == 107
    row = tables["lesions"].iloc[0]
    files = [cohort / "B" / "lesions" / row.iloc[0] / f"{row.iloc[1]}{end}.nii.gz" for end in ("", "_mask")]
    phase, mask = (sitk.GetArrayFromImage(sitk.ReadImage(file)) for file in files)
    measured = radiomics(Exam(phase[None], mask == 1, BRAIN.seconds))
    for name, column in features.items():
        assert row[column] == pytest.approx(measured[name], rel=1e-5, abs=1e-9), name


def test_a_name_gives_its_position_back(cohort, open_hospital):
    for site in SITES:
        settings, tables = open_hospital(cohort, site.name)
        for entry, choices in zip(
            settings["modalities"]["anatomical_position"]["features"].values(), (HEMISPHERES, REGIONS), strict=True
        ):
            positions = tables["lesions"][entry["column"]].str.extract(entry["extract"])[0]
            codes = {str(code): meaning for code, meaning in entry["codes"].items()}
            assert positions.map(codes).isin(choices).all()
        words = WORDS[site.name]
        for side, code in zip(HEMISPHERES, words.sides, strict=True):
            for region, region_code in zip(REGIONS, words.regions, strict=True):
                name = words.name(side, region, 3)
                assert re.search(words.side_in, name).group(1) == str(code)
                assert re.search(words.region_in, name).group(1) == str(region_code)
                assert not re.search(r"[/{}*]", name)


def test_receptors_are_those_of_the_truth_where_known(cohort, open_hospital):
    truth = pd.read_csv(cohort / "truth.csv", dtype={"patient_id": str}).set_index("patient_id")
    for site in SITES:
        settings, tables = open_hospital(cohort, site.name)
        patients = tables["patients"].set_index(settings["tables"]["patients"]["patient_id"])
        for name in who.RECEPTORS:
            label = settings["targets"][name]["label"]
            known = patients[label["column"]].map(label["codes"]).dropna()
            np.testing.assert_array_equal(known, truth.loc[known.index, name])


def test_equal_seeds_give_equal_bytes_in_any_number_of_processes(tmp_path, digests):
    write_cohort(tmp_path / "one", sites=SITES[2:4], scale=0.04, seed=3)
    write_cohort(tmp_path / "two", sites=SITES[2:4], scale=0.04, seed=3, workers=2)
    write_cohort(tmp_path / "alone", sites=SITES[3:4], scale=0.04, seed=3)
    both = digests(tmp_path / "one")
    assert both == digests(tmp_path / "two")
    assert digests(tmp_path / "alone" / "D") == digests(tmp_path / "one" / "D")


def test_a_lesion_shows_its_size_and_its_wash_in():
    rng = np.random.default_rng(0)
    zero, large, bright = np.zeros(6), np.eye(6)[who.SIZE] * 2, np.eye(6)[0] * 2
    exams = [[acquire(z, Scanner(), rng, BRAIN) for _ in range(5)] for z in (zero, large, bright)]
    volume = [np.mean([exam.mask.sum() for exam in group]) for group in exams]
    signal = [np.mean([exam.phases[0][exam.mask].mean() for exam in group]) for group in exams]
    assert volume[0] == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.25)
    assert volume[1] > 4 * volume[0]
    assert signal[2] > 1.2 * signal[0]


def test_ceilings_rise_with_the_lesions_to_that_of_the_breast():
    one, mixed, eight = (receptor_auc(lesions, patients=50_000) for lesions in (1, 0, 8))
    breast = breast_auc(SHOWN, patients=50_000)
    for name in who.RECEPTORS:
        assert one[name].value < mixed[name].value < eight[name].value < breast[name].value
        assert mixed[name].standard_error < 0.001


def test_lesions_without_spread_are_as_good_as_the_breast(monkeypatch):
    monkeypatch.setattr("simulation.cohorts.brain.ceiling.LESION_SD", 1e-6)
    ours, breast = receptor_auc(1, patients=50_000), breast_auc(SHOWN, patients=50_000)
    for name in who.RECEPTORS:
        assert ours[name].value == pytest.approx(breast[name].value, abs=1e-3)


def test_the_posterior_from_every_lesion_is_that_from_their_mean():
    rng = np.random.default_rng(1)
    population, count = who.draw(2, rng), 3
    lesions = population.z[:, None] + brain_lesions.LESION_SD * rng.standard_normal((2, count, 6))
    lesions = lesions[:, :, SHOWN]
    kiz = who.LOADINGS[SHOWN, 3]
    covariance = np.eye(5) + who.KIZ_SD**2 * np.outer(kiz, kiz)
    stacked = np.kron(np.ones((count, count)), covariance) + brain_lesions.LESION_SD**2 * np.eye(5 * count)
    means = np.tile(who.latent_means()[:, SHOWN], count)
    difference = lesions.reshape(2, 1, -1) - means
    log = np.log(who.configuration_probabilities()) - 0.5 * np.einsum(
        "nki,ij,nkj->nk", difference, np.linalg.inv(stacked), difference
    )
    posterior = np.exp(log) / np.exp(log).sum(axis=1, keepdims=True)
    ours = configuration_posterior(lesions.mean(axis=1), SHOWN, noise_variance=0.25 / count)
    np.testing.assert_allclose(ours, posterior, atol=1e-9)
