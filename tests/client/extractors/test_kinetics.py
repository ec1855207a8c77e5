"""Kinetics of known curves and shapes on any spacing, and a hospital's own maps of a real study."""

from pathlib import Path

import numpy as np
import pytest

from client.extractors import kinetics as measures
from client.extractors.kinetics import early_and_late, kinetics
from client.imaging.exams import Exam
from shared_models.radiomics import duke_kinetics_features

SECONDS = (0.0, 90.0, 270.0, 450.0)
STUDY = "dce_dicom/UCSF-BR-06"


def ball(radius_mm, spacing_mm, half_mm=20):
    axes = [np.arange(-half_mm, half_mm + 1e-6, step) for step in spacing_mm]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return z**2 + y**2 + x**2 < radius_mm**2


def phases_of(mask, *signals):
    return [np.where(mask, signal, 50.0) for signal in signals]


def exam_of(mask, phases, spacing_mm, seconds=SECONDS):
    import SimpleITK as sitk

    images = [sitk.GetImageFromArray(np.asarray(array, dtype=np.float32)) for array in [*phases, mask]]
    for image in images:
        image.SetSpacing([float(size) for size in spacing_mm[::-1]])
    return Exam(Path("exam"), tuple(images[:-1]), seconds, sitk.Cast(images[-1], sitk.sitkUInt8))


def test_dukes_names_are_among_the_features():
    assert {feature.name for feature in duke_kinetics_features()} <= set(measures.FEATURES)


@pytest.mark.parametrize("spacing_mm", [(2.0, 1.0, 1.0), (1.0, 0.7, 0.7), (3.0, 0.5, 0.8)])
def test_a_known_curve_on_any_spacing(spacing_mm):
    mask = ball(12, spacing_mm)
    values = measures.measure(exam_of(mask, phases_of(mask, 100, 200, 190, 150), spacing_mm))
    volume = mask.sum() * np.prod(spacing_mm)
    assert volume == pytest.approx(4 / 3 * np.pi * 12**3, rel=0.03)
    expected = {
        "Volume_cu_mm_Tumor": volume,
        "PE1_mean_tumor": 100,
        "PE1_std_dev_tumor": 0,
        "Rim_to_core_PE1_ratio": 1,
        "WashinRate_map_mean_tumor": 1 / 90,
        "WashoutRate_map_mean_tumor": -0.25 / 360,
        "SER_map_mean_tumor": 2,
        "SER_map_std_dev_tumor": 0,
        "SER_map_Entropy_tumor": 0,
        "Peak_SER_tumor": 2,
        "SER_Total_tumor_vol_cu_mm": volume,
        "SER_Partial_tumor_vol_cu_mm": 0,
        "SER_Washout_tumor_vol_cu_mm": volume,
        "SER_1.75_to_3_tumor_vol_cu_mm": volume,
        "SER_1.3_to_1.75_tumor_vol_cu_mm": 0,
    }
    assert {name: values[name] for name in expected} == pytest.approx(expected)
    assert values["Sphericity_tumor"] == pytest.approx(1, abs=0.05)


def test_ranges_of_ser_add_up_to_the_functional_volume():
    mask = ball(12, (1, 1, 1))
    rng = np.random.default_rng(0)
    before, early = np.full(mask.shape, 100.0), np.full(mask.shape, 220.0)
    late = before + 120 / rng.uniform(0.2, 4, mask.shape)
    values = kinetics([before, early, late], mask, (1, 1, 1), None)
    ranges = [values[name] for name in measures.SER_RANGES]
    assert all(volume > 0 for volume in ranges)
    assert sum(ranges) == values["SER_Total_tumor_vol_cu_mm"] == mask.sum()
    # 0.2 to 4 evenly: 30 bins have to show it, and what is above 3 is in the last one
    assert 4 < values["SER_map_Entropy_tumor"] < np.log2(30)
    assert values["SER_map_mean_tumor"] == pytest.approx(np.clip(rng.uniform(0.2, 4, 10**5), 0, 3).mean(), abs=0.05)


def test_a_voxel_alone_or_below_70_percent_or_brighter_before_is_not_functional():
    percent = np.full((5, 5, 5), 100.0)
    ser = np.ones((5, 5, 5))
    assert measures.functional_tumour(percent, ser).all()
    percent[0, 0, 0], ser[4, 4, 4], ser[2, 2, 2] = 69.9, -0.1, np.nan
    functional = measures.functional_tumour(percent, ser)
    assert functional.sum() == 122
    assert not functional[0, 0, 0]
    assert not functional[4, 4, 4]
    assert not functional[2, 2, 2]
    alone = np.zeros((5, 5, 5))
    alone[1:3, 1:3, 2] = 100
    ser = np.ones((5, 5, 5))
    assert not measures.functional_tumour(alone, ser).any()  # each of the four has three such neighbours
    alone[1, 1, 3] = 100
    assert measures.functional_tumour(alone, ser).sum() == 5


def test_a_late_signal_that_hardly_differs_gives_no_ser():
    valid = np.ones(4, dtype=bool)
    late = np.array([100.0, 104.9, 105.0, 95.0])
    ser = measures.signal_enhancement_ratio(np.full(4, 100.0), np.full(4, 150.0), late, valid)
    np.testing.assert_allclose(ser, [np.nan, np.nan, 10, -10])


