"""Encoders around a residual network of a published architecture, for weights that others have trained.

MONAI's ResNet (He 2016, arXiv:1512.03385) in 2D for tiles and in 3D for volumes, its arrays named as those of
torchvision, timm and MedicalNet (Chen 2019, arXiv:1904.00625). Its BatchNorm keeps the means and variances that it came
with, as constants: those of a batch would mix patients. Fresh ones are 0 and 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from shared_models.networks.standardisation import FixedStandardisation
from shared_models.networks.tumour_regions import masked_means
from shared_models.task import Volume

BLOCKS = {  # kind of block, and how many in each of the four stages
    "resnet10": ("basic", (1, 1, 1, 1)),
    "resnet14": ("bottleneck", (1, 1, 1, 1)),
    "resnet18": ("basic", (2, 2, 2, 2)),
    "resnet34": ("basic", (3, 4, 6, 3)),
    "resnet50": ("bottleneck", (3, 4, 6, 3)),
}
WIDTHS = (64, 128, 256, 512)
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # by colour


class Backbone(nn.Module):
    """A ResNet up to its last maps, in evaluation mode whatever happens around it.

    Args:
        name: Of `BLOCKS`.
        dimensions: 2 or 3.
        channels: Of its input: 3 colours, or 1.

    Attributes:
        width: Channels of the last maps.

    Example:
        >>> Backbone("resnet14", 2, 3)(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 2048, 2, 2])
    """

    def __init__(self, name: str, dimensions: int, channels: int) -> None:
        super().__init__()
        from monai.networks.nets.resnet import ResNet

        block, layers = BLOCKS[name]
        self.width = WIDTHS[-1] * (4 if block == "bottleneck" else 1)
        layout: dict[str, Any] = {"spatial_dims": dimensions, "n_input_channels": channels, "conv1_t_stride": 2}
        if dimensions == 3 and name in ("resnet18", "resnet34"):  # as MedicalNet has them
            layout |= {"shortcut_type": "A", "bias_downsample": True}
        else:
            layout |= {"shortcut_type": "B", "bias_downsample": False}
        network = ResNet(block, list(layers), list(WIDTHS), feed_forward=False, **layout)
        self.conv1, self.bn1, self.act, self.maxpool = network.conv1, network.bn1, network.act, network.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            getattr(network, f"layer{stage}") for stage in range(1, 5)
        )
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Maps `(N, channels, ...)` to `(N, width, ...)` at a 32nd of the resolution."""
        maps = self.maxpool(self.act(self.bn1(self.conv1(images))))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            maps = stage(maps)
        features: Tensor = maps
        return features

    def train(self, mode: bool = True) -> Backbone:
        """Stays in evaluation mode, so that its BatchNorm takes no statistics of patients."""
        del mode
        return super().train(False)


class PretrainedVolume(nn.Module):
    """The features of each image of a volume, over all of it and, where it has a mask, over the tumour.

    Every image, as each phase, passes through the backbone by itself, normalised to a mean of 0 and a deviation of 1 as
    MedicalNet's images were.

    Args:
        kind: The volume.
        outputs: Width of its token.
        name: Of the backbone.
    """

    def __init__(self, kind: Volume, outputs: int, name: str) -> None:
        super().__init__()
        self.backbone = Backbone(name, 3, 1)
        self.tumour = kind.tumour
        width = self.backbone.width * (kind.shape[0] - kind.tumour) * (1 + kind.tumour)
        self.token = _token(width, outputs)

    def forward(self, volume: Tensor) -> Tensor:
        """Maps `(N, C, D, H, W)` to `(N, outputs)`."""
        images = volume[:, :-1] if self.tumour else volume
        inside = (volume[:, -1:] > 0).to(volume.dtype)
        everywhere = torch.ones_like(inside)
        regions = torch.cat([everywhere, inside], dim=1) if self.tumour else everywhere
        features = []
        for channel in range(images.shape[1]):
            maps = self.backbone(_standardised(images[:, channel : channel + 1]))
            features.append(masked_means(maps, regions, everywhere).flatten(1))
        token: Tensor = self.token(torch.cat(features, dim=1))
        return token


class PretrainedTiles(nn.Module):
    """A token for each tile, from its features.

    Args:
        outputs: Width of a token.
        name: Of the backbone.

    Example:
        >>> PretrainedTiles(128, "resnet10")(torch.zeros(2, 3, 4, 32, 32)).shape
        torch.Size([2, 4, 128])
    """

    def __init__(self, outputs: int, name: str) -> None:
        super().__init__()
        self.backbone = Backbone(name, 2, 3)
        self.token = _token(self.backbone.width, outputs)

    def forward(self, tiles: Tensor) -> Tensor:
        """Maps `(N, 3, T, H, W)`, colours from 0 to 1, to `(N, T, outputs)`."""
        mean, deviation = (_by_colour(numbers, tiles) for numbers in (IMAGENET_MEAN, IMAGENET_DEVIATION))
        images = ((tiles - mean) / deviation).transpose(1, 2)  # (N, T, 3, H, W)
        features = self.backbone(images.flatten(0, 1)).mean(dim=(2, 3)).unflatten(0, images.shape[:2])
        tokens: Tensor = self.token(features)
        return tokens


def _token(width: int, outputs: int) -> nn.Sequential:
    project = nn.Linear(width, outputs)
    nn.init.normal_(project.weight)  # the token's numbers are of the order of 1
    nn.init.zeros_(project.bias)
    return nn.Sequential(FixedStandardisation(width), project)


def _standardised(image: Tensor) -> Tensor:
    """An image `(N, 1, D, H, W)` of each patient with a mean of 0 and a deviation of 1; an empty one is 0."""
    axes = tuple(range(1, image.ndim))
    centred = image - image.mean(dim=axes, keepdim=True)
    return centred / centred.square().mean(dim=axes, keepdim=True).sqrt().clamp(min=1e-3)


def _by_colour(numbers: Sequence[float], tiles: Tensor) -> Tensor:
    return tiles.new_tensor(numbers).view(1, 3, 1, 1, 1)
