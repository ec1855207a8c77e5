"""The reader `extracted`: from image files and a study's feature names to the network's columns."""

import subprocess
import sys

import numpy as np
import pytest

from client.checks.counts import readiness
from client.cohort.load import load_cohort
from client.errors import ExitCode, SiteError
from client.extractors import kinetics, load_extractors
from client.imaging.masks import MaskFile
from client.imaging.phase_files import ImageFiles
from shared_models.features import parse_features
from shared_models.targets import TimeToEvent
from shared_models.task import Table, Task

SHAPE = (12, 14, 16)
KINETICS = "Volume_cu_mm_Tumor:log, PE1_mean_tumor, WashinRate_map_mean_tumor"


def study_of(features, name="radiomics"):
    tables = parse_features(f"{name}: {features}")
    return Task(
        {key: Table(columns) for key, columns in tables.items()}, {"recurrence": TimeToEvent()}, build_model=None
    )


@pytest.fixture
def oak(hospital, volume_file):
    """The first four patients have three phases; patient 3 lacks the mask that the others have."""
    hospital.settings["modalities"]["mri"] = {
        "reader": "image_files",
        "phases": [f"mri/{{patient}}/phase{phase}.nii.gz" for phase in range(3)],
        "seconds": [0, 100, 400],
        "mask": "mri/{patient}/mask.nii.gz",
    }
    hospital.settings["modalities"]["radiomics"] = {"reader": "extracted", "images": "mri"}
    for number in range(4):
        folder = hospital.data / f"mri/secret-00{number}"
        before = np.random.default_rng(number).uniform(90, 110, SHAPE)
        for phase, factor in enumerate((1, 1.8 + 0.1 * number, 1.6)):
            volume_file(folder / f"phase{phase}.nii.gz", before * factor, spacing=(1, 1, 2))
        mask = np.zeros(SHAPE)
        mask[3:8, 4:9, 5 : 9 + number] = 1
        if number < 3:
            volume_file(folder / "mask.nii.gz", mask, spacing=(1, 1, 2))
    return hospital


def exam_of(hospital, number):
    folder = hospital.data / f"mri/secret-00{number}"
    files = ImageFiles(
        tuple(folder / f"phase{phase}.nii.gz" for phase in range(3)), (0, 100, 400), MaskFile(folder / "mask.nii.gz")
    )
    return files.load()


def artefact_files(hospital):
    return {path: path.stat().st_ino for path in hospital.site().state_dir.glob("cache/artefacts/*/*.npy")}


def test_a_studys_features_are_measured_on_the_images(oak, config):
    cohort = load_cohort(oak.site(), study_of(KINETICS), config)
    assert cohort.present[:5, 0].tolist() == [True, True, True, False, False]
    for number in range(3):
        measured = kinetics.measure(exam_of(oak, number))
        names = ("Volume_cu_mm_Tumor", "PE1_mean_tumor", "WashinRate_map_mean_tumor")
        volume, enhancement, wash_in = (measured[name] for name in names)
        assert volume == 25 * (4 + number) * 2
        assert enhancement == pytest.approx(80 + 10 * number, rel=1e-4)
        np.testing.assert_allclose(
            cohort.inputs["radiomics"][number], [np.log1p(volume), enhancement, wash_in], rtol=1e-6
        )
    assert np.isnan(cohort.inputs["radiomics"][3:]).all()
    assert cohort.excluded == ()
    assert "modalities.radiomics: nothing could be measured on 1 exams; have they a mask?" in cohort.warnings


def test_features_of_several_measures_stand_in_the_studys_order(oak, config):
    names = "original_shape_VoxelVolume, PE1_mean_tumor, original_firstorder_Mean, Volume_cu_mm_Tumor"
    row = load_cohort(oak.site(), study_of(names), config).inputs["radiomics"][1]
    assert row[0] == row[3] == 25 * 5 * 2
    assert row[1] == pytest.approx(90, rel=1e-4)
    assert row[2] == pytest.approx(190, rel=0.03)  # the first post-contrast phase


def test_another_choice_of_features_measures_nothing_anew(oak, config):
    load_cohort(oak.site(), study_of(KINETICS), config)
    first = artefact_files(oak)
    assert len(first) == 8  # and the exam's facts
    load_cohort(oak.site(), study_of("Peak_SER_tumor, SER_map_mean_tumor"), config)
    assert artefact_files(oak) == first
    load_cohort(oak.site(), study_of(KINETICS + ", original_shape_Sphericity"), config)
    both = artefact_files(oak)
    assert len(both) == 12
    assert first.items() <= both.items()


