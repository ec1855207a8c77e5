import dataclasses
import tracemalloc

import numpy as np
import pytest

from client.errors import ExitCode, SiteError
from client.imaging.grid import on_grid
from client.imaging.phase_files import ImageFiles
from client.readers.image_files import ImageFilesReader
from shared_models.task import Volume

SHAPE = (6, 8, 10)
FLIPS = {"LPS": np.diag([1, 1, 1]), "RAS": np.diag([-1, -1, 1]), "LPI": np.diag([1, 1, -1])}


@pytest.fixture
def ramp():
    return np.arange(480, dtype=np.float32).reshape(SHAPE) + 100


def grid(channels=1, shape=SHAPE, spacing=(1.0, 1.0, 1.0)):
    return Volume((channels, *shape), spacing)


def read(paths, volume):
    return on_grid(ImageFiles(tuple(paths)).load(), volume)


def about_the_middle(path, volume):
    """The volume about a tumour of 2 voxels along each axis, in the middle of an image of even shape."""
    import SimpleITK as sitk

    exam = ImageFiles((path,)).load()
    voxels = np.zeros(exam.phases[0].GetSize()[::-1], dtype=np.uint8)
    voxels[tuple(slice(size // 2 - 1, size // 2 + 1) for size in voxels.shape)] = 1
    mask = sitk.GetImageFromArray(voxels)
    mask.CopyInformation(exam.phases[0])
    return on_grid(dataclasses.replace(exam, mask=mask), volume)


def test_phases_are_divided_by_the_first_ones_95th_percentile(tmp_path, volume_file, ramp):
    paths = [tmp_path / f"{phase}.nii.gz" for phase in range(3)]
    for phase, path in enumerate(paths):
        volume_file(path, ramp * (phase + 1))
    volume = read(paths, grid(3))
    assert volume.shape == (3, *SHAPE)
    assert volume.dtype == np.float16
    np.testing.assert_allclose(volume[0], ramp / np.percentile(ramp, 95), rtol=2e-3)
    np.testing.assert_allclose(volume[2] / volume[0], 3, rtol=3e-3)


def test_a_scanners_gain_cancels(tmp_path, volume_file, ramp):
    for gain in (1, 40):
        for phase in range(2):
            volume_file(tmp_path / f"{gain}/{phase}.nii.gz", gain * ramp * (phase + 1))
    one, forty = ([tmp_path / f"{gain}/{phase}.nii.gz" for phase in range(2)] for gain in (1, 40))
    np.testing.assert_allclose(read(one, grid(2)), read(forty, grid(2)), rtol=2e-3)


@pytest.mark.parametrize("axes", FLIPS.values(), ids=FLIPS)
def test_every_orientation_gives_the_same_array(tmp_path, volume_file, ramp, axes):
    flips = tuple(dimension for dimension in range(3) if np.diag(axes)[2 - dimension] < 0)
    volume_file(tmp_path / "a.nii.gz", np.flip(ramp, flips), axes=axes)
    volume_file(tmp_path / "b.nii.gz", ramp)
    a, b = (read([tmp_path / name], grid()) for name in ("a.nii.gz", "b.nii.gz"))
    np.testing.assert_allclose(a, b, rtol=1e-3)


def test_axes_in_another_order_are_brought_back(tmp_path, volume_file, ramp):
    turned = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]])  # the file's x runs along the patient's y, and so on
    volume_file(tmp_path / "a.nii.gz", ramp.transpose(2, 0, 1), axes=turned)
    np.testing.assert_allclose(read([tmp_path / "a.nii.gz"], grid())[0], ramp / np.percentile(ramp, 95), rtol=1e-3)


def test_voxels_are_resampled_in_millimetres(tmp_path, volume_file):
    z = np.linspace(1, 2, 16)[:, None, None] * np.ones((16, 16, 16))
    volume_file(tmp_path / "a.nii.gz", z, spacing=(0.5, 0.5, 1.0))
    volume = about_the_middle(tmp_path / "a.nii.gz", grid(shape=(6, 8, 8), spacing=(2.0, 1.0, 1.0)))[0]
    expected = z[2:-2, 0, 0].reshape(6, 2).mean(axis=1) / np.percentile(z, 95)
    np.testing.assert_allclose(volume[:, 4, 4], expected, rtol=2e-3)


