from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from client.cohort.load import Cohort, load_cohort
from client.errors import SiteError
from client.imaging.histology.stain import macenko
from client.imaging.histology.tile_features import load_resnet50, tile_pixels
from shared_models.targets import TimeToEvent
from shared_models.task import Bag, Task, Volume

FEATURES, TILES = Bag((3, 2048)), Volume((3, 4, 8, 8), (1.0, 1.0, 1.0))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    from monai.networks.nets import resnet50

    torch.manual_seed(0)
    network = resnet50(spatial_dims=2, n_input_channels=3, conv1_t_stride=2, bias_downsample=False)  # with a classifier
    path = tmp_path_factory.mktemp("weights") / "resnet50.safetensors"
    save_file(network.state_dict(), path)
    return path


def write_tile(path, pixels):
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def tile(path, seed, size=8):
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    write_tile(path, pixels)
    return pixels


@pytest.fixture
def slides(hospital, weights):
    """Patients 0 to 2 with 5, 2 and 3 tiles."""
    for index, count in enumerate((5, 2, 3)):
        for number in range(count):
            tile(hospital.data / f"histology/secret-{index:03d}/{number}.png", 10 * index + number)
    (hospital.data / "resnet50.safetensors").symlink_to(hospital.data / "weights.safetensors")
    (hospital.data / "weights.safetensors").write_bytes(weights.read_bytes())
    reader = {"reader": "tiles", "tiles": "histology/{patient}/*.png", "weights": "resnet50.safetensors"}
    hospital.settings["modalities"]["histology"] = reader
    return hospital


def task_of(kind):
    return Task({"histology": kind}, {"recurrence": TimeToEvent()}, build_model=lambda *_: None)


def test_features_are_the_networks_and_are_computed_once(slides, config, monkeypatch):
    cohort = load_cohort(slides.site(), task_of(FEATURES), config)
    assert cohort.present[:, 0].nonzero()[0].tolist() == [0, 1, 2]
    bags = cohort.inputs["histology"]
    assert bags.shape == (40, 3, 2048)
    np.testing.assert_array_equal(bags[1, 0], bags[1, 2])  # of two tiles the first again
    assert not bags[3:].any()
    network = load_resnet50(slides.data / "resnet50.safetensors")
    pixels = tile(slides.data / "histology/secret-001/0.png", 10)
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = network(torch.from_numpy(((pixels / 255 - mean) / deviation).astype(np.float32)).permute(2, 0, 1)[None])
    np.testing.assert_allclose(bags[1, 0], expected[0].detach().numpy(), rtol=2e-3, atol=1e-3)

    # another cohort of the same tiles: nothing is computed
    slides.settings["include"] = {"column": "Grade", "values": ["G1", "G2"]}
    monkeypatch.setattr("client.imaging.histology.tile_features.tile_pixels", None)
    again = load_cohort(slides.site(), task_of(FEATURES), config)
    np.testing.assert_array_equal(again.inputs["histology"][0], bags[0])


def test_tiles_themselves_stand_along_the_depth(slides, config):
    volume = load_cohort(slides.site(), task_of(TILES), config).inputs["histology"]
    assert volume.shape == (40, 3, 4, 8, 8)
    pixels = tile(slides.data / "histology/secret-001/1.png", 11)
    np.testing.assert_allclose(volume[1, :, 1], pixels.transpose(2, 0, 1) / 255, atol=1e-3)
    np.testing.assert_array_equal(volume[1, :, 1], volume[1, :, 3])
    coarse = load_cohort(slides.site(), task_of(Volume((3, 2, 4, 4), (1.0, 1.0, 1.0))), config)
    assert coarse.inputs["histology"].shape == (40, 3, 2, 4, 4)


def spoil_weights(slides, weights):
    save_file({"conv1.weight": torch.zeros(64, 3, 7, 7)}, slides.data / "weights.safetensors")


def another_architecture(slides, weights):
    from monai.networks.nets import resnet18

    network = resnet18(spatial_dims=2, n_input_channels=3, conv1_t_stride=2)
    save_file(network.state_dict(), slides.data / "weights.safetensors")


class Evil:
    def __reduce__(self):
        return print, ("ran",)


def pickled_code(slides, weights):
    torch.save({"conv1.weight": Evil()}, slides.data / "w.pth")
    slides.settings["modalities"]["histology"]["weights"] = "w.pth"


def no_weights(slides, weights):
    (slides.data / "weights.safetensors").unlink()


