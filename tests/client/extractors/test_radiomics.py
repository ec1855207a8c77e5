"""PyRadiomics' features against its own published baseline and the IBSI's digital phantom."""

import csv
import json
import logging
import math
from pathlib import Path

import numpy as np
import pytest

from client.errors import SiteError
from client.extractors import radiomics
from client.imaging.exams import Exam
from shared_models.radiomics import PYRADIOMICS, pyradiomics_features

CASES = ("brain1", "brain2", "breast1")
# What PyRadiomics' settings of the baseline are called in its CSV files: each is one of a class.
SETTINGS_ROW = "diagnostics_Configuration_Settings"


def exam_of(*phases, mask, name="exam"):
    import SimpleITK as sitk

    images = tuple(sitk.GetImageFromArray(np.asarray(phase, dtype=np.float32)) for phase in phases)
    return Exam(Path(name), images, mask=sitk.GetImageFromArray(np.asarray(mask, dtype=np.uint8)))


@pytest.fixture
def noise():
    return np.random.default_rng(0).normal(300, 80, (10, 12, 14))


@pytest.fixture
def cube():
    mask = np.zeros((10, 12, 14))
    mask[3:7, 3:8, 4:9] = 1
    return mask


def test_the_names_are_those_of_the_tasks():
    assert list(radiomics.FEATURES) == [feature.name for feature in pyradiomics_features()]
    assert len(radiomics.FEATURES) == 107


def test_the_first_post_contrast_phase_is_measured(noise, cube):
    several = radiomics.measure(exam_of(noise, 2 * noise, 3 * noise, mask=cube))
    alone = radiomics.measure(exam_of(2 * noise, mask=cube))
    assert several == alone
    assert several["original_firstorder_Mean"] == pytest.approx(2 * noise[cube == 1].mean(), rel=1e-6)


def test_without_a_mask_or_with_one_voxel_nothing_is_known(noise, cube):
    one = np.zeros_like(cube)
    one[5, 5, 5] = 1
    without = Exam(Path("exam"), exam_of(noise, mask=cube).phases)
    for exam in (without, exam_of(noise, mask=one)):
        values = radiomics.measure(exam)
        assert list(values) == list(radiomics.FEATURES)
        assert all(math.isnan(value) for value in values.values())


@pytest.mark.parametrize("size", [(1, 1, 2), (1, 1, 5), (1, 4, 4), (2, 2, 2)])
def test_the_smallest_masks_are_measured(noise, size):
    mask = np.zeros(noise.shape)
    mask[tuple(slice(3, 3 + length) for length in size)] = 1
    values = radiomics.measure(exam_of(noise, mask=mask))
    assert values["original_shape_VoxelVolume"] == np.prod(size)
    undefined = {name for name, value in values.items() if math.isnan(value)}
    assert undefined <= {"original_firstorder_RobustMeanAbsoluteDeviation"}


def test_too_many_grey_levels_are_refused_before_the_memory_is_taken(noise, cube):
    with pytest.raises(SiteError, match="too many grey levels") as caught:
        radiomics.measure(exam_of(1e6 * noise, mask=cube, name="secret-001.nii"))
    assert "secret-001" in str(caught.value)
    assert "secret" not in caught.value.public


