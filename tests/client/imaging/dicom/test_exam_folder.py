"""DICOM files as exams: voxels, geometry, compression."""

import io
import shutil

import numpy as np
import pytest

from client.errors import SiteError
from client.imaging.dicom.exam_choice import Wanted
from client.imaging.dicom.exam_folder import DicomFiles

SHAPE = (5, 4, 6)
STUDY = "dce_dicom/UCSF-BR-06"


@pytest.fixture
def ramp():
    return np.arange(120).reshape(SHAPE)


@pytest.fixture
def exam(tmp_path, slice_file, ramp):
    """Writes an exam of two phases, the second twice as bright, and gives its files."""

    def write(folder=tmp_path / "exam", phases=2, compress="", **tags):
        for phase in range(phases):
            for place in range(len(ramp)):
                mark = {"AcquisitionTime": f"10{phase:02d}00", "InstanceNumber": 10 * phase + place + 1}
                voxels, position = (phase + 1) * ramp[place], (-10, -20, 3 * place)
                slice_file(folder / f"{phase}-{place}", voxels, position, compress, **(mark | tags))
        return DicomFiles(tuple(sorted(folder.iterdir())))

    return write


def arrays(exam):
    import SimpleITK as sitk

    return [sitk.GetArrayFromImage(phase) for phase in exam.phases]


def test_voxels_and_where_they_are(exam, ramp):
    loaded = exam().load()
    np.testing.assert_array_equal(arrays(loaded), [ramp, 2 * ramp])
    assert loaded.seconds == (0.0, 60.0)
    for phase in loaded.phases:
        assert phase.GetOrigin() == (-10, -20, 0)
        assert phase.GetSpacing() == (1, 2, 3)
        assert phase.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)


def test_slices_turned_in_space(exam):
    sagittal = exam(phases=1, ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    with pytest.raises(SiteError, match="a phase has one slice"):  # stacked along z, which is now within the plane
        sagittal.load()


def test_each_slice_has_its_own_slope(exam, slice_file, ramp, tmp_path):
    files = exam(phases=1)
    scale = {"RescaleSlope": "0.25", "RescaleIntercept": "-7"}
    slice_file(tmp_path / "exam/0-3", ramp[3], (-10, -20, 9), InstanceNumber=4, AcquisitionTime="100000", **scale)
    phase = arrays(files.load())[0]
    np.testing.assert_array_equal(phase[3], ramp[3] / 4 - 7)
    np.testing.assert_array_equal(phase[2], ramp[2])


@pytest.mark.parametrize("syntax", ["RLELossless", "JPEGLSLossless"])
def test_compressed_slices(tmp_path, slice_file, syntax):
    import pydicom

    voxels = np.random.default_rng(0).integers(0, 3000, (2, 64, 64))
    for place in range(2):
        slice_file(tmp_path / f"0-{place}", voxels[place], (0, 0, place), getattr(pydicom.uid, syntax))
    exam = DicomFiles(tuple(sorted(tmp_path.iterdir()))).load()
    np.testing.assert_array_equal(arrays(exam)[0], voxels)


def test_slices_compressed_as_jpeg_2000(exam, ramp):
    import pydicom
    from PIL import Image

    files = exam(phases=1)
    for path in files.images:
        file, stream = pydicom.dcmread(path), io.BytesIO()
        Image.fromarray(file.pixel_array.astype(np.uint16)).save(stream, "JPEG2000", no_jp2=True, num_resolutions=1)
        file.PixelRepresentation = 0
        file.PixelData = pydicom.encaps.encapsulate([stream.getvalue()])
        file["PixelData"].is_undefined_length = True
        file.file_meta.TransferSyntaxUID = pydicom.uid.JPEG2000Lossless
        file.save_as(path)
    np.testing.assert_array_equal(arrays(files.load())[0], ramp)


def test_an_enhanced_file_holds_all_phases(tmp_path, slice_file, ramp):
    from pydicom import Dataset, Sequence

    frames = []
    for phase in range(2):
        for place in reversed(range(len(ramp))):
            content, position, values = Dataset(), Dataset(), Dataset()
            content.TemporalPositionIndex, content.FrameAcquisitionDateTime = phase + 1, f"2020010110{phase:02d}30"
            position.ImagePositionPatient = [0, 0, 3 * place]
            values.RescaleSlope, values.RescaleIntercept = 1 + phase, 0
            frame = Dataset()
            frame.FrameContentSequence, frame.PlanePositionSequence = Sequence([content]), Sequence([position])
            frame.PixelValueTransformationSequence = Sequence([values])
            frames.append(frame)
    axes, measures, shared = Dataset(), Dataset(), Dataset()
    axes.ImageOrientationPatient, measures.PixelSpacing = [1, 0, 0, 0, 1, 0], [2, 1]
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = Sequence([axes]), Sequence([measures])
    tags = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4.1",
        "NumberOfFrames": len(frames),
        "PerFrameFunctionalGroupsSequence": Sequence(frames),
        "SharedFunctionalGroupsSequence": Sequence([shared]),
        "ImagePositionPatient": None,
        "Rows": SHAPE[1],
    }
    slice_file(tmp_path / "a.dcm", np.concatenate([ramp[::-1], ramp[::-1]]).reshape(-1, 6), (0, 0, 0), **tags)
    exam = DicomFiles((tmp_path / "a.dcm",)).load()
    np.testing.assert_array_equal(arrays(exam), [ramp, 2 * ramp])
    assert exam.seconds == (0.0, 60.0)
    assert exam.phases[0].GetSpacing() == (1, 2, 3)


