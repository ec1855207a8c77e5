"""Attention of a finished network to an image: where it looks, by weights of its own, whichever outcome it predicts.

A spatial attention gives each voxel a weight from 0 to 1 (Woo 2018, arXiv:1807.06521); of a slide each tile has the
share that the genes' tokens read of it, the mean over tokens and heads. Neither says what the network makes of what it
sees there (Jain 2019, arXiv:1902.10186).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from client.training.dataset import PatientDataset
from shared_models.networks.cross_attention import MutualAttention
from shared_models.networks.spatial_attention import SpatialAttention
from shared_models.secure_aggregation.groups import modality_of
from shared_models.task import Bag, Task, Volume


def attention(
    network: nn.Module, patients: PatientDataset, row: int, modality: str, task: Task
) -> NDArray[np.float32] | None:
    """How much attention each voxel `(D, H, W)` of one image has; None where the network has none to this image.

    Args:
        network: In evaluation mode.
        patients: Whose rows can be read.
        row: The image's.
        modality: The image.
        task: The network's.
    """
    inputs, present = patients.read(np.array([row]))
    device, grid, seen = next(network.parameters()).device, inputs[modality].shape[2:], list[Tensor]()
    own, is_slide = _tokens_of(task, modality), modality in _slides(task)

    def of_voxels(module: nn.Module, given: Any, weights: Tensor) -> None:
        seen.append(functional.interpolate(weights, size=grid, mode="trilinear", align_corners=False)[0, 0])

    def of_tiles(module: nn.Module, given: tuple[Tensor, Tensor], read: Any) -> None:
        assert isinstance(module, MutualAttention)
        tiles, genes = given
        shares = module.second.weights(genes, tiles).mean(dim=(1, 2))[0, own]
        seen.append(shares[:, None, None].expand(grid))

    hooks = [
        module.register_forward_hook(of_tiles if is_slide else of_voxels)
        for name, module in network.named_modules()
        if (isinstance(module, MutualAttention) if is_slide else _looks_at(module, name, modality))
    ]
    try:
        with torch.no_grad():
            network({name: values.to(device) for name, values in inputs.items()}, present.to(device))
    finally:
        for hook in hooks:
            hook.remove()
    return seen[0].cpu().numpy() if seen else None


def _looks_at(module: nn.Module, name: str, modality: str) -> bool:
    return isinstance(module, SpatialAttention) and modality_of(name) == modality


def _slides(task: Task) -> list[str]:
    """The modalities of tiles, whose tokens lie one after the other in this order."""
    return [
        name
        for name, kind in task.modalities.items()
        if isinstance(kind, Bag) or (isinstance(kind, Volume) and kind.tiles)
    ]


def _tokens_of(task: Task, modality: str) -> slice:
    """Where a slide's tokens lie among those of all slides."""
    start = 0
    for name in _slides(task):
        kind = task.modalities[name]
        count = kind.shape[0] if isinstance(kind, Bag) else kind.shape[1]
        if name == modality:
            return slice(start, start + count)
        start += count
    return slice(0)
