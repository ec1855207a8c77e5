"""A tumour's mask, from an image or a box: where the volume is centred, and the distance channel."""

from __future__ import annotations

import numpy as np
import pytest

from client.contract.paths import Instance
from client.errors import SiteError
from client.imaging.boxes import MaskBox
from client.imaging.grid import on_grid
from client.imaging.masks import Mask, MaskFile, tumour_mask
from client.imaging.phase_files import ImageFiles
from shared_models.modalities import FAR_INSIDE_MM
from shared_models.task import Volume

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
    source = MaskFile(exam / "mask.nii.gz") if mask else None
    return on_grid(ImageFiles((exam / "phase.nii.gz",), mask=source).load(), volume)


def test_the_volume_is_centred_on_the_tumour(exam):
    image, _ = read(exam)
    whole = read(exam, SHAPE, tumour=False, mask=False)[0]
    # an even number of voxels: the centre lies between two of them
    np.testing.assert_allclose(image[:, 8, 8], np.arange(2.5, 18.5) / 123 + 100 / 123, atol=2e-2)
    assert whole.shape == SHAPE


def test_the_last_channel_is_the_distance_to_the_surface_in_millimetres(exam):
    z, y, x = np.indices((16, 16, 16)) - 7.5
    expected = 6 - np.sqrt(z**2 + y**2 + x**2)
    volume = read(exam)[1]
    np.testing.assert_allclose(volume, expected, atol=1.1)  # a voxel's diagonal is 1.7 mm
    assert abs((volume - expected).mean()) < 0.2


def test_millimetres_and_not_voxels(exam):
    coarse = read(exam, (8, 8, 8), (2.0, 2.0, 2.0))[1]
    z, y, x = 2 * (np.indices((8, 8, 8)) - 3.5)
    np.testing.assert_allclose(coarse, 6 - np.sqrt(z**2 + y**2 + x**2), atol=1.1)


def test_without_a_mask_all_of_the_image_counts_as_tumour(exam):
    image, distance = read(exam, mask=False)
    assert (distance == FAR_INSIDE_MM).all()
    np.testing.assert_array_equal(image, read(exam, tumour=False, mask=False)[0])


def empty(exam, volume_file):
    volume_file(exam / "mask.nii.gz", np.zeros(SHAPE))


def outside(exam, volume_file):
    import SimpleITK as sitk

    mask = sitk.ReadImage(str(exam / "mask.nii.gz"))
    mask.SetOrigin((500.0, 0.0, 0.0))
    sitk.WriteImage(mask, str(exam / "mask.nii.gz"))


def between_the_voxels(exam, volume_file):
    volume_file(exam / "mask.nii.gz", np.ones((1, 1, 1)), spacing=(0.2, 0.2, 0.2), origin=(5.4, 5.4, 5.4))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (empty, "a mask is empty"),
        (outside, "a mask lies outside its image"),
        (between_the_voxels, "a mask lies outside its image, or between its voxels"),
    ],
)
def test_a_mask_that_does_not_fit(exam, volume_file, spoil, message):
    spoil(exam, volume_file)
    with pytest.raises(SiteError, match=message) as caught:
        read(exam)
    assert "mask.nii.gz" in str(caught.value)
    assert "nii" not in caught.value.public


@pytest.mark.parametrize(
    ("shape", "spacing", "origin"),
    [
        ((12, 14, 16), (2, 2, 2), (0.5, 0.5, 0.5)),
        ((20, 20, 20), (1, 1, 1), (10, 4, 2)),
        ((48, 56, 64), (0.5, 0.5, 0.5), (0, 0, 0)),
    ],
    ids=["coarser", "a part of the image", "finer"],
)
def test_a_mask_on_another_grid_is_brought_to_the_images(exam, volume_file, shape, spacing, origin):
    import SimpleITK as sitk

    z, y, x = (np.indices(shape).T * np.array(spacing) + np.array(origin)[::-1]).T
    volume_file(exam / "mask.nii.gz", (z - 10) ** 2 + (y - 12) ** 2 + (x - 20) ** 2 <= 36, spacing, origin=origin)
    image = sitk.ReadImage(str(exam / "phase.nii.gz"))
    resampled, share = tumour_mask(MaskFile(exam / "mask.nii.gz"), image)
    assert share == 1
    assert resampled.GetSize() == image.GetSize()
    voxels = np.argwhere(sitk.GetArrayFromImage(resampled))
    np.testing.assert_allclose(voxels.mean(axis=0), (10, 12, 20), atol=0.3)
    assert abs(len(voxels) / 925 - 1) < 0.1  # a ball of 6 mm has 925 voxels here


