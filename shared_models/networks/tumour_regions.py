"""Tumour core, rim and surrounding tissue, from the signed distance to the tumour's surface.

The three regions of Zeng 2026 (arXiv:2601.07001). The tissue just outside carries signal of its own
(Braman 2017, 10.1186/s13058-017-0846-1). Distances are in mm, positive inside the tumour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

REGIONS = ("core", "rim", "peritumoural")
ABOVE_MM = (2.5, -2.5, -6.5)

# A region of less than a millionth of the image, half a voxel of 48x96x96, counts as smaller than it is, down to none.
_SMALLEST_FRACTION = 1e-6


def tumour_regions(distance_mm: Tensor, spacing_mm: Sequence[float], above_mm: Sequence[float] = ABOVE_MM) -> Tensor:
    """How much of each voxel belongs to the core, the rim and the peritumoural tissue.

    A voxel that a border crosses belongs to both sides in part: coarse voxels would else misjudge thin regions.

    Args:
        distance_mm: `(N, 1, D, H, W)`, positive inside.
        spacing_mm: Voxel size along `(D, H, W)`.
        above_mm: The distance where each of R regions ends on its outer side, the innermost first.

    Returns:
        `(N, R, D, H, W)` fractions, by default in the order of `REGIONS`, whose sum is at most 1.
    """
    voxel = math.prod(spacing_mm) ** (1 / len(spacing_mm))
    inside = [(0.5 + (distance_mm - border) / voxel).clamp(0.0, 1.0) for border in above_mm]
    return torch.cat([inside[0], *(outer - inner for inner, outer in pairwise(inside))], dim=1)


class RegionAverages(nn.Module):
    """The mean of the maps of several scales in each region, times the region's learned share.

    The shares are a softmax, times the number of regions so that each starts at 1. They are an Embedding because
    a bare Parameter in a module of several inputs has no per-sample gradient under Opacus.

    Example:
        >>> maps = [torch.ones(2, 32, 12, 24, 24), torch.ones(2, 64, 6, 12, 12)]
        >>> regions, attention = torch.ones(2, 3, 48, 96, 96) / 3, torch.ones(2, 1, 12, 24, 24)
        >>> RegionAverages()(maps, regions, attention).shape
        torch.Size([2, 288])
    """

    def __init__(self, regions: int = len(REGIONS)) -> None:
        super().__init__()
        self.importance = nn.Embedding(1, regions)
        nn.init.zeros_(self.importance.weight)

    def shares(self, rows: int) -> Tensor:
        """`(rows, R)`, the same for every row."""
        row = torch.zeros(rows, dtype=torch.long, device=self.importance.weight.device)
        share: Tensor = self.importance(row).softmax(dim=1) * self.importance.embedding_dim
        return share

    def forward(self, scales: Sequence[Tensor], regions: Tensor, attention: Tensor) -> Tensor:
        """The regions' means side by side.

        Args:
            scales: Maps `(N, C_i, D_i, H_i, W_i)`, the finest first.
            regions: `(N, R, D, H, W)` fractions, on any grid at least as fine.
            attention: `(N, 1, D_0, H_0, W_0)` weights on the grid of the finest maps.

        Returns:
            `(N, R * sum of C_i)`.
        """
        fractions = functional.adaptive_avg_pool3d(regions, _grid(scales[0]))
        means = [masked_means(maps, fractions, attention) for maps in scales]
        shares = self.shares(regions.shape[0])
        return (shares[:, :, None] * torch.cat(means, dim=2)).flatten(start_dim=1)


def masked_means(maps: Tensor, regions: Tensor, attention: Tensor) -> Tensor:
    """Mean of attention-weighted maps over each region, `(N, R, C)`; 0 where a region is empty.

    Regions and attention are multiplied before they are averaged over the maps' voxels: where the grids divide,
    the mean is that of the maps brought to the fine grid, each of their voxels repeated.

    Args:
        maps: `(N, C, d, h, w)`.
        regions: `(N, R, D, H, W)` fractions.
        attention: `(N, 1, D, H, W)`.
    """
    weights = functional.adaptive_avg_pool3d(regions * attention, _grid(maps)).flatten(start_dim=2)
    weighted = torch.einsum("ncv,nrv->nrc", maps.flatten(start_dim=2), weights) / weights.shape[2]
    # The regions' size on the maps' grid: on the fine one it differs a little where the grids do not divide.
    size = functional.adaptive_avg_pool3d(regions, _grid(maps)).flatten(start_dim=2).mean(dim=2, keepdim=True)
    return weighted / size.clamp(min=_SMALLEST_FRACTION)


def _grid(maps: Tensor) -> tuple[int, int, int]:
    depth, height, width = maps.shape[2:]
    return depth, height, width


class ScaledDistance(nn.Module):
    """Brings the last channel, a distance in mm, to the order of 1: divided by 10 and kept within -3 to 3."""

    def forward(self, volume: Tensor) -> Tensor:
        """Maps `(N, C, D, H, W)` to the same shape."""
        return torch.cat([volume[:, :-1], (volume[:, -1:] / 10.0).clamp(-3.0, 3.0)], dim=1)