@pytest.mark.parametrize("what", ["version", "seconds", "mask"])
def test_what_decides_a_value_measures_it_anew(oak, config, volume_file, monkeypatch, what):
    load_cohort(oak.site(), study_of(KINETICS), config)
    first = artefact_files(oak)
    if what == "version":
        monkeypatch.setattr(kinetics, "VERSION", kinetics.VERSION + 1)
    elif what == "seconds":
        oak.settings["modalities"]["mri"]["seconds"] = [0, 50, 400]
    else:
        volume_file(
            oak.data / "mri/secret-000/mask.nii.gz",
            np.ones(SHAPE) * (np.arange(SHAPE[0]) < SHAPE[0] // 2)[:, None, None],
            spacing=(1, 1, 2),
        )
    row = load_cohort(oak.site(), study_of(KINETICS + ", PE1_std_dev_tumor"), config).inputs["radiomics"][0]
    assert len(artefact_files(oak)) == len(first) + {"version": 4, "seconds": 8, "mask": 2}[what]
    assert row[0] == pytest.approx(np.log1p(2 * np.prod(SHAPE) // 2 if what == "mask" else 200))
    assert row[2] == pytest.approx(0.8 / (50 if what == "seconds" else 100), rel=1e-4)


def test_processes_give_what_one_gives(oak, config):
    one = load_cohort(oak.site(), study_of(KINETICS), config).inputs["radiomics"]
    oak.settings["workers"] = 2
    oak.settings["state_dir"] = "elsewhere"
    np.testing.assert_array_equal(load_cohort(oak.site(), study_of(KINETICS), config).inputs["radiomics"], one)


def test_a_bad_exam_is_excluded_by_name_and_the_rest_go_on(oak, config):
    (oak.data / "mri/secret-001/phase1.nii.gz").write_bytes(b"no image")
    cohort = load_cohort(oak.site(), study_of(KINETICS + ", original_shape_Sphericity"), config)
    assert [(exclusion.patient, exclusion.modality) for exclusion in cohort.excluded] == [("secret-001", "radiomics")]
    assert "cannot be read" in cohort.excluded[0].why
    assert cohort.present[:4, 0].tolist() == [True, False, True, False]
    assert np.isnan(cohort.inputs["radiomics"][1]).all()


def test_categories_stand_in_the_studys_order(hospital, volume_file, config):
    """A drawn head of 150 mm, a lesion on the patient's left, on the right, and on the midline."""
    z, y, x = np.meshgrid(np.arange(8), np.arange(60) - 30, np.arange(60) - 30, indexing="ij")
    for number, middle in enumerate((13, -13, 0)):
        folder = hospital.data / f"mri/secret-00{number}"
        volume_file(folder / "brain.nii.gz", 300 * ((x / 25) ** 2 + (y / 28) ** 2 < 1), spacing=(3, 3, 3))
        lesion = (x - middle) ** 2 + y**2 + (z - 4) ** 2 < 9
        volume_file(folder / "mask.nii.gz", lesion, spacing=(3, 3, 3))
    hospital.settings["modalities"] |= {
        "brain_mri": {
            "reader": "image_files",
            "phases": ["mri/{patient}/brain.nii.gz"],
            "mask": "mri/{patient}/mask.nii.gz",
        },
        "anatomical_position": {"reader": "extracted", "images": "brain_mri"},
    }
    regions = "region{frontal|parietal|temporal|occipital|cerebellum|brainstem|deep}"
    study = study_of(f"hemisphere{{right|midline|left}}, {regions}", "anatomical_position")
    cohort = load_cohort(hospital.site(), study, config)
    np.testing.assert_array_equal(cohort.inputs["anatomical_position"][:3, :3], [[0, 0, 1], [1, 0, 0], [np.nan] * 3])
    assert np.isnan(cohort.inputs["anatomical_position"][:, 3:]).all()
    assert cohort.present[:4, 0].tolist() == [True, True, False, False]
    assert "modalities.anatomical_position: region could be measured on no exam" in cohort.warnings


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ("Peak_SER_tumour", ["cannot be measured", "did you mean 'Peak_SER_tumor'?"]),
        ("Peak_SER_tumor{low|high}", ["measured as something else", "one of low, high", "a number"]),
        ("hemisphere", ["measured as something else", "hemisphere as a number", "one of left, right"]),
        ("hemisphere{left|other}", ["measured as something else", "one of left, other"]),
    ],
)
def test_a_feature_that_no_measure_has_is_the_studys_error(oak, config, features, message):
    with pytest.raises(SiteError) as caught:
        load_cohort(oak.site(), study_of(features), config)
    for part in [*message, "modalities.radiomics", "reader: table"]:
        assert part in str(caught.value)
    assert caught.value.exit_code is ExitCode.STUDY
    assert "SER" not in caught.value.public


def test_where_nothing_can_be_measured_the_mask_is_asked_for(oak, config):
    del oak.settings["modalities"]["mri"]["mask"]
    with pytest.raises(SiteError, match="none of the study's features can be measured") as caught:
        load_cohort(oak.site(), study_of(KINETICS), config)
    assert "give modalities.mri its `mask`" in str(caught.value)


@pytest.mark.parametrize(
    ("images", "message"), [("mrj", "did you mean 'mri'?"), ("clinical", "choose from: mri"), ("radiomics", "mri")]
)
def test_the_images_must_be_a_modality_that_reads_images(oak, images, message):
    oak.settings["modalities"]["radiomics"]["images"] = images
    with pytest.raises(SiteError) as caught:
        oak.site()
    assert "modalities.radiomics.images" in str(caught.value)
    assert message in str(caught.value)
    assert caught.value.exit_code is ExitCode.SITE_CONFIG


def test_a_check_counts_who_has_it_with_a_study_and_reads_only_the_images_without(oak, config):
    assert readiness(oak.site(), config, study_of(KINETICS)).modalities == {"radiomics": 3}
    assert "radiomics" not in readiness(oak.site(), None, None).modalities


def test_a_feature_is_of_one_measure_and_a_study_can_name_it():
    measures = load_extractors()
    assert {"kinetics", "position", "radiomics"} <= set(measures)
    names = [name for measure in measures.values() for name in measure.FEATURES]
    assert len(set(names)) == len(names)
    for measure in measures.values():
        for name, categories in measure.FEATURES.items():
            text = f"{name}{{{'|'.join(categories)}}}" if categories else name
            (feature,) = parse_features(f"measured: {text}")["measured"]
            assert (feature.name, feature.categories) == (name, categories)


def test_a_sites_settings_import_no_measure():
    script = (
        "import sys, client.config.site; print([n for n in ('scipy', 'SimpleITK', 'radiomics') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
