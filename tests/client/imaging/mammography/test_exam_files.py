import struct
import zlib

import numpy as np
import pytest
from pydantic import ValidationError

from client.cohort.load import load_cohort
from client.errors import SiteError
from client.imaging.mammography.exam_files import MammogramFiles
from client.readers.mammogram import MammogramReader
from shared_models.features import Feature
from shared_models.targets import TimeToEvent
from shared_models.task import Table, Task, Volume

SHAPE = (60, 40)
DIGITAL_MAMMOGRAM = "1.2.840.10008.5.1.4.1.1.1.2"
PIXELS = np.zeros(SHAPE, dtype=np.uint16)
PIXELS[10:50, :25] = 1000 + 20 * np.arange(25)
PIXELS[25:35, 5:15] = 3000
FINDING = np.zeros(SHAPE, dtype=np.uint8)
FINDING[25:35, 5:15] = 255


def header(**attributes):
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = DIGITAL_MAMMOGRAM
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = generate_uid()
    made.Modality, made.ViewPosition, made.ImagerPixelSpacing = "MG", "CC", [0.1, 0.2]
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PixelRepresentation = 1, "MONOCHROME2", 0
    made.BitsAllocated, made.BitsStored, made.HighBit = 16, 12, 11
    for name, value in attributes.items():
        if value is None:
            delattr(made, name)
        else:
            setattr(made, name, value)
    return made


def dicom(path, pixels=PIXELS, compression=None, size=None, **attributes):
    path.parent.mkdir(parents=True, exist_ok=True)
    made = header(**attributes)
    made.Rows, made.Columns = size or pixels.shape[:2]
    made.PixelData = pixels.astype("<u2").tobytes()
    if compression:
        made.compress(compression)
    made.save_as(path, enforce_file_format=True)
    return path


def picture(path, pixels=PIXELS):
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def jpeg(path, compressor):
    """Lossless JPEG, as most archives send mammograms, or JPEG 2000; GDCM writes what pydicom does not."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(PIXELS)
    image.SetSpacing((0.2, 0.1))
    for tag, value in (("0008|0060", "MG"), ("0008|0016", DIGITAL_MAMMOGRAM)):
        image.SetMetaData(tag, value)
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(path))
    writer.UseCompressionOn()
    writer.SetCompressor(compressor)
    writer.Execute(image)
    return path


def load(path, **arguments):
    return MammogramFiles(path, **{"spacing_mm": (0.1, 0.2), **arguments}).load()


def array(image):
    import SimpleITK as sitk

    return sitk.GetArrayFromImage(image)[0]


RLE, JPEG_LS = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80"


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: dicom(folder / "a.dcm"),
        lambda folder: dicom(folder / "a", compression=RLE),
        lambda folder: dicom(folder / "a.dcm", compression=JPEG_LS),
        lambda folder: jpeg(folder / "a.dcm", "JPEG2000"),
        lambda folder: jpeg(folder / "a.dcm", "JPEG"),
        lambda folder: dicom(folder / "a.dcm", 4095 - PIXELS, PhotometricInterpretation="MONOCHROME1"),
        lambda folder: dicom(folder / "a.dcm", PIXELS[:, ::-1], ImageLaterality="R"),
        lambda folder: picture(folder / "a.png"),
        lambda folder: picture(folder / "a.tif"),
        lambda folder: picture(folder / "a.png", PIXELS[:, ::-1]),
    ],
    ids=["plain", "rle", "jpeg-ls", "jpeg-2000", "jpeg", "monochrome1", "right", "png", "tiff", "png-right"],
)
def test_the_same_breast_gives_the_same_exam_however_it_was_written(tmp_path, write):
    (image,) = load(write(tmp_path)).phases
    np.testing.assert_array_equal(array(image), PIXELS)
    assert image.GetSpacing() == pytest.approx((0.2, 0.1, 1.0))


def test_the_rescaling_is_applied_and_the_window_is_not(tmp_path):
    path = dicom(tmp_path / "a.dcm", RescaleSlope=2, RescaleIntercept=-5, WindowCenter=2000, WindowWidth=100)
    rescaled = 2.0 * PIXELS - 5
    np.testing.assert_array_equal(array(load(path).phases[0]), rescaled - rescaled.min())  # and nothing is below 0


@pytest.mark.parametrize("kind", ["png", "nii.gz", "dcm"])
def test_a_mask_turns_with_its_image_and_may_be_a_scaled_copy(tmp_path, kind, volume_file):
    image = picture(tmp_path / "a.png", PIXELS[:, ::-1])
    for scale in (1, 3):
        mask, path = np.kron(FINDING[:, ::-1], np.ones((scale, scale), np.uint8)), tmp_path / f"{scale}.{kind}"
        if kind == "dcm":
            dicom(path, mask)
        elif kind == "png":
            picture(path, mask)
        else:
            volume_file(path, mask[None])
        np.testing.assert_array_equal(array(load(image, mask=path).mask), FINDING > 0)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, (0.1, 0.2)),
        ({"EstimatedRadiographicMagnificationFactor": 1.25}, (0.08, 0.16)),
        ({"PixelSpacing": [0.1, 0.2], "EstimatedRadiographicMagnificationFactor": 1.25}, (0.08, 0.16)),
        ({"PixelSpacing": [0.05, 0.05], "EstimatedRadiographicMagnificationFactor": 2}, (0.05, 0.05)),
        ({"PixelSpacing": [0.1, 0.2], "PixelSpacingCalibrationType": "FIDUCIAL"}, (0.1, 0.2)),
        ({"ImagerPixelSpacing": None, "PixelSpacing": [0.07, 0.07]}, (0.07, 0.07)),
        ({"ImagerPixelSpacing": None, "NominalScannedPixelSpacing": [0.04, 0.04]}, (0.04, 0.04)),
        ({"ImagerPixelSpacing": None}, (0.3, 0.3)),
    ],
    ids=["detector", "magnified", "repeated", "calibrated", "named", "alone", "film", "yaml"],
)
def test_the_pixel_size_is_the_breasts(tmp_path, attributes, expected):
    path = dicom(tmp_path / "a.dcm", **attributes)
    assert load(path, spacing_mm=(0.3, 0.3)).phases[0].GetSpacing()[1::-1] == pytest.approx(expected)


def cut(path, share):
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    return path


def spoilt(path, offset, value):
    """A byte of the JPEG frame's header: its bits a sample are the fourth, its samples a pixel the ninth."""
    written = bytearray(path.read_bytes())
    written[written.index(b"\xff\xc3") + offset] = value
    path.write_bytes(written)
    return path


