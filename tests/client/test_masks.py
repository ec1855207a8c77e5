"""A tumour's mask: where the volume is centred, and the distance channel."""

from __future__ import annotations

import numpy as np
import pytest

from client.errors import SiteError
from client.image_files import ImageFiles
from client.images import on_grid
from shared_models.task import FAR_INSIDE_MM, Volume

SHAPE = (24, 28, 32)


@pytest.fixture
def exam(tmp_path, volume_file):
    """An image of its own coordinates, and a ball of 6 mm about (10, 12, 20) mm, with voxels of 1 mm."""
    z, y, x = np.indices(SHAPE)
    ball = (z - 10) ** 2 + (y - 12) ** 2 + (x - 20) ** 2 <= 36
    volume_file(tmp_path / "phase.nii.gz", 100.0 + z)
    volume_file(tmp_path / "mask.nii.gz", 3 * ball)
    return tmp_path


def read(exam, shape=(16, 16, 16), spacing=(1.0, 1.0, 1.0), tumour=True, mask=True):
    volume = Volume((1 + tumour, *shape), spacing, tumour=tumour)
    return on_grid(ImageFiles((exam / "phase.nii.gz",), exam / "mask.nii.gz" if mask else None).load(), volume)


def test_the_volume_is_centred_on_the_tumour(exam):
    image, _ = read(exam)
    whole = read(exam, SHAPE, tumour=False)[0]
    # an even number of voxels: the centre lies between two of them
    np.testing.assert_allclose(image[:, 8, 8], np.arange(2.5, 18.5) / 123 + 100 / 123, atol=2e-2)
    assert whole.shape == SHAPE


def test_the_last_channel_is_the_distance_to_the_surface_in_millimetres(exam):
    z, y, x = np.indices((16, 16, 16)) - 7.5
    expected = 6 - np.sqrt(z**2 + y**2 + x**2)
    found = read(exam)[1]
    np.testing.assert_allclose(found, expected, atol=1.1)  # a voxel's diagonal is 1.7 mm
    assert abs((found - expected).mean()) < 0.2


def test_millimetres_and_not_voxels(exam):
    coarse = read(exam, (8, 8, 8), (2.0, 2.0, 2.0))[1]
    z, y, x = 2 * (np.indices((8, 8, 8)) - 3.5)
    np.testing.assert_allclose(coarse, 6 - np.sqrt(z**2 + y**2 + x**2), atol=1.1)


def test_without_a_mask_all_of_the_image_counts_as_tumour(exam):
    image, distance = read(exam, mask=False)
    assert (distance == FAR_INSIDE_MM).all()
    np.testing.assert_array_equal(image, read(exam, tumour=False)[0])


def empty(exam, volume_file):
    volume_file(exam / "mask.nii.gz", np.zeros(SHAPE))


def outside(exam, volume_file):
    import SimpleITK as sitk

    mask = sitk.ReadImage(str(exam / "mask.nii.gz"))
    mask.SetOrigin((500.0, 0.0, 0.0))
    sitk.WriteImage(mask, str(exam / "mask.nii.gz"))


def another_shape(exam, volume_file):
    volume_file(exam / "mask.nii.gz", np.ones((24, 28, 30)))


def another_spacing(exam, volume_file):
    volume_file(exam / "mask.nii.gz", np.ones(SHAPE), spacing=(1, 1, 1.2))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (empty, "a mask is empty"),
        (outside, "a mask lies outside its image"),
        (another_shape, "a mask has another shape than its image"),
        (another_spacing, "differ in spacing"),
    ],
)
def test_a_mask_that_does_not_fit(exam, volume_file, spoil, said):
    spoil(exam, volume_file)
    with pytest.raises(SiteError, match=said) as caught:
        read(exam)
    assert "mask.nii.gz" in str(caught.value)
    assert "nii" not in caught.value.public