def test_about_a_tumour_the_rest_is_cut_or_padded_with_zeros(tmp_path, volume_file, ramp):
    volume_file(tmp_path / "a.nii.gz", ramp)
    volume = about_the_middle(tmp_path / "a.nii.gz", grid(shape=(4, 12, 10)))[0]
    np.testing.assert_allclose(volume[:, 2:-2], ramp[1:-1] / np.percentile(ramp, 95), rtol=1e-3)
    assert not volume[:, :2].any()
    assert not volume[:, -2:].any()


def test_one_channel_takes_the_last_file_on_the_first_ones_scale(tmp_path, volume_file, ramp):
    for phase in range(2):
        volume_file(tmp_path / f"{phase}.nii.gz", ramp * (phase + 1))
    volume = read([tmp_path / "0.nii.gz", tmp_path / "1.nii.gz"], grid())
    np.testing.assert_allclose(volume[0], 2 * ramp / np.percentile(ramp, 95), rtol=2e-3)


def test_names_are_taken_from_paths(hospital, volume_file):
    hospital.data.joinpath("mri").mkdir(parents=True)
    for path in ("mri/a/a_pre[1].nii", "mri/b/b_pre[1].nii", "mri/b/a_pre[1].nii", "mri/c/c_pre1.nii"):
        (hospital.data / path).parent.mkdir(exist_ok=True)
        (hospital.data / path).touch()
    reader = ImageFilesReader(reader="image_files", phases=("mri/{patient}/{patient}_pre[1].nii",))
    assert {key.patient for key in reader.exams(hospital.site())} == {"a", "b"}


def test_a_link_that_leads_out_is_refused(hospital, tmp_path):
    (tmp_path / "elsewhere.nii").touch()
    (hospital.data / "a.nii").symlink_to(tmp_path / "elsewhere.nii")
    with pytest.raises(SiteError, match="escapes data_root"):
        ImageFilesReader(reader="image_files", phases=("{patient}.nii",)).exams(hospital.site())


def spoiled(ramp, spot, value):
    ramp = ramp.copy()
    ramp[spot] = value
    return ramp


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (lambda ramp: {"array": ramp[:-1]}, ["differ in size", "(10, 8, 5)", "(10, 8, 6)"]),
        (lambda ramp: {"array": ramp, "spacing": (1, 1, 2)}, ["differ in spacing", "(1.0, 1.0, 2.0)"]),
        (lambda ramp: {"array": ramp, "axes": FLIPS["RAS"]}, ["differ in orientation"]),
        (lambda ramp: {"array": ramp, "origin": (0, 0, 4)}, ["differ in origin", "(0.0, 0.0, 4.0)"]),
        (lambda ramp: {"array": ramp, "spacing": (1, 1, 500)}, ["voxel size is not plausible", "500"]),
        (lambda ramp: {"array": spoiled(ramp, (0, 0, 0), np.nan)}, ["not numbers", "1 NaN or infinite"]),
        (lambda ramp: {"array": spoiled(ramp, 0, np.inf)}, ["not numbers", "80 NaN or infinite"]),
        (lambda ramp: {"array": np.stack([ramp, ramp])}, ["wrong number of phases", "one phase a file"]),
    ],
)
def test_a_phase_that_does_not_fit(tmp_path, volume_file, ramp, second, message):
    volume_file(tmp_path / "0.nii.gz", ramp)
    write = second(ramp)
    if write["array"].ndim == 4:
        write_four_dimensions(tmp_path / "1.nii.gz", write["array"])
    else:
        volume_file(tmp_path / "1.nii.gz", **write)
    with pytest.raises(SiteError) as caught:
        read([tmp_path / "0.nii.gz", tmp_path / "1.nii.gz"], grid(2))
    for part in [*message, "1.nii.gz", "to do"]:
        assert part in str(caught.value)
    assert caught.value.exit_code is ExitCode.DATA
    assert "nii" not in caught.value.public