def test_it_says_nothing(noise, cube, capfd, caplog):
    with caplog.at_level(logging.DEBUG):
        radiomics.measure(exam_of(noise, mask=cube))
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def baseline(folder, case):
    """The published values of a case, and the settings of each class of features."""
    values, settings = {}, {}
    for group in PYRADIOMICS:
        with (folder / f"baseline/baseline_{group}.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                name, value = row["featureName"], row[case]
                if name == SETTINGS_ROW:
                    text = value.replace("'", '"').replace("None", "null")
                    settings[group] = json.loads(text.replace("False", "false").replace("True", "true"))
                elif not name.startswith("diagnostics"):
                    values[name] = float(value)
    return values, settings


@pytest.mark.parametrize("case", CASES)
def test_pyradiomics_own_baseline(shared_data, case):
    """Its settings are ours but for `voxelArrayShift`, which the energies of first order add to each voxel."""
    import SimpleITK as sitk

    folder = shared_data / "radiomics"
    expected, settings = baseline(folder, case)
    assert set(expected) == set(radiomics.FEATURES)
    for group, theirs in settings.items():
        ours = radiomics.SETTINGS
        differ = {key for key in theirs if key in ours and theirs[key] != ours[key]} - {"additionalInfo"}
        assert differ <= {"voxelArrayShift"}, group
    image, mask = (sitk.ReadImage(str(folder / f"{case}_{kind}.nrrd")) for kind in ("image", "label"))
    image, mask = sitk.Cast(image, sitk.sitkFloat32), sitk.Cast(mask == 1, sitk.sitkUInt8)
    values = radiomics.extract(image, mask, {**radiomics.SETTINGS, "voxelArrayShift": 2000})
    assert values == pytest.approx(expected, rel=1e-3, abs=1e-12)
    ours = radiomics.measure(Exam(Path(case), (image,), mask=mask))
    shifted = {name for name in ours if ours[name] != values[name]}
    assert shifted == {f"original_firstorder_{name}" for name in ("Energy", "TotalEnergy", "RootMeanSquared")}


# The IBSI's names (Zwanenburg 2020, 10.1148/radiol.2020191145) of PyRadiomics' features, in their order by class.
IBSI = {
    "shape": "pca_elongation pca_flatness pca_least_axis pca_maj_axis - - - diam volume pca_min_axis sphericity "
    "area_mesh av vol_approx",
    "firstorder": "stat_p10 stat_p90 stat_energy ih_entropy stat_iqr stat_kurt stat_max stat_mad stat_mean "
    "stat_median stat_min stat_range stat_rmad stat_rms stat_skew - ih_uniformity stat_var",
    "glcm": "auto_corr clust_prom clust_shade clust_tend contrast corr diff_avg diff_entr diff_var inv_diff "
    "inv_diff_mom inv_diff_mom_norm inv_diff_norm info_corr1 info_corr2 inv_var joint_avg energy joint_entr - "
    "joint_max sum_avg sum_entr joint_var",
    "gldm": "dc_entr dcnu dcnu_norm dc_var glnu gl_var hgce hde hdhge hdlge lgce lde ldhge ldlge",
    "glrlm": "glnu glnu_norm gl_var hgre lre lrhge lrlge lgre rl_entr rlnu rlnu_norm r_perc rl_var sre srhge srlge",
    "glszm": "glnu glnu_norm gl_var hgze lze lzhge lzlge lgze zsnu zsnu_norm sze szhge szlge zs_entr z_perc zs_var",
    "ngtdm": "busyness coarseness complexity contrast strength",
}
PLACE = {
    "shape": "morph_{}",
    "firstorder": "{}",
    "glcm": "cm_{}_3D_avg",
    "gldm": "ngl_{}_3D",
    "glrlm": "rlm_{}_3D_avg",
    "glszm": "szm_{}_3D",
    "ngtdm": "ngt_{}_3D",
}
# PyRadiomics: kurtosis without the 3 taken off; and axes of the ellipsoid from the population's covariance, where the
# IBSI takes the sample's: 74 voxels, sqrt(73 / 74).
DIFFER = {
    "original_firstorder_Kurtosis": lambda value: value + 3,
    **{
        f"original_shape_{name}AxisLength": lambda value: value * math.sqrt(73 / 74)
        for name in ("Major", "Minor", "Least")
    },
}


def ibsi_names():
    for group, names in PYRADIOMICS.items():
        for name, tag in zip(names, IBSI[group].split(), strict=True):
            if tag != "-":
                yield f"original_{group}_{name.removesuffix(':log')}", PLACE[group].format(tag)


def test_the_ibsis_digital_phantom(shared_data):
    import SimpleITK as sitk

    folder = shared_data / "radiomics/ibsi_digital_phantom"
    with (folder / "ibsi_1_dig_phantom.csv").open(newline="") as file:
        rows = {
            tag: (value, float(tolerance or 0)) for value, tolerance, tag in list(csv.reader(file, delimiter=";"))[1:]
        }
    image = sitk.ReadImage(str(folder / "image/phantom.nii.gz"), sitk.sitkFloat32)
    mask = sitk.ReadImage(str(folder / "mask/mask.nii.gz"), sitk.sitkUInt8)
    values = radiomics.extract(image, mask, {**radiomics.SETTINGS, "binWidth": 1})
    compared = dict(ibsi_names())
    assert len(compared) == 102
    for name, tag in compared.items():
        value, tolerance = float(rows[tag][0]), rows[tag][1]
        expected = DIFFER.get(name, float)(value)
        # the references are printed with three digits
        digits = 0.5 * 10.0 ** (math.floor(math.log10(abs(value))) - 2)
        assert abs(values[name] - expected) <= max(tolerance, digits) * 1.001, (name, values[name], expected)
