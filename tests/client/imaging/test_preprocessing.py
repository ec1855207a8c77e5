"""The coils' field and the patient's motion, taken out of exams that are known without them."""

import numpy as np
import pytest
from scipy import ndimage

from client.errors import SiteError
from client.imaging.exams import Exam
from client.imaging.grid import on_grid
from client.imaging.phase_files import ImageFiles
from client.imaging.preprocessing import Preprocessing, preprocess
from client.readers.image_files import ImageFilesReader
from shared_models.task import Volume

SHAPE, SPACING = (32, 48, 48), (1.5, 1.5, 2.0)  # SimpleITK's order
ENHANCED = 1.6


@pytest.fixture(scope="module")
def breast():
    """Two tissues within an ellipsoid, air about it, a little noise."""
    rng = np.random.default_rng(0)
    z, y, x = (axis / size - 0.5 for axis, size in zip(np.indices(SHAPE), SHAPE, strict=True))
    inside = (z / 0.42) ** 2 + (y / 0.4) ** 2 + (x / 0.36) ** 2 < 1
    gland = ndimage.gaussian_filter(rng.normal(size=SHAPE), 3)
    gland = inside & (gland > np.quantile(gland[inside], 0.6))
    return 100.0 * inside + 80.0 * gland + rng.normal(0, 2, SHAPE), inside, gland


def image(array):
    import SimpleITK as sitk

    made = sitk.GetImageFromArray(np.asarray(array, dtype=np.float32))
    made.SetSpacing(SPACING)
    return made


def exam(tmp_path, *arrays):
    return Exam(tmp_path, tuple(image(array) for array in arrays))


def arrays(exam):
    import SimpleITK as sitk

    return [sitk.GetArrayFromImage(phase) for phase in exam.phases]


def test_nothing_is_done_unless_the_site_asks(tmp_path, breast):
    given = exam(tmp_path, breast[0])
    assert preprocess(given, Preprocessing()).phases[0] is given.phases[0]


def test_n4_takes_the_coils_field_out_and_leaves_the_ratios(tmp_path, breast):
    clean, inside, gland = breast
    field = np.exp(0.9 * np.linspace(-1, 1, SHAPE[2]) + 0.4 * np.linspace(1, -1, SHAPE[0])[:, None, None] ** 2)
    before, after = clean * field, ENHANCED * clean * field
    first, second = arrays(preprocess(exam(tmp_path, before, after), Preprocessing(n4=True)))
    core = ndimage.binary_erosion(inside & ~gland)  # one tissue: its true intensity is the same everywhere

    def spread(array):
        return array[core].std() / array[core].mean()

    assert spread(before) > 0.25
    assert spread(first) < 0.3 * spread(before)
    signal = before > 20
    np.testing.assert_allclose(second[signal] / first[signal], (after / before)[signal], rtol=1e-5)


def test_a_known_motion_of_a_phase_is_undone(tmp_path, breast):
    import SimpleITK as sitk

    clean, inside, gland = breast
    still = clean + (ENHANCED - 1) * clean * gland  # contrast in the gland only: no linear function of the first
    motion = sitk.Euler3DTransform()
    motion.SetCenter(image(clean).TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in SHAPE[::-1]]))
    motion.SetParameters((0.03, 0.0, -0.02, 4.0, -3.0, 2.5))
    moved = sitk.GetArrayFromImage(sitk.Resample(image(still), motion, sitk.sitkLinear))
    given = exam(tmp_path, clean, moved)
    first, second = arrays(preprocess(given, Preprocessing(registration="rigid")))
    np.testing.assert_array_equal(first, np.float32(clean))
    shift, before = (shift_voxels(still, array, inside) for array in (second, moved))
    assert np.abs(before).max() > 1.5
    assert np.abs(shift).max() < 0.25
    again = arrays(preprocess(given, Preprocessing(registration="rigid")))[1]
    np.testing.assert_allclose(again, second, atol=1e-3)  # threads add up in any order


def shift_voxels(still, array, inside):
    """The displacement `(3,)` that explains the difference best, to first order (Lucas and Kanade 1981)."""
    smooth = [ndimage.gaussian_filter(np.asarray(part, dtype=float), 2) for part in (still, array)]
    core = ndimage.binary_erosion(inside, iterations=2)
    slopes = np.stack([slope[core] for slope in np.gradient(smooth[0])], axis=1)
    return np.linalg.lstsq(slopes, (smooth[1] - smooth[0])[core], rcond=None)[0]


def test_images_that_registration_cannot_use_are_an_error(tmp_path):
    with pytest.raises(SiteError, match="cannot be preprocessed") as caught:
        preprocess(exam(tmp_path, np.zeros(SHAPE), np.zeros(SHAPE)), Preprocessing(n4=True, registration="rigid"))
    assert str(tmp_path) in str(caught.value)
    assert str(tmp_path) not in caught.value.public


def test_the_reader_does_what_the_yaml_says(hospital, volume_file, breast, config, imaging_task):
    from client.cohort.load import load_cohort

    for phase in range(4):
        volume_file(
            hospital.data / f"mri/secret-000/{phase}.nii.gz", breast[0] * np.linspace(0.5, 2, SHAPE[2]) * (1 + phase)
        )
    read = {}
    for n4 in (False, True):
        phases = [f"mri/{{patient}}/{phase}.nii.gz" for phase in range(4)]
        hospital.settings["modalities"]["mri"] = {
            "reader": "image_files",
            "phases": phases,
            "preprocessing": {"n4": n4},
        }
        read[n4] = load_cohort(hospital.site(), imaging_task, config).inputs["mri"][0]
    assert np.abs(read[True] - read[False]).max() > 0.05
    np.testing.assert_allclose(read[True][3] / read[True][0], 4, rtol=2e-2)


def test_a_coarser_grid_averages_and_does_not_pick(tmp_path, volume_file):
    rng = np.random.default_rng(0)
    texture = rng.gamma(1.0, 100.0, (40, 80, 80))
    volume_file(tmp_path / "a.nii.gz", texture, spacing=(0.5, 0.5, 1.0))
    volume = on_grid(ImageFiles((tmp_path / "a.nii.gz",)).load(), Volume((1, 20, 20, 20), (2.0, 2.0, 2.0)))[0]
    volume = np.asarray(volume, dtype=float) * np.percentile(texture, 95)
    blocks = texture.reshape(20, 2, 20, 4, 20, 4).mean(axis=(1, 3, 5))
    # linear interpolation alone is off by 30, a third of the intensity
    assert np.sqrt(np.mean((volume - blocks) ** 2)) < 12
    assert abs(volume.mean() / blocks.mean() - 1) < 0.01


def test_a_grid_like_the_images_own_is_not_smoothed(tmp_path, volume_file):
    texture = np.random.default_rng(0).uniform(50, 100, (8, 8, 8))
    volume_file(tmp_path / "a.nii.gz", texture)
    volume = on_grid(ImageFiles((tmp_path / "a.nii.gz",)).load(), Volume((1, 8, 8, 8), (1.0, 1.0, 1.0)))[0]
    np.testing.assert_allclose(volume, texture / np.percentile(texture, 95), rtol=2e-3)


def test_only_known_steps_can_be_asked_for():
    with pytest.raises(ValueError, match="registration"):
        ImageFilesReader(reader="image_files", phases=("{patient}.nii",), preprocessing={"registration": "elastic"})