def test_voxels_without_signal_before_contrast_do_not_count():
    before, early = np.array([0.0, -5.0, 100.0]), np.array([10.0, 10.0, 170.0])
    np.testing.assert_allclose(measures.percent_enhancement(before, early), [np.nan, np.nan, 70])
    mask = ball(8, (1, 1, 1))
    dark = [np.zeros(mask.shape), np.ones(mask.shape), np.ones(mask.shape)]
    values = kinetics(dark, mask, (1, 1, 1), None)
    assert np.isnan(values["PE1_mean_tumor"])
    assert values["Volume_cu_mm_Tumor"] == mask.sum()


@pytest.mark.parametrize(
    ("phases", "seconds", "expected"),
    [
        (4, (0, 90, 270, 450), (1, 3)),
        (4, (0, 150, 330, 510), (1, 3)),
        (7, (0, 60, 120, 180, 240, 300, 420), (2, 6)),
        (3, (0, 407, 761), (1, 2)),
        (3, (0, 60, 120), (1, 2)),  # the second post-contrast phase is nearer to 150 s, but it is all there is for late
        (5, None, (1, 4)),
        (2, (0, 120), (1, None)),
    ],
)
def test_the_early_and_the_late_phase(phases, seconds, expected):
    assert early_and_late(phases, seconds) == expected


def test_what_lacks_phases_times_or_a_mask_lacks_what_needs_them():
    mask = ball(8, (1, 1, 1))
    names = set(measures.FEATURES)

    def known(phases, seconds=None):
        values = kinetics(phases_of(mask, *phases), mask, (1, 1, 1), seconds)
        assert list(values) == list(measures.FEATURES)
        return {name for name, value in values.items() if not np.isnan(value)}

    rates = {"WashinRate_map_mean_tumor", "WashoutRate_map_mean_tumor"}
    assert known((100,)) == {"Volume_cu_mm_Tumor", "Sphericity_tumor"}
    assert known((100, 200)) == {name for name in names if name.startswith(("Volume", "Spher", "PE1", "Rim"))}
    assert known((100, 200, 180)) == names - rates
    assert known((100, 200, 180), (0, 90, 450)) == names
    without = Exam(Path("exam"), exam_of(mask, phases_of(mask, 100, 200), (1, 1, 1)).phases)
    assert all(np.isnan(value) for value in measures.measure(without).values())


def test_a_mask_of_one_voxel_is_measured():
    mask = np.zeros((6, 6, 6), dtype=bool)
    mask[3, 3, 3] = True
    values = kinetics(phases_of(mask, 100, 200, 180), mask, (1, 1, 1), SECONDS[:3])
    assert values["Volume_cu_mm_Tumor"] == 1
    assert values["PE1_mean_tumor"] == 100
    assert values["SER_Total_tumor_vol_cu_mm"] == 0  # it has no neighbours


def map_like(image, folder):
    """A map of the hospital `(60, 256, 256)`, its slices in the order of the exam's."""
    import pydicom

    slices = {}
    for path in folder.glob("*.dcm"):
        lines = pydicom.dcmread(path)
        slices[float(lines.ImagePositionPatient[0])] = lines.pixel_array * float(lines.get("RescaleSlope", 1))
    x_mm = [image.TransformIndexToPhysicalPoint((0, 0, index))[0] for index in range(image.GetDepth())]
    return np.stack([slices[min(slices, key=lambda place: abs(place - x))] for x in x_mm])


def test_a_real_study_gives_the_hospitals_own_maps_and_volume(shared_data):
    """UCSF's `image_dce_pe1` is PE1 in whole percent; its `image_dce_ser` is SER, of the functional tumour alone.

    Their headers say: percent enhancement cutoff 70, four neighbours, SER from 0 to 3, 41,105 voxels of 40.643 cm3
    within a box; with SER above .9, in 32 bits, 30,513. The segmentation is the box where S0 reaches 60 % of its 95th
    percentile.
    """
    import SimpleITK as sitk

    from client.imaging.dicom.exam_folder import DicomFiles
    from client.imaging.masks import MaskFile

    folder = shared_data / STUDY
    images = tuple(sorted((folder / "image_dce_3dfgre_orig").glob("*.dcm")))
    exam = DicomFiles(images, mask=MaskFile(folder / "mask/1-1.dcm")).load()
    before, early, late = (sitk.GetArrayFromImage(phase).astype(np.float64) for phase in exam.phases)
    breast = sitk.GetArrayFromImage(exam.mask) == 1
    their_pe, their_ser = (map_like(exam.phases[0], folder / f"image_dce_{name}") for name in ("pe1", "ser"))

    box = np.zeros_like(breast)
    box[tuple(slice(low.min(), low.max() + 1) for low in np.nonzero(breast))] = True
    enough = measures.enough_signal(before, box)
    assert np.array_equal(enough & box, breast)

    pe = measures.percent_enhancement(before, early)
    both = breast & (their_pe > 0)
    assert both.sum() == 77047
    assert np.corrcoef(pe[both], their_pe[both])[0, 1] > 0.9999
    assert np.median(np.abs(pe - their_pe)[both] / their_pe[both]) < 0.01
    np.testing.assert_array_equal(np.floor(pe[both] + 1e-9), their_pe[both])

    ser = measures.signal_enhancement_ratio(before, early, late, enough)
    functional = measures.functional_tumour(pe, ser) & box
    assert np.array_equal(functional, box & (their_ser > 0))
    assert functional.sum() * np.prod(exam.phases[0].GetSpacing()) == pytest.approx(40643.371582, rel=1e-6)
    np.testing.assert_allclose(np.clip(ser, 0, 3)[functional], their_ser[functional], atol=0.000501)
    assert np.corrcoef(np.clip(ser, 0, 3)[functional], their_ser[functional])[0, 1] > 0.99999
    assert (functional & (ser >= 0.9)).sum() == pytest.approx(30513, abs=5)
