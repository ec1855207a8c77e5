"""Encoders of a bag of histology tiles: one token a tile, in no order."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from shared_models.networks.resnet import CENTRE, DEVIATION, spread_biases
from shared_models.networks.standardisation import FixedStandardisation


class TileFeatures(nn.Module):
    """Tokens of feature vectors that a pretrained network made of tiles, each brought to one scale first.

    Example:
        >>> TileFeatures(2048, 128)(torch.zeros(5, 50, 2048)).shape
        torch.Size([5, 50, 128])
    """

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, outputs), nn.ReLU())

    def forward(self, features: Tensor) -> Tensor:
        """Maps `(N, T, width)` to `(N, T, outputs)`."""
        tokens: Tensor = self.layers(features)
        return tokens


class RawTiles(nn.Module):
    """Tokens of the tiles' pixels, from the means and maxima of three convolutions within each tile.

    The tiles of a patient lie along the depth of one volume and the kernels have depth 1: with tiles in the batch,
    private training would clip and protect a tile instead of a patient. GroupNorm sees all tiles of one patient, so
    that a pale tile stays pale beside the others; the first convolution has none, as the stem of `ResNet`.

    Example:
        >>> RawTiles(3, 128)(torch.zeros(5, 3, 16, 64, 64)).shape
        torch.Size([5, 16, 128])
    """

    def __init__(self, channels: int, outputs: int, widths: tuple[int, ...] = (16, 32, 64)) -> None:
        super().__init__()
        first = spread_biases(nn.Conv3d(channels, widths[0], (1, 3, 3), padding=(0, 1, 1)), 1.0)
        self.stages = nn.ModuleList([nn.Sequential(first, nn.ReLU())])
        for before, after in pairwise(widths):
            # Pooling, not strides: a strided convolution's own gradient takes a CPU up to ten times as long.
            layers = (nn.MaxPool3d((1, 2, 2)), nn.Conv3d(before, after, (1, 3, 3), padding=(0, 1, 1)))
            self.stages.append(nn.Sequential(*layers, nn.GroupNorm(min(8, after), after), nn.ReLU()))
        self.standardised = nn.ModuleList(FixedStandardisation(2 * width) for width in widths)
        self.project = nn.Linear(2 * sum(widths), outputs)
        nn.init.normal_(self.project.weight, std=len(widths) ** -0.5)

    def forward(self, tiles: Tensor) -> Tensor:
        """Maps `(N, C, T, H, W)` to `(N, T, outputs)`."""
        maps, scales = (tiles - CENTRE) / DEVIATION, []
        for stage, standardise in zip(self.stages, self.standardised, strict=True):
            maps = stage(maps)
            pixels = maps.flatten(start_dim=3)
            pooled = torch.cat([pixels.mean(dim=3), pixels.amax(dim=3)], dim=1)
            scales.append(standardise(pooled.transpose(1, 2)))
        tokens: Tensor = self.project(torch.cat(scales, dim=2))
        return tokens


class MeanOfTokens(nn.Module):
    """The mean over tokens: the same in whatever order they come.

    Example:
        >>> MeanOfTokens()(torch.zeros(5, 50, 128)).shape
        torch.Size([5, 128])
    """

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps `(N, T, width)` to `(N, width)`."""
        return tokens.mean(dim=1)
