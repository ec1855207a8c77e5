"""Encoders of a bag of histology tiles: one token a tile, in no order."""

from __future__ import annotations

import torch
from torch import Tensor, nn


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
    """Tokens of the tiles' pixels, from three convolutions within each tile.

    The tiles of a patient lie along the depth of one volume and the kernels have depth 1: with tiles in the batch,
    private training would clip and protect a tile instead of a patient. GroupNorm sees all tiles of one patient, so
    that a pale tile stays pale beside the others.

    Example:
        >>> RawTiles(3, 128)(torch.zeros(5, 3, 16, 64, 64)).shape
        torch.Size([5, 16, 128])
    """

    def __init__(self, channels: int, outputs: int, widths: tuple[int, ...] = (16, 32, 64)) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        for before, after in zip((channels, *widths), widths, strict=False):
            # Pooling, not strides: see VolumeEncoder.
            stages += [nn.AvgPool3d((1, 2, 2)), nn.Conv3d(before, after, (1, 3, 3), padding=(0, 1, 1))]
            stages += [nn.GroupNorm(min(8, after), after), nn.ReLU()]
        self.stages = nn.Sequential(*stages)
        self.project = nn.Linear(2 * widths[-1], outputs)

    def forward(self, tiles: Tensor) -> Tensor:
        """Maps `(N, C, T, H, W)` to `(N, T, outputs)`."""
        maps = self.stages(tiles).flatten(start_dim=3)
        pooled = torch.cat([maps.mean(dim=3), maps.amax(dim=3)], dim=1)
        tokens: Tensor = self.project(pooled.transpose(1, 2))
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