def none_named(slides, weights):
    del slides.settings["modalities"]["histology"]["weights"]


def nobody(slides, weights):
    slides.settings["modalities"]["histology"]["tiles"] = "slides/{patient}/*.png"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_weights, ["weights of the tiles' network", "ResNet-50's"]),
        (another_architecture, ["weights of the tiles' network", "ResNet-50's"]),
        (pickled_code, ["more in it than weights"]),
        (no_weights, ["no such file"]),
        (none_named, ["no network for them"]),
        (nobody, ["no patient has tiles"]),
    ],
)
def test_one_message_says_what_is_wrong(slides, weights, config, spoil, message, capsys):
    spoil(slides, weights)
    with pytest.raises(SiteError) as caught:
        load_cohort(slides.site(), task_of(FEATURES), config)
    for part in [*message, "where:", "to do:"]:
        assert part in str(caught.value)
    assert "secret" not in caught.value.public
    assert capsys.readouterr().out == ""


def of_histology(cohort: Cohort) -> list[str]:
    """Its warnings, but for the one of patients without tiles: they have nothing else."""
    return [warning for warning in cohort.warnings if "histology" in warning]


def test_a_broken_tile_sets_its_patient_aside(slides, config):
    path = slides.data / "histology/secret-001/0.png"
    path.write_bytes(path.read_bytes()[:60])
    tile(slides.data / "histology/nobody/0.png", 1)
    cohort = load_cohort(slides.site(), task_of(TILES), config)
    assert cohort.present[:, 0].nonzero()[0].tolist() == [0, 2]
    (aside,) = cohort.excluded
    assert aside.patient == "secret-001"
    assert "a tile cannot be read" in aside.why
    assert of_histology(cohort) == [
        "modalities.histology: tiles of 1 patients without a row in table 'clinical' (clinical.csv) not used"
    ]


@pytest.mark.slow  # each process imports torch and MONAI
def test_features_are_the_same_from_other_processes(slides, config):
    features = []
    for workers in (1, 2):
        slides.settings |= {"workers": workers, "state_dir": f"state-{workers}"}  # neither takes the other's artefacts
        features.append(load_cohort(slides.site(), task_of(FEATURES), config).inputs["histology"][:])
    assert features[0].any()
    np.testing.assert_array_equal(*features)


def test_stains_are_normalised_where_the_site_says_so_and_kept_apart(slides, config):
    path = slides.data / "histology/secret-001/0.png"
    amounts = np.random.default_rng(0).gamma(2, 0.4, (2, 64))
    stains = np.array([[0.5626, 0.2159], [0.7201, 0.8012], [0.4062, 0.5581]]) * 0.5
    pixels = (240 * np.exp(-stains @ amounts) - 1).reshape(3, 8, 8).transpose(1, 2, 0).astype(np.uint8)
    write_tile(path, pixels)
    features = {}
    for stain in ("none", "macenko", "none"):
        slides.settings["modalities"]["histology"]["stain"] = stain
        volume = load_cohort(slides.site(), task_of(TILES), config).inputs["histology"]
        features.setdefault(stain, []).append(np.array(volume[1, :, 0]))
    np.testing.assert_array_equal(*features["none"])
    np.testing.assert_allclose(
        features["macenko"][0],
        macenko(tile_pixels(path).transpose(2, 0, 1).astype(np.float32) / np.float32(255)),
        atol=1e-3,
    )
    assert np.abs(features["macenko"][0] - features["none"][0]).max() > 0.1


@pytest.mark.parametrize(("size", "message"), [((8, 5000, 3), "at most"), ((8, 8), "mode L")])
def test_what_is_no_tile_is_refused_by_its_header(tmp_path, size, message, monkeypatch):
    monkeypatch.setattr("client.imaging.histology.tile_features.MAX_PIXELS", 10_000)
    write_tile(tmp_path / "a.png", np.zeros(size, np.uint8))
    with pytest.raises(SiteError, match=message):
        tile_pixels(tmp_path / "a.png")


def test_tiles_of_another_size_than_most_are_counted(slides, config):
    assert of_histology(load_cohort(slides.site(), task_of(TILES), config)) == []
    tile(slides.data / "histology/secret-002/2.png", 22, size=12)
    (text,) = of_histology(load_cohort(slides.site(), task_of(TILES), config))
    assert "histology: 1 patient: tiles of another size than 8 x 8 pixels" in text
    assert "magnification" in text