def bomb(path):
    """A PNG file of a few bytes that says it is 60,000 pixels wide and high."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 16, 0, 0, 0, 0)
    start = struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + start + struct.pack(">I", 1000) + b"IDAT")
    return path


def deflated(path):
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    made = header()
    made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    made.save_as(path, enforce_file_format=True)
    return path


def pages(path):
    from PIL import Image

    Image.fromarray(PIXELS).save(path, save_all=True, append_images=[Image.fromarray(PIXELS)])
    return path


def garbage(path):
    path.write_bytes(b"\0" * 128 + b"DICM" + bytes(range(256)) * 4)
    return path


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda folder: dicom(folder / "a", Modality="CT"), ["no mammogram", "CT"]),
        (lambda folder: dicom(folder / "a", np.tile(PIXELS, (3, 1)), size=SHAPE, NumberOfFrames=3), ["tomosynthesis"]),
        (lambda folder: dicom(folder / "a", size=(65535, 65535)), ["size is not plausible", "65535 rows"]),
        (lambda folder: cut(dicom(folder / "a", compression=RLE), 0.5), ["cut short", "their end"]),
        (lambda folder: cut(jpeg(folder / "a.dcm", "JPEG"), 0.9), ["cut short", "their end"]),
        (lambda folder: spoilt(jpeg(folder / "a.dcm", "JPEG"), 9, 4), ["pixels cannot be read"]),
        (lambda folder: cut(dicom(folder / "a"), 0.999), ["cut short", "4800 of pixels"]),
        (lambda folder: cut(dicom(folder / "a"), 0.05), ["cannot be read"]),
        (lambda folder: garbage(folder / "a"), ["cannot be read"]),
        (lambda folder: deflated(folder / "a"), ["deflated"]),
        (lambda folder: dicom(folder / "a", SamplesPerPixel=3), ["not plain grey"]),
        (lambda folder: dicom(folder / "a", ImagerPixelSpacing=None), ["how large its pixels are", "spacing_mm"]),
        (lambda folder: dicom(folder / "a", ImagerPixelSpacing=[0, 0]), ["pixel size is not plausible"]),
        (lambda folder: dicom(folder / "a", EstimatedRadiographicMagnificationFactor=-1), ["magnification"]),
        (lambda folder: dicom(folder / "a", np.zeros(SHAPE)), ["is empty"]),
        (lambda folder: picture(folder / "a.png", np.zeros((8, 8, 3), np.uint8)), ["not one grey image", "RGB"]),
        (lambda folder: cut(picture(folder / "a.png"), 0.7), ["cannot be read"]),
        (lambda folder: cut(picture(folder / "a.tif"), 0.5), ["cannot be read"]),
        (lambda folder: pages(folder / "a.tif"), ["2 pages"]),
        (lambda folder: bomb(folder / "a.png"), ["cannot be read", "Bomb"]),
        (lambda folder: folder / "none.dcm", ["missing"]),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_one_message(tmp_path, write, message):
    with pytest.raises(SiteError) as caught:
        load(write(tmp_path), spacing_mm=None)
    for part in [*message, "where:", "expected:", "to do:"]:
        assert part in str(caught.value)
    assert str(tmp_path) not in caught.value.public


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (FINDING[:50], "another shape"),
        (np.zeros(SHAPE, np.uint8), "mask is empty"),
        (np.stack([FINDING] * 3, axis=-1), "not one grey image"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(tmp_path, mask, message):
    image, path = dicom(tmp_path / "a.dcm"), picture(tmp_path / "m.png", mask)
    with pytest.raises(SiteError, match=message):
        load(image, mask=path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"images": "{patient}.png"}, "spacing_mm"),
        ({"images": "{patient}.png", "spacing_mm": [0.1, 0.0]}, "spacing_mm"),
        ({"images": "{patient}/{instance}.dcm", "mask": "{patient}/mask.png"}, "both hold"),
        ({"images": "{patient}.dcm", "view": "XCC"}, "view"),
        ({"images": "mammo.dcm"}, "patient"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        MammogramReader(reader="mammogram", **settings)


@pytest.fixture
def clinic(hospital):
    """Patients 0 to 3 with two views each, and the finding in every CC view but the last patient's."""
    views = [[f"secret-{index:03d}", view] for index in range(4) for view in ("CC", "MLO")]
    hospital.write([["PatientID", "View"], *views], "views.csv")
    hospital.settings["tables"]["views"] = {"file": "views.csv", "patient_id": "PatientID"}
    for patient, view in views:
        dicom(hospital.data / f"mammo/{patient}/{view}.dcm", ViewPosition=view)
        if view == "CC" and patient != "secret-003":
            picture(hospital.data / f"mammo/{patient}/{view}_mask.png", FINDING)
    hospital.settings["modalities"]["mammogram"] = {"reader": "mammogram", "images": "mammo/{patient}/*.dcm"}
    return hospital


