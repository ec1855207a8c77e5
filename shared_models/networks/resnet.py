"""A small 3D residual network that learns from some hundred patients, with and without privacy.

He 2016 (arXiv:1512.03385) in 3D, with GroupNorm (Wu 2018, arXiv:1803.08494) in place of BatchNorm, whose statistics mix
patients (which breaks per-patient clipping) and sites (which breaks averaging; Hsieh 2020, arXiv:1910.00189). One
convolution a block: with two, as ResNet-10 has, it fits the patients at hand before it finds what they share.
`x + y`, no in-place sum: Opacus needs the values of before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTHS = (32, 64, 128)
IMAGE_CHANNELS, DISTANCE_CHANNELS = 16, 8
# What an image that was divided by its own 95th percentile is about, and what its tissues differ by.
CENTRE, DEVIATION = 0.5, 0.25
_DISTANCE_MM, _FURTHEST = 10.0, 3.0


def halvings(spacing_mm: Sequence[float], grid_mm: float) -> int:
    """How often an image of this voxel size is halved after the stem, so that the first stage works on about `grid_mm`.

    At least once: a stage costs eight times as much on a grid twice as fine.

    Example:
        >>> halvings((1.0, 1.0, 1.0), grid_mm=4.0), halvings((3.0, 3.0, 3.0), grid_mm=4.0)
        (2, 1)
    """
    spacing = math.prod(spacing_mm) ** (1 / len(spacing_mm))
    return max(1, round(math.log2(grid_mm / spacing)))


class Stem(nn.Module):
    """A convolution of the image at full resolution and, where there is one, another of the distance to the tumour.

    Two, because in one the distance would drown a tumour's texture, or the image its shape. At full resolution, because
    the grain of a tissue is gone on a coarser one. No normalisation layer, which would forget how bright an image is;
    instead the biases are spread, so that the ReLUs' means over space tell how brightness and depth are distributed.

    Args:
        channels: C of the volume.
        distance: Whether its last channel is the distance to the tumour's surface in mm.
    """

    def __init__(self, channels: int, distance: bool) -> None:
        super().__init__()
        self.image = spread_biases(nn.Conv3d(channels - distance, IMAGE_CHANNELS, 3, padding=1), 1.0)
        self.distance = spread_biases(nn.Conv3d(1, DISTANCE_CHANNELS, 3, padding=1), 2.0) if distance else None

    def forward(self, volume: Tensor) -> list[Tensor]:
        """Maps `(N, C, D, H, W)` to maps of the image `(N, 16, D, H, W)` and of the distance `(N, 8, D, H, W)`."""
        if self.distance is None:
            return [self.image((volume - CENTRE) / DEVIATION).relu()]
        image, distance = volume[:, :-1], volume[:, -1:]
        near = (distance / _DISTANCE_MM).clamp(-_FURTHEST, _FURTHEST)
        return [self.image((image - CENTRE) / DEVIATION).relu(), self.distance(near).relu()]


class ResidualBlock(nn.Module):
    """`relu(norm(conv3(x)) + norm(conv1(x)))`."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(nn.Conv3d(before, after, 3, padding=1, bias=False), _group_norm(after))
        self.shortcut = nn.Sequential(nn.Conv3d(before, after, 1, bias=False), _group_norm(after))

    def forward(self, maps: Tensor) -> Tensor:
        """Maps `(N, before, D, H, W)` to `(N, after, D, H, W)`."""
        output: Tensor = (self.shortcut(maps) + self.residual(maps)).relu()
        return output


class ResNet(nn.Module):
    """A stem and one residual block a stage, each stage at half the resolution of the one before.

    Args:
        channels: C of the volume.
        distance: Whether its last channel is the distance to the tumour's surface in mm.
        widths: Channels of each stage, at least 16 so that GroupNorm has two a group even for a single voxel.
        stem_halvings: Of the resolution before the first stage; see `halvings`.

    Attributes:
        stem_widths: Channels of each of the stem's maps.

    Example:
        >>> [tuple(maps.shape) for maps in ResNet(2, distance=True)(torch.zeros(2, 2, 24, 32, 32))]
        [(2, 16, 24, 32, 32), (2, 8, 24, 32, 32), (2, 32, 12, 16, 16), (2, 64, 6, 8, 8), (2, 128, 3, 4, 4)]
    """

    def __init__(
        self, channels: int, distance: bool = False, widths: Sequence[int] = WIDTHS, stem_halvings: int = 1
    ) -> None:
        super().__init__()
        self.stem = Stem(channels, distance)
        self.stem_halvings = stem_halvings
        self.stem_widths = (IMAGE_CHANNELS, DISTANCE_CHANNELS)[: 1 + distance]
        sizes = (sum(self.stem_widths), *widths)
        self.stages = nn.ModuleList(ResidualBlock(before, after) for before, after in pairwise(sizes))

    def forward(self, volume: Tensor) -> list[Tensor]:
        """Maps `(N, C, D, H, W)` to the stem's maps and every stage's `(N, widths[i], ...)`, the finest first."""
        scales = self.stem(volume)
        maps = torch.cat(scales, dim=1)
        for _ in range(self.stem_halvings - 1):
            maps = _halve(maps)
        for stage in self.stages:
            maps = stage(_halve(maps))
            scales.append(maps)
        return scales


def _halve(maps: Tensor) -> Tensor:
    """The maximum of each 2x2x2 block, of what there is of it at an odd edge; an axis of one voxel stays.

    Pooling, not strides: on a CPU the gradient of a strided 3D convolution takes up to ten times as long.
    """
    return functional.max_pool3d(maps, [min(2, size) for size in maps.shape[2:]], ceil_mode=True)


def spread_biases(layer: nn.Conv3d, reach: float) -> nn.Conv3d:
    """Starts a convolution that no normalisation follows: biases from `-reach` to `reach`."""
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.uniform_(layer.bias, -reach, reach)
    return layer


def _group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(8, channels), channels)
