"""The hemisphere of a lesion, on drawn heads and on real ones."""

from pathlib import Path

import numpy as np
import pytest

from client.extractors import position
from client.imaging.exams import Exam
from shared_models.features import parse_features
from shared_models.tasks.receptors_brain_metastasis import POSITION

SHAPE = (20, 100, 100)  # of 2 mm voxels
CENTRE = (10, 50, 50)


def ellipsoid(centre, radii):
    axes = np.meshgrid(*(np.arange(size) for size in SHAPE), indexing="ij")
    return sum(((axis - at) / radius) ** 2 for axis, at, radius in zip(axes, centre, radii, strict=True)) < 1


def head(offset_mm, breadth_mm=150, shift_mm=0):
    """An LPS exam whose lesion lies `offset_mm` to the left of the midline, itself `shift_mm` off the image's."""
    import SimpleITK as sitk

    depth, row, column = CENTRE
    column += shift_mm / 2
    noise = np.random.default_rng(0).normal(0, 10, SHAPE)
    image = noise + 400 * ellipsoid((depth, row, column), (18, 46, breadth_mm / 4))
    lesion = ellipsoid((depth, row + 6, column + offset_mm / 2), (3, 4, 4))
    image, mask = sitk.GetImageFromArray(image.astype(np.float32)), sitk.GetImageFromArray(lesion.astype(np.uint8))
    for made in (image, mask):
        made.SetSpacing((2, 2, 2))
    return Exam(Path("head"), (image,), mask=mask)


def turned(exam, axes):
    """The same patient in a file of other axes."""
    import SimpleITK as sitk

    return Exam(exam.name, (sitk.DICOMOrient(exam.phases[0], axes),), mask=sitk.DICOMOrient(exam.mask, axes))


@pytest.mark.parametrize("axes", ["LPS", "RAS", "PIR"])
@pytest.mark.parametrize("shift_mm", [-20, 0, 16])
@pytest.mark.parametrize(("offset_mm", "side"), [(30, "left"), (-30, "right"), (8, "left"), (3, ""), (-3, "")])
def test_the_hemisphere_is_told_from_the_heads_own_middle_whatever_the_files_axes(axes, shift_mm, offset_mm, side):
    assert position.hemisphere(turned(head(offset_mm, shift_mm=shift_mm), axes)) == side


def test_what_is_no_whole_head_has_no_hemisphere():
    assert position.hemisphere(head(30, breadth_mm=90)) == ""
    assert position.hemisphere(Exam(Path("head"), head(30).phases)) == ""
    exam = head(30)
    cropped = [image[40:80, 30:70, :] for image in (exam.phases[0], exam.mask)]
    assert position.hemisphere(Exam(exam.name, (cropped[0],), mask=cropped[1])) == ""
    empty = exam.phases[0] * 0
    assert position.hemisphere(Exam(exam.name, (empty,), mask=exam.mask)) == ""


def test_the_categories_are_the_tasks_and_the_region_is_never_known():
    features = {feature.name: feature.categories for feature in parse_features(POSITION)["anatomical_position"]}
    assert dict(position.FEATURES) == features
    assert position.measure(head(30)) == {"hemisphere": "left", "region": ""}


@pytest.mark.parametrize("case", ["brain1", "brain2"])
def test_real_heads(shared_data, case):
    """Both lesions lie at x > 40 mm of heads about x = 0, which is the patient's left in DICOM's axes and NRRD's."""
    import SimpleITK as sitk

    images = (sitk.ReadImage(str(shared_data / f"radiomics/{case}_{kind}.nrrd")) for kind in ("image", "label"))
    image, mask = (
        sitk.Cast(image, kind) for image, kind in zip(images, (sitk.sitkFloat32, sitk.sitkUInt8), strict=True)
    )
    exam = Exam(Path(case), (image,), mask=mask == 1)
    assert position.hemisphere(exam) == "left"
    mirrored = [sitk.GetImageFromArray(sitk.GetArrayFromImage(one)[:, :, ::-1]) for one in (image, mask == 1)]
    for one in mirrored:
        one.CopyInformation(image)
    assert position.hemisphere(Exam(Path(case), (mirrored[0],), mask=mirrored[1])) == "right"
