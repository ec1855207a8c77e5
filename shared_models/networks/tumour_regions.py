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
_MIN_FRACTION = 1e-6


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


class RegionGate(nn.Module):
    """How much each region of this patient counts, from the patient's own means; all alike at first.

    Args:
        regions: R.
        width: C of the means it reads.

    Example:
        >>> RegionGate(4, 128)(torch.zeros(2, 4, 128)).shape
        torch.Size([2, 4, 1])
    """

    def __init__(self, regions: int, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(regions * width, regions)
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)

    def forward(self, means: Tensor) -> Tensor:
        """Maps `(N, R, C)` to `(N, R, 1)`, a softmax times R, so that each starts at 1."""
        shares: Tensor = self.score(means.flatten(start_dim=1)).softmax(dim=1) * means.shape[1]
        return shares[:, :, None]


def masked_means(maps: Tensor, regions: Tensor, attention: Tensor) -> Tensor:
    """Mean of attention-weighted maps over each region, `(N, R, C)`; 0 where a region is empty.

    Regions and attention are multiplied before they are averaged over the maps' voxels: where the grids divide,
    the mean is that of the maps resampled to the fine grid, each of their voxels repeated.

    Args:
        maps: `(N, C, d, h, w)`.
        regions: `(N, R, D, H, W)` fractions.
        attention: `(N, 1, D, H, W)`.
    """
    weights = functional.adaptive_avg_pool3d(regions * attention, _grid(maps)).flatten(start_dim=2)
    weighted = torch.einsum("ncv,nrv->nrc", maps.flatten(start_dim=2), weights) / weights.shape[2]
    # The regions' size on the maps' grid: on the fine one it differs a little where the grids do not divide.
    size = functional.adaptive_avg_pool3d(regions, _grid(maps)).flatten(start_dim=2).mean(dim=2, keepdim=True)
    return weighted / size.clamp(min=_MIN_FRACTION)


def _grid(maps: Tensor) -> tuple[int, int, int]:
    depth, height, width = maps.shape[2:]
    return depth, height, width