def write_four_dimensions(path, array):
    import SimpleITK as sitk

    image = sitk.JoinSeries([sitk.GetImageFromArray(part) for part in array])
    sitk.WriteImage(image, str(path))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mha"])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_non_finite_voxels_are_found_in_every_format(tmp_path, ramp, name, kind):
    import SimpleITK as sitk

    sitk.WriteImage(sitk.GetImageFromArray(spoiled(ramp, (0, 1, slice(3)), np.nan).astype(kind)), str(tmp_path / name))
    with pytest.raises(SiteError, match="3 NaN or infinite voxels"):
        read([tmp_path / name], grid())


@pytest.mark.parametrize("name", ["a.nii", "a.nrrd", "a.mha"])
def test_a_huge_header_is_refused_before_memory_is_taken(tmp_path, ramp, name):
    import SimpleITK as sitk

    path = tmp_path / name
    sitk.WriteImage(sitk.GetImageFromArray(ramp), str(path))
    content, huge = path.read_bytes(), b"30000 30000 30000"
    if name == "a.nii":
        content = content[:42] + np.full(3, 30000, dtype="<i2").tobytes() + content[48:]
    path.write_bytes(content.replace(b"sizes: 10 8 6", b"sizes: " + huge).replace(b"Size = 10 8 6", b"Size = " + huge))
    with pytest.raises(SiteError, match=r"not of a plausible size\n.*\n.*30000 x 30000 x 30000"):
        read([path], grid())


def test_a_small_file_that_unpacks_to_a_very_large_one_is_read_no_further_than_its_header_says(tmp_path, ramp):
    import gzip

    import SimpleITK as sitk

    sitk.WriteImage(sitk.GetImageFromArray(ramp), str(tmp_path / "a.nii"))
    with gzip.open(tmp_path / "a.nii.gz", "wb", compresslevel=1) as file:
        file.write((tmp_path / "a.nii").read_bytes())
        for _ in range(64):
            file.write(bytes(2**20))
    tracemalloc.start()
    read([tmp_path / "a.nii.gz"], grid())
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()


def test_colours_are_refused(tmp_path, ramp):
    import SimpleITK as sitk

    sitk.WriteImage(sitk.GetImageFromArray(np.stack([ramp] * 3, axis=-1), isVector=True), str(tmp_path / "a.nrrd"))
    with pytest.raises(SiteError, match="colours or vectors"):
        read([tmp_path / "a.nrrd"], grid())


def test_times_are_one_a_phase(hospital):
    hospital.phases([0], count=2)
    hospital.settings["modalities"]["mri"]["seconds"] = [0, 90]
    site = hospital.site()
    (exam,) = site.modalities["mri"].exams(site).values()
    assert exam.load().seconds == (0.0, 90.0)
    hospital.settings["modalities"]["mri"]["seconds"] = [0, 90, 180]
    with pytest.raises(SiteError, match="3 times for 2 phases"):
        hospital.site()


def test_two_files_for_one_phase(hospital, volume_file, ramp):
    for name in ("a", "b"):
        volume_file(hospital.data / f"mri/secret-000/{name}.nii", ramp)
    reader = ImageFilesReader(reader="image_files", phases=("mri/{patient}/*.nii",))
    (error,) = reader.exams(hospital.site()).values()
    assert "several files of phase0" in str(error)


def test_files_that_are_no_images(tmp_path, volume_file):
    (tmp_path / "a.nii.gz").write_bytes(b"no image")
    with pytest.raises(SiteError, match="cannot be read"):
        read([tmp_path / "a.nii.gz"], grid())
    volume_file(tmp_path / "b.nii.gz", np.zeros(SHAPE))
    with pytest.raises(SiteError, match="pre-contrast image is empty"):
        read([tmp_path / "b.nii.gz"], grid())


def test_sheared_axes_are_refused(tmp_path, ramp):
    """Such a file is refused on reading or by our own check, depending on the format."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(ramp)
    image.SetDirection([1, 0.5, 0, 0, 1, 0, 0, 0, 1])
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    with pytest.raises(SiteError, match=r"not a rotation|cannot be read"):
        read([tmp_path / "a.mha"], grid())
