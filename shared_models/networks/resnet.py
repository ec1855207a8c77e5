"""A 3D residual network of one block a stage (ResNet-10), for training with and without privacy.

He 2016 (arXiv:1512.03385), in 3D as in MedicalNet (Chen 2019, arXiv:1904.00625), with GroupNorm (Wu 2018,
arXiv:1803.08494) in place of BatchNorm. `x + y`, no in-place sum: Opacus needs the values of before.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

RESNET_10 = (32, 64, 128, 256)


def halvings(spacing_mm: Sequence[float], grid_mm: float) -> int:
    """How often the stem halves an image of this voxel size, so that the first stage works on about `grid_mm`.

    Example:
        >>> halvings((1.0, 1.0, 1.0), grid_mm=4.0), halvings((2.0, 2.0, 2.0), grid_mm=4.0)
        (2, 1)
    """
    spacing = math.prod(spacing_mm) ** (1 / len(spacing_mm))
    return max(0, round(math.log2(grid_mm / spacing)))


class ResidualBlock(nn.Module):
    """`relu(shortcut(x) + norm(conv(relu(norm(conv(x))))))`; the shortcut is a 1x1x1 convolution if widths differ.

    The last norm's scale starts at 0, so that each block starts as its shortcut (Goyal 2017, arXiv:1706.02677).
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        last = _group_norm(after)
        nn.init.zeros_(last.weight)
        self.residual = nn.Sequential(
            nn.Conv3d(before, after, 3, padding=1, bias=False),
            _group_norm(after),
            nn.ReLU(),
            nn.Conv3d(after, after, 3, padding=1, bias=False),
            last,
        )
        self.shortcut: nn.Module = nn.Identity()
        if before != after:
            self.shortcut = nn.Sequential(nn.Conv3d(before, after, 1, bias=False), _group_norm(after))

    def forward(self, maps: Tensor) -> Tensor:
        """Maps `(N, before, D, H, W)` to `(N, after, D, H, W)`."""
        output: Tensor = (self.shortcut(maps) + self.residual(maps)).relu()
        return output


class SpaceToDepth(nn.Module):
    """Moves each 2x2x2 block of voxels into channels: half the resolution, nothing lost (Shi 2016, arXiv:1609.05158).

    A convolution after it is one of stride 2, whose own gradient takes a CPU up to ten times as long.

    Example:
        >>> SpaceToDepth()(torch.zeros(2, 1, 48, 96, 96)).shape
        torch.Size([2, 8, 24, 48, 48])
    """

    def forward(self, volume: Tensor) -> Tensor:
        """Maps `(N, C, D, H, W)` to `(N, 8C, ceil(D / 2), ceil(H / 2), ceil(W / 2))`; an odd edge is repeated."""
        odd = [size % 2 for size in reversed(volume.shape[2:])]
        even = functional.pad(volume, [pad for size in odd for pad in (0, size)], mode="replicate")
        rows, channels, depth, height, width = even.shape
        blocks = even.view(rows, channels, depth // 2, 2, height // 2, 2, width // 2, 2)
        return blocks.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(rows, 8 * channels, depth // 2, height // 2, width // 2)


class HalvingMaximum(nn.Module):
    """The maximum of each 2x2x2 block, of what there is of it at an odd edge."""

    def forward(self, maps: Tensor) -> Tensor:
        """Maps `(N, C, D, H, W)` to `(N, C, ceil(D / 2), ceil(H / 2), ceil(W / 2))`."""
        return functional.max_pool3d(maps, _pairs(maps), ceil_mode=True)


class ResNet(nn.Module):
    """A stem and one residual block a stage, each stage at half the resolution of the one before.

    Args:
        channels: C of the volume.
        widths: Channels of each stage, at least 16 so that GroupNorm has two a group even for a single voxel.
        stem_halvings: 0, 1 or 2 halvings of the resolution before the first stage; see `halvings`.

    Example:
        >>> [tuple(maps.shape) for maps in ResNet(1)(torch.zeros(2, 1, 48, 96, 96))]
        [(2, 32, 12, 24, 24), (2, 64, 6, 12, 12), (2, 128, 3, 6, 6), (2, 256, 2, 3, 3)]
    """

    def __init__(self, channels: int, widths: Sequence[int] = RESNET_10, stem_halvings: int = 2) -> None:
        super().__init__()
        stem: list[nn.Module] = [SpaceToDepth()] if stem_halvings else []
        inputs = 8 * channels if stem_halvings else channels
        stem += [nn.Conv3d(inputs, widths[0], 3, padding=1, bias=False), _group_norm(widths[0])]
        # The maximum before ReLU is that after it, of an eighth of the voxels.
        stem += [HalvingMaximum() for _ in range(stem_halvings - 1)]
        self.stem = nn.Sequential(*stem, nn.ReLU())
        stages = [ResidualBlock(widths[0], widths[0])]
        stages += [ResidualBlock(before, after) for before, after in itertools.pairwise(widths)]
        self.stages = nn.ModuleList(stages)

    def forward(self, volume: Tensor) -> list[Tensor]:
        """Maps `(N, C, D, H, W)` to every stage's maps `(N, widths[i], ...)`, the finest first."""
        maps = self.stem(volume)
        scales: list[Tensor] = []
        for stage in self.stages:
            maps = stage(functional.avg_pool3d(maps, _pairs(maps), ceil_mode=True) if scales else maps)
            scales.append(maps)
        return scales


class ResNetEncoder(nn.Module):
    """A `ResNet`, the mean of every stage's maps over space, LayerNorm and a linear map.

    After GroupNorm the means differ little between patients; LayerNorm brings them to the order of 1, without which
    the first hundred steps go by before anything is learned.

    Example:
        >>> ResNetEncoder(ResNet(2, stem_halvings=1), 128, RESNET_10)(torch.zeros(3, 2, 32, 32, 32)).shape
        torch.Size([3, 128])
    """

    def __init__(self, backbone: ResNet, outputs: int, widths: Sequence[int] = RESNET_10) -> None:
        super().__init__()
        self.backbone = backbone
        self.project = nn.Sequential(nn.LayerNorm(sum(widths)), nn.Linear(sum(widths), outputs))

    def forward(self, volume: Tensor) -> Tensor:
        """Maps `(N, C, D, H, W)` to `(N, outputs)`."""
        means = [maps.flatten(start_dim=2).mean(dim=2) for maps in self.backbone(volume)]
        encoded: Tensor = self.project(torch.cat(means, dim=1))
        return encoded


def _pairs(maps: Tensor) -> list[int]:
    """Two voxels along each axis that has them: torch refuses to pool an axis of one."""
    return [min(2, size) for size in maps.shape[2:]]


def _group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(8, channels), channels)
