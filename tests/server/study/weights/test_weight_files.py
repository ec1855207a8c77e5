"""Weights of others: their names, what fits, and what is refused in one sentence."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.networks.nets import resnet18
from safetensors.torch import save_file
from torch import Tensor, nn

from client.training.dp.grad_sample_modes import require_right_gradients
from client.training.loop import fit, make_optimizer
from server.study.weights.initial_weights import from_file, initial_model, start_of
from server.study.weights.weight_files import read_weights
from shared_models.networks.pretrained import Backbone
from shared_models.settings import SettingsError
from shared_models.study_settings import StudySettings, parse_study_settings
from shared_models.task import load_task
from shared_models.trained_parts import build_network, trained_state

MRI = {"task": "receptors_dce_mri", "grids": "dce_mri: 8x16x16 at 4x4x4 mm", "targets": "er", "trained": "heads"}
TILES = {"task": "subtype_histology", "modalities": "tiles, expression", "grids": "tiles: 2x32x32 at 1x1x1 mm"}


def study(file: Path, **settings: Any) -> StudySettings:
    return parse_study_settings({"initial-weights": "file", "initial-weights-file": str(file), **settings})


def published(dimensions: int, channels: int) -> nn.Module:
    """MONAI's ResNet-18, whose arrays are called as torchvision's, timm's and MedicalNet's."""
    torch.manual_seed(5)
    layout = {"shortcut_type": "A", "bias_downsample": True} if dimensions == 3 else {"bias_downsample": False}
    network: nn.Module = resnet18(spatial_dims=dimensions, n_input_channels=channels, num_classes=3, **layout)
    for name, buffer in network.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2.0)
    return network


def saved(weights: dict[str, Tensor], file: Path, wrapped: str = "") -> Path:
    if file.suffix == ".safetensors":
        save_file({name: value.contiguous() for name, value in weights.items()}, file)
    else:
        torch.save({wrapped: weights, "epoch": 90} if wrapped else weights, file)
    return file


def test_medicalnets_weights_are_the_features_of_its_own_network(tmp_path: Path) -> None:
    theirs = published(3, 1)
    weights = {f"module.{name}": value for name, value in theirs.state_dict().items()}
    weights |= {"module.conv_seg.0.weight": torch.zeros(3)}
    file = saved(weights, tmp_path / "resnet_18_23dataset.pth", wrapped="state_dict")
    config = study(file, **MRI, **{"backbone": "resnet18", "initial-weights-format": "medicalnet"})
    fitted = from_file(load_task(config), config)
    assert fitted.share == 1.0
    assert len(fitted.weights) == fitted.expected == 17 + 4 * 17  # convolutions, and what normalises each
    network = Backbone("resnet18", 3, 1)
    network.load_state_dict({n.split("backbone.")[1]: v for n, v in fitted.weights.items()}, strict=False)
    theirs.eval().fc = nn.Identity()
    theirs.conv1.stride = (2, 2, 2)
    image = torch.randn(2, 1, 24, 24, 24)
    torch.testing.assert_close(network(image).mean(dim=(2, 3, 4)), theirs(image))


@pytest.mark.parametrize("name", ["torchvision", "timm", "monai"])
def test_a_network_of_photographs_fits_tiles_and_as_volumes_too(tmp_path: Path, name: str) -> None:
    weights = published(2, 3).state_dict()
    file = saved(weights, tmp_path / "resnet18.safetensors")
    flat = study(file, **TILES, **{"backbone": "resnet18", "initial-weights-format": name})
    assert from_file(load_task(flat), flat).share == 1.0
    deep = study(file, **MRI, **{"backbone": "resnet18", "initial-weights-format": name})
    fitted = from_file(load_task(deep), deep).weights
    kernel = next(value for key, value in fitted.items() if key.endswith("backbone.conv1.weight"))
    assert kernel.shape == (64, 1, 7, 7, 7)
    torch.testing.assert_close(kernel.sum(dim=2), weights["conv1.weight"].sum(dim=1, keepdim=True))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "resnet10"}, r"40 arrays of the file have no place, as layer1\.1\.conv1\.weight"),
        ({"backbone": "resnet50"}, r"layer1\.0\.conv1\.weight is .*64, 64, 3, 3.* there, .*64, 64, 1, 1.* here"),
        ({}, "has no place for such weights"),
        ({"initial-weights-format": "study"}, "0 of .* arrays of the network fit, 0%"),
    ],
)
def test_weights_of_another_architecture_are_refused_in_a_sentence(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    file = saved(published(2, 3).state_dict(), tmp_path / "weights.pt")
    config = study(file, **TILES, **{"initial-weights-format": "torchvision", **settings})
    with pytest.raises(SettingsError, match=message):
        start_of(load_task(config), config)


class Trap:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch sprung",)


def test_a_file_that_is_no_weights_is_refused_and_none_of_it_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"conv1.weight": Trap()}, "trap.pth")
    Path("text.safetensors").write_text("weights")
    Path("text.pth").write_text("weights")
    torch.save({"epoch": 3}, "empty.pth")
    for name, message in (
        ("trap.pth", "which is not opened"),
        ("text.safetensors", "no weights"),
        ("text.pth", "a pickle|no weights"),
        ("empty.pth", "no arrays"),
        ("none.pth", "no such file"),
    ):
        with pytest.raises(SettingsError, match=message):
            read_weights(Path(name))
    assert not Path("sprung").exists()


def test_a_frozen_backbone_of_others_takes_no_statistics_and_no_step(tmp_path: Path) -> None:
    """Its BatchNorm would, in training; with and without privacy."""
    config = parse_study_settings({**MRI, "backbone": "resnet10", "learning-rate": 0.1, "local-epochs": 1})
    task = load_task(config)
    counts = {"er": np.array([4.0, 4.0])}
    network = build_network(task, config)
    network.load_state_dict({name: torch.from_numpy(a) for name, a in initial_model(task, config, counts).items()})
    before = {name: value.clone() for name, value in network.state_dict().items()}
    batch = {"dce_mri": torch.rand(4, 2, 8, 16, 16)}, torch.ones(4, 1), {"er": torch.tensor([0.0, 1.0, 1.0, 0.0])}
    fit(network, make_optimizer(network.parameters(), config), [batch], task, config, seed=0)
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert moved
    assert not any("backbone" in name for name in moved)
    assert set(trained_state(network)) == {name for name in before if "backbone" not in name}
    require_right_gradients(config.model_copy(update={"privacy": "patient"}))
