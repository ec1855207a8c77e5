"""A DICOM segmentation as the tumour's mask."""

import numpy as np
import pytest

from client.errors import SiteError
from client.imaging.dicom.exam_folder import DicomFiles
from client.imaging.masks import MaskFile


@pytest.fixture
def segmentation(tmp_path, slice_file):
    """Writes a DICOM SEG of two segments on 6 slices: an oedema in slice 1, a tumour in slices 2 and 4."""

    def write(labels=("Oedema", "Tumor"), kind="BINARY", **tags):
        import highdicom as hd
        import pydicom
        from pydicom.sr.codedict import codes

        for place in range(6):
            slice_file(tmp_path / f"{place}.dcm", np.ones((8, 10)), (-5, -8, 3 * place), InstanceNumber=place + 1)
        images = [pydicom.dcmread(tmp_path / f"{place}.dcm") for place in range(6)]
        voxels = np.zeros((6, 8, 10, len(labels)), dtype=np.uint8 if kind == "BINARY" else np.float32)
        voxels[1, 1:3, 1:3, 0] = len(labels) - 1
        voxels[2, 2:6, 3:7, -1] = voxels[4, 2:6, 3:7, -1] = 1 if kind == "BINARY" else 0.75
        if kind != "BINARY":
            voxels[4, 0, 0, -1] = 0.25
        described = [
            hd.seg.SegmentDescription(
                number, label, codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Neoplasm, "MANUAL"
            )
            for number, label in enumerate(labels, start=1)
        ]
        uid = pydicom.uid.generate_uid
        made = ("ACME", "1", "1", "1")
        seg = hd.seg.Segmentation(images, voxels, kind, described, uid(), 9, uid(), 1, *made)
        for name, value in tags.items():
            setattr(seg, name, value)
        seg.save_as(tmp_path / "seg.dcm")
        return tmp_path / "seg.dcm"

    return write


def segment(path, name=None):
    import SimpleITK as sitk

    images = tuple(sorted(path.parent.glob("?.dcm")))
    return sitk.GetArrayFromImage(DicomFiles(images, mask=MaskFile(path, name)).load().mask)


@pytest.mark.parametrize("name", ["Tumor", 2])
def test_a_segment_by_its_label_or_number(segmentation, name):
    expected = np.zeros((6, 8, 10))
    expected[2, 2:6, 3:7] = expected[4, 2:6, 3:7] = 1  # slice 3 has no frame of it
    np.testing.assert_array_equal(segment(segmentation(), name), expected)


def test_the_only_segment_needs_no_name_and_a_probability_counts_from_one_half(segmentation):
    assert segment(segmentation(("Tumor",), "FRACTIONAL")).sum() == 32


@pytest.mark.parametrize(
    ("tags", "name", "message"),
    [
        ({}, None, ["not clear which segment", "1: 'Oedema'; 2: 'Tumor'", "set `segment`"]),
        ({}, "Tumour", ["not clear which segment", "one segment 'Tumour'"]),
        ({"FrameOfReferenceUID": "1.2.99"}, 2, ["another frame of reference", "1.2.99"]),
        ({"Modality": "RTSTRUCT"}, 2, ["a mask cannot be read", "an RTSTRUCT with the points"]),
        ({"Modality": "MR"}, 2, ["Modality MR", "a DICOM SEG or RTSTRUCT"]),
        ({"PerFrameFunctionalGroupsSequence": []}, 2, ["a mask is empty", "no frame of segment 2"]),
        ({"PixelData": b"123"}, 2, ["a mask cannot be read"]),
        ({"NumberOfFrames": 2_000_000_000}, 2, ["not of a plausible size"]),
    ],
)
def test_a_segmentation_that_cannot_be_used(segmentation, tags, name, message):
    path = segmentation(**tags)
    with pytest.raises(SiteError) as caught:
        segment(path, name)
    for part in [*message, "seg.dcm", "to do"]:
        assert part in str(caught.value)


def test_a_real_segmentation_lies_on_its_images(shared_data):
    """The breast, 42 of 60 slices of a file without dimension indices by segment."""
    import pydicom
    import SimpleITK as sitk

    study = shared_data / "dce_dicom/UCSF-BR-06"
    (path,) = (study / "mask").iterdir()
    exam = DicomFiles(
        tuple(sorted((study / "image_dce_3dfgre_orig").glob("1-*"))), mask=MaskFile(path, "Breast")
    ).load()
    mask, image = sitk.GetArrayFromImage(exam.mask), sitk.GetArrayFromImage(exam.phases[0])
    assert mask.sum() == (pydicom.dcmread(path).pixel_array > 0).sum() == 82527
    assert int(mask.any(axis=(1, 2)).sum()) == 42
    assert image[mask == 1].mean() > 3 * image[mask == 0].mean()
