"""Attention at a hospital: the weights that the network itself uses, of the image that it looks at."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from client.inference.attention import attention
from client.training.dataset import PatientDataset
from shared_models.networks.cross_attention import CrossAttention
from shared_models.networks.image_encoder import TumourEncoder
from shared_models.study_settings import StudySettings, parse_study_settings
from shared_models.task import Bag, Table, Task, Volume, load_task


def patients(task: Task) -> PatientDataset:
    """Two patients with noise in every modality; of a tumour the distance to its surface too."""
    rng = np.random.default_rng(0)
    inputs = {}
    for name, kind in task.modalities.items():
        shape = (kind.width,) if isinstance(kind, Table) else kind.shape
        inputs[name] = rng.normal(0.5, 0.2, (2, *shape)).astype(np.float32)
        if isinstance(kind, Volume) and kind.tumour:
            inputs[name][:, -1] = rng.normal(0, 5, (2, *shape[1:]))
    present = np.ones((2, len(task.modalities)), bool)
    return PatientDataset(inputs, present, {}, np.arange(3), np.ones(2), np.arange(2), 0, ["P", "Q"])


def network_of(task: Task, config: StudySettings) -> torch.nn.Module:
    torch.manual_seed(0)
    return task.build_model(task, config).eval()


def test_of_a_tumour_it_is_the_weight_by_which_the_encoder_multiplies_its_maps() -> None:
    config = parse_study_settings({"task": "receptors_dce_mri", "grids": "dce_mri: 8x16x16 at 4x4x4 mm"})
    task = load_task(config)
    network, data = network_of(task, config), patients(task)
    (encoder,) = (module for module in network.modules() if isinstance(module, TumourEncoder))
    assert encoder.attention is not None
    for gate in encoder.attention.gates:
        torch.nn.init.normal_(gate.weight, std=0.1)
    heat = attention(network, data, 1, "dce_mri", task)
    assert heat is not None
    with torch.no_grad():
        scales = encoder.backbone(data.read(np.array([1]))[0]["dce_mri"])
        weights = encoder.attention(scales[len(encoder.backbone.stem_widths) :])
    expected = functional.interpolate(weights, size=(8, 16, 16), mode="trilinear", align_corners=False)[0, 0]
    np.testing.assert_allclose(heat, expected.numpy(), rtol=1e-5)
    assert heat.std() > 0.01
    assert not any(module._forward_hooks for module in network.modules())
    plain = parse_study_settings({**config.to_flat(), "fusion": "concatenation"})
    assert attention(network_of(load_task(plain), plain), data, 1, "dce_mri", task) is None


def test_of_a_slide_it_is_the_share_that_genes_read_of_each_tile() -> None:
    kinds = "tile_features, tiles, expression"
    config = parse_study_settings(
        {"task": "subtype_histology", "modalities": kinds, "grids": "tiles: 5x16x16 at 1x1x1 mm"}
    )
    task = load_task(config)
    assert isinstance(task.modalities["tile_features"], Bag)
    network, data = network_of(task, config), patients(task)
    heat = attention(network, data, 0, "tiles", task)
    assert heat is not None
    assert heat.shape == task.modalities["tiles"].shape[1:]
    assert (heat == heat[:, :1, :1]).all(), "a tile has one share"
    assert 0 < heat[:, 0, 0].sum() < 1, "the features of other tiles have the rest"


def test_the_weights_are_those_of_what_is_read() -> None:
    torch.manual_seed(1)
    layer, tokens, context = CrossAttention(32), torch.randn(2, 7, 32), torch.randn(2, 5, 32)
    value = layer.value(context).view(2, 5, 4, 8).transpose(1, 2)
    read = layer.project((layer.weights(tokens, context) @ value).transpose(1, 2).flatten(start_dim=2))
    torch.testing.assert_close(read, layer(tokens, context))
