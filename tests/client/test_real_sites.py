"""The site configs of the project on the real data they were written for."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from client.checks.counts import readiness
from client.cohort.load import load_cohort
from client.config.site import PublishedSplit, Selection, load_site
from client.errors import SiteError
from client.tables.read import read_table
from shared_models.features import parse_features
from shared_models.study_settings import parse_study_settings
from shared_models.targets import TimeToEvent
from shared_models.task import Table, Task, load_task

PROJECT = Path(__file__).parents[2]
FOLDERS = {"duke": "duke", "rotterdam": "rotterdam_gbsg", "gbsg": "rotterdam_gbsg", "tcga_brca": "tcga_brca"}

# Sites of the tasks that have a network of their own, and their studies.
STUDIES = {
    "tcga_multiomics": "tcga_multiomics",
    "cbis_ddsm": "cbis_ddsm",
    "cbis_ddsm_test": "cbis_ddsm",
    "bcbm": "bcbm",
}


def study_of(name):
    config = parse_study_settings(tomllib.loads((PROJECT / f"studies/{FOLDERS[name]}.toml").read_text()))
    tables = {key: Table(features) for key, features in parse_features(config.features).items()}
    return config, Task(tables, {"recurrence": TimeToEvent(config.edges)}, build_model=None)


@pytest.fixture
def real_site(shared_data, tmp_path):
    def load(name):
        site = load_site(PROJECT / f"site_configs/{name}.yaml", shared_data / (FOLDERS | STUDIES)[name])
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
    preview_kind = load_site(PROJECT / f"site_configs/{name}.yaml").modalities["clinical"].features
    assert {feature.name for feature in task.tables["clinical"].features} <= set(preview_kind)


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
    result = readiness(real_site("duke"), None, None)
    missing = {count.feature: count.missing for count in result.features}
    assert missing["n_stage"] == 24
    assert missing["nottingham_grade"] == 284
    assert missing["menopause"] == 16
    assert all(count.out_of_range == 0 for count in result.features)
    assert result.targets["er"] == {"0": 236, "1": 686, "unknown": 0}
    assert result.targets["her2"] == {"0": 759, "1": 163, "unknown": 0}


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


@pytest.fixture
def whole_cohort(real_site):
    def load(name, **changes):
        settings = tomllib.loads((PROJECT / f"studies/{STUDIES[name]}.toml").read_text())
        config = parse_study_settings(settings)
        return load_cohort(real_site(name).model_copy(update=changes), load_task(config), config)

    return load


def classes(cohort, target):
    truth = cohort.truths[target]
    return np.bincount(truth[~np.isnan(truth)].astype(int)).tolist()


def test_tcga_multiomics(whole_cohort):
    cohort = whole_cohort("tcga_multiomics")
    assert {name: array.shape for name, array in cohort.inputs.items()} == {
        "expression": (348, 645),
        "mirna": (348, 423),
    }
    assert cohort.present.all()
    assert classes(cohort, "basal_or_her2") == [229, 98]
    assert classes(cohort, "pam50") == [168, 61, 35, 63]
    assert sum(len(part) for part in cohort.parts.values()) == 229 + 98


def test_a_region_of_tcga_multiomics(whole_cohort):
    west = whole_cohort("tcga_multiomics", include=Selection(column="region", values=("West",)))
    assert classes(west, "pam50") == [42, 12, 4, 19]


def test_cbis_ddsm_and_its_published_test_set(whole_cohort):
    train, test = whole_cohort("cbis_ddsm"), whole_cohort("cbis_ddsm_test")
    for cohort, patients, views, labels in ((train, 691, 1318, [345, 346]), (test, 201, 378, [116, 85])):
        assert len(cohort.patients) == patients
        assert cohort.inputs["mammography"].shape == (views, 16)
        assert classes(cohort, "relapse") == labels
    assert not set(train.patients) & set(test.patients)
    assert {part: len(rows) for part, rows in test.parts.items()} == {"train": 0, "validation": 0, "test": 201}
    assert len(train.parts["test"]) == 0
    # circumscribed .. spiculated, and 43 masses without a margin
    margins = train.inputs["mammography"][:, 7:12]
    assert np.nansum(margins, axis=0).tolist() == [305, 216, 109, 327, 318]
    assert np.isnan(margins[:, 0]).sum() == 43


def test_brain_metastases(whole_cohort):
    cohort = whole_cohort("bcbm")
    assert len(cohort.patients) == 122
    assert cohort.inputs["radiomics"].shape == (2593, 107)
    assert not np.isnan(cohort.inputs["radiomics"]).any()
    assert [classes(cohort, target) for target in ("er", "pr", "her2")] == [[61, 58], [76, 40], [55, 60]]
    assert cohort.present.sum(axis=0).tolist() == [2593, 1799]
    assert np.ptp(cohort.sampling_weight) > 0, "larger lesions are drawn more often"


def test_brain_metastases_split_by_lesion_are_refused(real_site, whole_cohort):
    site = real_site("bcbm")
    names = sorted(set(read_table(site, "lesions", ["Segmentation_Name"]).cells["Segmentation_Name"]))
    split = PublishedSplit(table="lesions", column="Segmentation_Name", train=names[::2], test=names[1::2])
    with pytest.raises(SiteError, match="a patient appears in more than one split"):
        whole_cohort("bcbm", split=split)


@pytest.mark.parametrize(
    ("name", "hemisphere", "region"),
    [
        ("mask_R-inf-cerebellar-tumor", "right", "cerebellum"),
        ("mask_12_Lt-Cereb1mm", "left", "cerebellum"),
        ("mask_lt-post-inf-front", "left", "frontal"),
        ("mask_R-parasag-parietal", "right", "parietal"),
        ("mask_rlatfront", "right", "frontal"),
        ("mask_LLatPosFro", "left", "frontal"),
        ("mask_RtPosSupCb", "right", "cerebellum"),
        ("mask_GTV1_frontal_R", "right", "frontal"),
        ("mask_3_Rt-Sensory1mm", "right", "parietal"),
        ("mask_latposttem", None, "temporal"),
        ("mask_LEFT-OCC", "left", "occipital"),
        ("mask_Brain_stem", None, "brainstem"),
        ("mask_L-Internal-Capsule", "left", "deep"),
        ("mask_Lens_L", "left", None),
        ("mask_rt-opt-system", "right", None),
        ("mask_Plan1_TGTL_20Gy", None, None),
        ("mask_cavity", None, None),
    ],
)
def test_where_a_metastasis_lies_is_read_from_its_name(name, hemisphere, region):
    features = load_site(PROJECT / "site_configs/bcbm.yaml").modalities["anatomical_position"].features
    positions = {}
    for feature in ("hemisphere", "region"):
        match = re.search(features[feature].extract, name)
        positions[feature] = features[feature].codes[match[1]] if match else None
    assert positions == {"hemisphere": hemisphere, "region": region}