def test_phases_of_different_series_must_be_on_one_grid(exam, tmp_path):
    first = exam(tmp_path / "all/a", 1, SeriesInstanceUID="1.1")
    second = exam(tmp_path / "all/b", 1, SeriesInstanceUID="1.2", AcquisitionTime="110000", PixelSpacing=[2, 1.5])
    with pytest.raises(SiteError, match="phases differ in spacing"):
        DicomFiles(first.images + second.images, Wanted("dyn")).load()


def test_some_of_the_phases_and_the_sites_own_times(exam):
    files = exam(phases=4)
    some = DicomFiles(files.images, positions=(1, 3)).load()
    assert some.seconds == (0.0, 120.0)
    assert [array.max() for array in arrays(some)] == [2 * 119, 4 * 119]
    assert DicomFiles(files.images, positions=(0, 1), seconds=(0.0, 75.0)).load().seconds == (0.0, 75.0)
    with pytest.raises(SiteError, match=r"4 phases\n.*at least 6"):
        DicomFiles(files.images, positions=(0, 5)).load()
    with pytest.raises(SiteError, match=r"4 phases\n.*2, as `seconds` says"):
        DicomFiles(files.images, seconds=(0.0, 75.0)).load()


def test_a_slice_cut_short_is_an_error_and_no_crash(exam):
    files = exam(phases=1)
    files.images[2].write_bytes(files.images[2].read_bytes()[:-30])
    with pytest.raises(SiteError, match="a DICOM file is cut short") as caught:
        files.load()
    assert "0-2" in str(caught.value)


def test_a_huge_header_is_refused_before_memory_is_taken(exam):
    with pytest.raises(SiteError, match=r"cut short\n.*\n.*\n.*8589672450, as its header says"):
        exam(Rows=65535, Columns=65535).load()


def test_a_real_study_is_what_simpleitk_reads(shared_data, tmp_path):
    import SimpleITK as sitk

    files = sorted((shared_data / STUDY / "image_dce_3dfgre_orig").iterdir())
    shuffled = np.random.default_rng(0).permutation(len(files))
    for path, name in zip(files, shuffled, strict=True):
        shutil.copy(path, tmp_path / f"{name}.dcm")
    exam = DicomFiles(tuple(sorted(tmp_path.iterdir()))).load()
    assert [phase.GetSize() for phase in exam.phases] == [(256, 256, 60)] * 3
    assert exam.seconds == (0.0, 407.0, 761.0)
    np.testing.assert_allclose(exam.phases[0].GetSpacing(), (0.703125, 0.703125, 2))
    reader = sitk.ImageSeriesReader()
    reader.SetOutputPixelType(sitk.sitkFloat32)
    for phase, image in enumerate(exam.phases):  # the files' names count the phases' slices one after the other
        reader.SetFileNames([str(path) for path in files[60 * phase : 60 * phase + 60]])
        expected = reader.Execute()
        np.testing.assert_array_equal(sitk.GetArrayViewFromImage(image), sitk.GetArrayViewFromImage(expected))
        np.testing.assert_allclose(image.GetOrigin(), expected.GetOrigin())
        np.testing.assert_allclose(image.GetDirection(), expected.GetDirection())


@pytest.mark.parametrize(
    ("tags", "side"), [({"Laterality": "L"}, "left"), ({"ImageLaterality": "R"}, "right"), ({}, "")]
)
def test_the_side_is_read_from_the_headers_unless_the_site_says_it(tmp_path, slice_file, tags, side):
    for place in range(3):
        slice_file(tmp_path / f"{place}", np.ones((4, 6)), (0, 0, 3 * place), **tags)
    files = tuple(sorted(tmp_path.iterdir()))
    assert DicomFiles(files).load().side == side
    assert DicomFiles(files, side="left").load().side == "left"
