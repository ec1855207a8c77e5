"""Encoders of a bag of histology tiles: one token a tile, in no order."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from shared_models.networks.resnet import spread_biases
from shared_models.networks.standardisation import FixedStandardisation

# Of the mean and of the deviation of a colour over a patient's stained tiles, as shares of white: about what they are,
# and how much they differ.
MEAN, MEAN_SPREAD = 0.7, 0.15
DEVIATION, DEVIATION_SPREAD = 0.15, 0.05
_MIN_DEVIATION = 0.01


def standardise_colours(tiles: Tensor) -> tuple[Tensor, Tensor]:
    """Each patient's tiles with every colour of mean 0 and deviation 1, and what these were.

    As Reinhard 2001 (10.1109/38.946629) brings one picture to another's colours. Laboratories stain and scan in their
    own way, which says nothing of the tumour; and whatever the stain, a network that has just been started sees tiles
    like the noise that its constants come from (`standardisation.py`). It takes no other patient's tiles.

    Args:
        tiles: `(N, C, T, H, W)`.

    Returns:
        Tiles `(N, C, T, H, W)`, and `(N, 2 C)` means and deviations of the colours, about 0 and of the order of 1.
    """
    mean = tiles.mean(dim=(2, 3, 4), keepdim=True)
    centred = tiles - mean
    deviation = centred.square().mean(dim=(2, 3, 4), keepdim=True).sqrt().clamp(min=_MIN_DEVIATION)
    colours = [(mean - MEAN) / MEAN_SPREAD, (deviation - DEVIATION) / DEVIATION_SPREAD]
    return centred / deviation, torch.cat(colours, dim=1).flatten(start_dim=1)


class TileFeatures(nn.Module):
    """Tokens of feature vectors that a pretrained network made of tiles, each normalised to one scale first.

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
    private training would clip and protect a tile instead of a patient. Colours are standardised, and GroupNorm sees,
    all tiles of one patient, so that a pale tile stays pale beside the others; the first convolution has no norm, as
    the stem of `ResNet`. How pale the patient's tiles are altogether comes beside, by a linear map that starts at zero.

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
        self.colours = nn.Linear(2 * channels, outputs, bias=False)
        nn.init.zeros_(self.colours.weight)

    def forward(self, tiles: Tensor) -> Tensor:
        """Maps `(N, C, T, H, W)` to `(N, T, outputs)`."""
        maps, colours = standardise_colours(tiles)
        scales = []
        for stage, standardise in zip(self.stages, self.standardised, strict=True):
            maps = stage(maps)
            pixels = maps.flatten(start_dim=3)
            pooled = torch.cat([pixels.mean(dim=3), pixels.amax(dim=3)], dim=1)
            scales.append(standardise(pooled.transpose(1, 2)))
        tokens: Tensor = self.project(torch.cat(scales, dim=2)) + self.colours(colours)[:, None]
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