def test_slices_of_a_box_are_counted_by_instance(tmp_path, slice_file):
    import SimpleITK as sitk

    from client.imaging.dicom.exam_folder import DicomFiles

    for place in range(6):  # numbered from head to foot, so against the position
        slice_file(tmp_path / f"{place}.dcm", np.ones((8, 10)), (0, 0, 3 * place), InstanceNumber=60 - place)
    box = MaskBox("row 2", ((4, 7), (3, 6), (1, 2)))
    mask = sitk.GetArrayFromImage(DicomFiles(tuple(sorted(tmp_path.iterdir())), mask=box).load().mask)
    expected = np.zeros((6, 8, 10))
    expected[4:, 2:6, 3:7] = 1
    np.testing.assert_array_equal(mask, expected)


BOX = {
    "rows": ["Start Row", "End Row"],
    "columns": ["Start Column", "End Column"],
    "slices": ["Start Slice", "End Slice"],
}
HEADS = ["Patient ID", *(head for ends in BOX.values() for head in ends)]


@pytest.fixture
def boxed(hospital, volume_file):
    """A hospital with two phases of three patients, and boxes of two of them."""
    hospital.phases([0, 1, 2], count=2)
    hospital.settings["tables"]["boxes"] = {"file": "boxes.csv", "patient_id": "Patient ID"}
    hospital.settings["modalities"]["mri"]["mask"] = {"box": {"table": "boxes", **BOX}}

    def write(*rows):
        hospital.write([HEADS, *rows], "boxes.csv")
        site = hospital.site()
        return site, site.modalities["mri"].exams(site)

    return write


def test_boxes_from_a_table(boxed):
    import SimpleITK as sitk

    _, exams = boxed(["secret-000", 2, 4, 3, 7, 1, 2], ["secret-001", 1, 8, 1, 10, 1, 6], ["secret-002", *[""] * 6])
    mask = sitk.GetArrayFromImage(exams[Instance("secret-000")].load().mask)
    expected = np.zeros((6, 8, 10))
    expected[:2, 1:4, 2:7] = 1
    np.testing.assert_array_equal(mask, expected)
    assert exams[Instance("secret-002")].lacks_mask


def test_a_box_that_moved_is_read_anew(boxed, config):
    from client.cohort.load import load_cohort
    from shared_models.targets import TimeToEvent
    from shared_models.task import Task

    grid = Volume((3, 6, 8, 10), (1.0, 1.0, 1.0), tumour=True)
    task = Task({"mri": grid}, {"recurrence": TimeToEvent()}, build_model=lambda *_: None)
    inside = []
    for last in (4, 6):
        site, _ = boxed(*(["secret-00" + str(index), 2, last, 3, 7, 1, 2] for index in range(3)))
        inside.append((load_cohort(site, task, config).inputs["mri"][0, -1] > 0).sum())
    assert inside[0] < inside[1]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([2, 4, 3, 7, 1, 7], ["a tumour's box lies outside its image", "up to (7, 4, 7)", "(10, 8, 6)"]),
        ([4, 2, 3, 7, 1, 2], ["a tumour's box cannot be read", "'4', '2'"]),
        ([2, 4, 3, "", 1, 2], ["a tumour's box cannot be read", "whole numbers"]),
        ([0, 4, 3, 7, 1, 2], ["a tumour's box cannot be read", "from 1"]),
    ],
)
def test_a_box_that_cannot_be_used(boxed, cells, message):
    _, exams = boxed(["secret-000", *cells], ["secret-001", 1, 1, 1, 1, 1, 1])
    exam = exams[Instance("secret-000")]
    if not isinstance(exam, SiteError):
        with pytest.raises(SiteError) as caught:
            exam.load()
        exam = caught.value
    for part in [*message, "row 2", "boxes.csv", "to do"]:
        assert part in str(exam)
    assert "boxes" not in exam.public


def test_dukes_boxes(shared_data, boxed, hospital):
    from client.imaging.boxes import boxes

    hospital.settings["data_root"] = str(shared_data / "duke")
    source = {"file": "Annotation_Boxes.xlsx", "patient_id": "Patient ID"}
    hospital.settings["tables"] = {"clinical": source, "boxes": source}
    masks = boxes(hospital.site(), Mask.model_validate({"box": {"table": "boxes", **BOX}}).box)
    assert len(masks) == 922
    assert masks[Instance("Breast_MRI_001")].ends == ((308, 341), (234, 271), (89, 112))
    assert not any(isinstance(box, SiteError) for box in masks.values())