def by_view(clinic):
    clinic.settings["instances"] = {"table": "views", "column": "View"}
    names = {"images": "mammo/{patient}/{instance}.dcm", "mask": "mammo/{patient}/{instance}_mask.png"}
    clinic.settings["modalities"]["mammogram"] |= names


def task_of(**modalities):
    return Task(modalities, {"recurrence": TimeToEvent()}, build_model=lambda *_: None)


IMAGE = Volume((1, 1, 30, 40), (1.0, 0.2, 0.2), field_of_view="whole")


def test_views_are_rows_and_a_bad_one_is_excluded(clinic, config):
    by_view(clinic)
    cut(clinic.data / "mammo/secret-001/MLO.dcm", 0.9)
    clinic.settings["modalities"]["mammogram"]["spacing_mm"] = [0.1, 0.2]
    cohort = load_cohort(clinic.site(), task_of(mammogram=IMAGE), config)
    rows = cohort.rows(np.arange(4))
    assert cohort.present[rows, 0].tolist() == [True, True, True, False, True, True, True, True]
    volume = cohort.inputs["mammogram"]
    assert volume.shape == (44, 1, 1, 30, 40)
    np.testing.assert_allclose(volume[0, 0, 0, 14, 5:15], 3000 / np.percentile(PIXELS, 95), rtol=2e-3)
    (aside,) = cohort.excluded
    assert (aside.patient, aside.instance) == ("secret-001", "MLO")
    assert "cut short" in aside.why


def test_a_file_that_crashes_the_codec_sets_its_patient_aside(clinic, config):
    clinic.settings["modalities"]["mammogram"]["images"] = "mammo/{patient}/CC.dcm"
    clinic.settings["workers"] = 2
    spoilt(jpeg(clinic.data / "mammo/secret-001/CC.dcm", "JPEG"), 4, 234)
    cohort = load_cohort(clinic.site(), task_of(mammogram=IMAGE), config)
    assert cohort.present[:4, 0].tolist() == [True, False, True, True]
    assert [exclusion.patient for exclusion in cohort.excluded] == ["secret-001"]


def test_of_a_folder_one_view_is_taken(clinic, config):
    clinic.settings["modalities"]["mammogram"]["view"] = "CC"
    dicom(clinic.data / "mammo/secret-002/again.dcm")
    (clinic.data / "mammo/secret-001/CC.dcm").unlink()
    cohort = load_cohort(clinic.site(), task_of(mammogram=IMAGE), config)
    assert cohort.present[:4, 0].tolist() == [True, False, False, True]
    (aside,) = cohort.excluded
    assert "several files where one is expected" in aside.why


def test_pictures_do_not_say_their_view(clinic, config):
    clinic.settings["modalities"]["mammogram"] |= {"images": "mammo/{patient}/*_mask.png", "view": "CC"}
    clinic.settings["modalities"]["mammogram"]["spacing_mm"] = [0.1, 0.1]
    with pytest.raises(SiteError, match="does not say its view"):
        load_cohort(clinic.site(), task_of(mammogram=IMAGE), config)


def test_findings_are_measured_in_the_images(clinic, config):
    by_view(clinic)
    clinic.settings["modalities"]["measured"] = {"reader": "extracted", "images": "mammogram"}
    features = Table((Feature("size_mm"), Feature("size_minor_mm"), Feature("acutance")))
    cohort = load_cohort(clinic.site(), task_of(measured=features), config)
    measured = cohort.inputs["measured"]
    # 10 rows of 0.1 mm and 10 columns of 0.2 mm
    np.testing.assert_allclose(measured[0, :2], [np.hypot(1, 2), 1], rtol=0.1)
    assert cohort.present[:8, 0].tolist() == [True, False, True, False, True, False, False, False]
