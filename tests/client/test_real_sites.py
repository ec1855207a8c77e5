"""The site configs of the project on the real data they were written for."""

import tomllib
from pathlib import Path

import numpy as np
import pytest

from client.cohort import load_cohort
from client.readiness import readiness
from client.site import Selection, load_site
from shared_models.features import parse_features
from shared_models.run_config import parse_run_config
from shared_models.targets import TimeToEvent
from shared_models.task import Table, Task

PROJECT = Path(__file__).parents[2]
FOLDERS = {"duke": "duke", "rotterdam": "rotterdam_gbsg", "gbsg": "rotterdam_gbsg", "tcga_brca": "tcga_brca"}


def study_of(name):
    config = parse_run_config(tomllib.loads((PROJECT / f"studies/{FOLDERS[name]}.toml").read_text()))
    tables = {key: Table(features) for key, features in parse_features(config.features).items()}
    return config, Task(tables, {"recurrence": TimeToEvent(config.edges)}, build_model=None)


@pytest.fixture
def real_site(shared_data, tmp_path):
    def load(name):
        site = load_site(PROJECT / f"site_configs/{name}.yaml", shared_data / FOLDERS[name])
        return site.model_copy(update={"state_dir": tmp_path / name})

    return load


@pytest.fixture
def real_cohort(real_site):
    def load(name):
        config, task = study_of(name)
        return load_cohort(real_site(name), task, config)

    return load


@pytest.mark.parametrize("name", FOLDERS)
def test_every_feature_of_a_study_is_mapped_by_its_sites(name):
    _, task = study_of(name)
    mapped = load_site(PROJECT / f"site_configs/{name}.yaml").modalities["clinical"].features
    assert {feature.name for feature in task.tables["clinical"].features} <= set(mapped)


def test_duke(real_cohort):
    cohort = real_cohort("duke")
    truth = cohort.truths["recurrence"]
    assert len(cohort.patients) == 922
    assert int((truth[:, 1] == 1).sum()) == 87
    assert int((truth[:, 1] == 0).sum()) == 818
    assert 20 < np.nanmin(cohort.inputs["clinical"][:, 0]) < np.nanmax(cohort.inputs["clinical"][:, 0]) < 95
    # 608 of the patients without recurrence were followed for less than five years.
    assert int(((truth[:, 1] == 0) & (truth[:, 0] < 5 * 365.25)).sum()) == 608


def test_dukes_whole_sheet(real_site):
    found = readiness(real_site("duke"), None, None)
    missing = {count.feature: count.missing for count in found.features}
    assert missing["n_stage"] == 24
    assert missing["nottingham_grade"] == 284
    assert missing["menopause"] == 16
    assert all(count.out_of_range == 0 for count in found.features)
    assert found.targets["er"] == {"0": 236, "1": 686, "unknown": 0}
    assert found.targets["her2"] == {"0": 759, "1": 163, "unknown": 0}


def test_rotterdam_and_gbsg_give_the_same_features_on_the_same_scales(real_cohort):
    rotterdam, gbsg = real_cohort("rotterdam"), real_cohort("gbsg")
    for cohort, patients, events in ((rotterdam, 2982, 1518), (gbsg, 686, 299)):
        assert len(cohort.patients) == patients
        assert int(cohort.truths["recurrence"][:, 1].sum()) == events
        assert not np.isnan(cohort.inputs["clinical"]).any()
    assert set(np.unique(rotterdam.inputs["clinical"][:, 2])) == {15, 30, 60}
    means = [cohort.inputs["clinical"].mean(axis=0) for cohort in (rotterdam, gbsg)]
    np.testing.assert_allclose(means[0][[0, 2, 3]], means[1][[0, 2, 3]], rtol=0.35)


def test_tcga_follows_its_published_split(real_cohort):
    cohort = real_cohort("tcga_brca")
    assert cohort.inputs["clinical"].shape == (1088, 39)
    assert int(cohort.truths["recurrence"][:, 1].sum()) == 151
    assert {part: len(rows) for part, rows in cohort.parts.items()} == {"train": 736, "validation": 130, "test": 222}


@pytest.mark.parametrize(("region", "patients"), list(enumerate([311, 196, 206, 162, 162, 51])))
def test_tcga_by_region(real_site, region, patients):
    site = real_site("tcga_brca")
    include = Selection(table="split", column="fold2", values=(f"train_{region}", f"test_{region}"))
    config, task = study_of("tcga_brca")
    cohort = load_cohort(site.model_copy(update={"include": include}), task, config)
    assert len(cohort.patients) == patients
    assert len(cohort.parts["test"]) == [63, 40, 42, 33, 33, 11][region]
