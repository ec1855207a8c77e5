"""A DICOM structure set as the tumour's mask."""

import numpy as np
import pytest

from client.errors import SiteError
from client.imaging.dicom.exam_folder import DicomFiles
from client.imaging.masks import MaskFile

SQUARE = [(2.5, 1.5), (6.5, 1.5), (6.5, 5.5), (2.5, 5.5)]  # around columns 3 to 6 and rows 2 to 5
HOLE = [(3.5, 2.5), (5.5, 2.5), (5.5, 4.5), (3.5, 4.5)]


def at(plane, points, shift=0.0):
    return [(x + shift, y, plane) for x, y in points]


def region(path, name=None):
    import SimpleITK as sitk

    exam = DicomFiles(tuple(sorted(path.parent.glob("?.dcm"))), mask=MaskFile(path, name)).load()
    return sitk.GetArrayFromImage(exam.mask), exam.mask_share


@pytest.mark.parametrize("name", ["GTV", 2])
def test_a_region_by_its_name_or_number(structure_set, name):
    regions = {"BODY": [at(1, [(0, 0), (9, 0), (9, 7), (0, 7)])], "GTV": [at(2, SQUARE), at(3, SQUARE), at(3, HOLE)]}
    expected = np.zeros((6, 8, 10))
    expected[2:4, 2:6, 3:7] = 1
    expected[3, 3:5, 4:6] = 0  # a contour within another is a hole
    mask, share = region(structure_set(regions), name)
    np.testing.assert_array_equal(mask, expected)
    assert share == 1.0


def test_two_separate_contours_of_a_slice_are_one_region(structure_set):
    left, right = [(0.5, 1.5), (2.5, 1.5), (2.5, 3.5), (0.5, 3.5)], [(6.5, 1.5), (8.5, 1.5), (8.5, 3.5), (6.5, 3.5)]
    mask, _ = region(structure_set({"GTV": [at(1, left), at(1, right)], "empty": []}))
    assert np.argwhere(mask.any(axis=(0, 1))).ravel().tolist() == [1, 2, 7, 8]
    assert mask.sum() == 8


def test_contours_on_every_second_slice_fill_what_lies_between(structure_set):
    mask, _ = region(structure_set({"GTV": [at(0.5, SQUARE), at(2.5, SQUARE), at(4.5, SQUARE)]}))
    assert mask.sum(axis=(1, 2)).tolist() == [16] * 6


def test_what_lies_beyond_the_images_is_counted(structure_set):
    mask, share = region(structure_set({"GTV": [at(2, SQUARE, shift=5.0)]}))
    assert mask.sum() == 8  # two of its four columns
    assert share == pytest.approx(0.5)


def test_an_ellipse_has_the_area_that_it_encloses(structure_set):
    turn = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    mask, _ = region(
        structure_set({"GTV": [at(2, zip(4.6 + 3.3 * np.cos(turn), 3.4 + 2.7 * np.sin(turn), strict=True))]})
    )
    y, x = np.mgrid[0:8, 0:10]
    np.testing.assert_array_equal(mask[2], ((x - 4.6) / 3.3) ** 2 + ((y - 3.4) / 2.7) ** 2 < 1)


@pytest.mark.parametrize(
    ("regions", "name", "keys", "message"),
    [
        ({"BODY": [at(1, SQUARE)], "GTV": [at(2, SQUARE)]}, None, {}, ["which region", "1: 'BODY'; 2: 'GTV'"]),
        ({"GTVp": [at(1, SQUARE)]}, "GTV", {}, ["one region 'GTV'; did you mean 'GTVp'?"]),
        ({"GTV": [at(1, SQUARE)], "CTV": []}, "CTV", {}, ["a mask is empty", "no closed contour"]),
        ({"GTV": [at(1, SQUARE)]}, None, {"kind": "POINT"}, ["no region with closed contours"]),
        ({"GTV": [at(1, SQUARE)]}, None, {"frame": "1.2.99"}, ["another frame of reference", "1.2.99"]),
        ({"GTV": [[(1, 1, 1), (5, 1, 2.5), (5, 5, 4)]]}, None, {}, ["across the slices", "3.0 slices"]),
        ({"GTV": [at(0, SQUARE), at(1, SQUARE), at(2.5, SQUARE)]}, None, {}, ["not evenly spaced"]),
        ({"GTV": [at(40, SQUARE)]}, None, {}, ["outside its image"]),
        ({"GTV": [at(2, SQUARE, shift=6.0)]}, None, {}, ["mostly outside its image", "25% of it within"]),
        ({"GTV": [at(1, [(1.1, 1.1), (1.4, 1.1), (1.4, 1.4)])]}, None, {}, ["a mask is empty", "between the centres"]),
        ({"GTV": [at(1, SQUARE, shift=1e7)]}, None, {}, ["outside its image"]),
        ({"GTV": [at(1, [(0, 0), (1e6, 0), (1e6, 1e6)])]}, None, {}, ["not of a plausible size"]),
    ],
)  # fmt: skip
def test_a_structure_set_that_cannot_be_used(structure_set, regions, name, keys, message):
    path = structure_set(regions, **keys)
    with pytest.raises(SiteError) as caught:
        region(path, name)
    for part in [*message, "rt.dcm", "to do"]:
        assert part in str(caught.value)


def test_a_structure_set_without_its_list_of_regions_says_what_it_lacks(structure_set):
    import pydicom

    path = structure_set({"GTV": [at(1, SQUARE)]})
    file = pydicom.dcmread(path)
    del file.StructureSetROISequence
    file.save_as(path)
    with pytest.raises(SiteError, match="no StructureSetROISequence") as caught:
        region(path)
    assert "AttributeError" not in str(caught.value)
