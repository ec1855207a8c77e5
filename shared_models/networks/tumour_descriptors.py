"""Seven descriptors of a tumour: brightness in shells about its surface, heterogeneity, size, irregularity.

What radiologists describe (BI-RADS) and radiomics measures (10.1158/0008-5472.CAN-17-0339), without parameters.
Each is a logarithm, and brightness enters by the ratio of neighbouring shells: brightness of the shells by itself
is four times nearly the same number, from which a hundred steps of gradient descent cannot learn a rim.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from shared_models.networks.tumour_regions import masked_means, tumour_regions

# Where core, rim, surface and surroundings end: voxels that are half tumour count to the surface, not to the rim.
SHELLS_ABOVE_MM = (3.0, 1.0, -1.0, -6.5)

# Centre and spread over patients of each descriptor, so that a step of training moves all of them alike.
_USUAL = {
    "core / rim": (0.0, 0.1),
    "rim / surface": (0.35, 0.1),
    "surface / surroundings": (0.4, 0.15),
    "surroundings": (-0.5, 0.15),
    "heterogeneity": (-1.5, 0.4),
    "size": (2.0, 0.4),
    "irregularity": (-1.8, 0.3),
}
DESCRIPTORS = tuple(_USUAL)
_FURTHEST = 10.0  # in spreads

_BRIGHTNESS = (0.01, 100.0)  # images are divided by their own 95th percentile
_LEAST_DEVIATION = 0.01
_LEAST_RADIUS_MM = 1.0
_NEIGHBOUR = 0.01  # of the next shell: it stands in for a shell that a tumour is too small to have


class DescriptorScores(nn.Module):
    """Linear scores of a tumour's descriptors; they start at zero.

    Normalisation layers forget how bright an image is, and a single phase says much by just that.

    Attributes:
        spacing_mm: Voxel size along `(D, H, W)`.
    """

    def __init__(self, spacing_mm: Sequence[float], outputs: int) -> None:
        super().__init__()
        self.spacing_mm = tuple(spacing_mm)
        self.linear = nn.Linear(len(DESCRIPTORS), outputs)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, volume: Tensor) -> Tensor:
        """Maps `(N, C, D, H, W)`, an image first and the distance in mm last, to `(N, outputs)`."""
        found = tumour_descriptors(volume[:, :1], volume[:, -1:], self.spacing_mm)
        centre, spread = found.new_tensor(list(_USUAL.values())).unbind(dim=1)
        scores: Tensor = self.linear(((found - centre) / spread).clamp(-_FURTHEST, _FURTHEST))
        return scores


def tumour_descriptors(image: Tensor, distance_mm: Tensor, spacing_mm: Sequence[float]) -> Tensor:
    """The descriptors `(N, 7)` of tumours in the middle of their images, in the order of `DESCRIPTORS`.

    Heterogeneity is the deviation from the mean within core and rim. Depth under the surface and distance from the
    middle add up to the radius, in a ball the same wherever they are taken: the sum's mean over the tumour is the
    size, in mm, and its deviation in parts of the size the irregularity.

    Args:
        image: `(N, 1, D, H, W)`.
        distance_mm: `(N, 1, D, H, W)` to the surface, positive inside.
        spacing_mm: Voxel size along `(D, H, W)`.
    """
    shells = tumour_regions(distance_mm, spacing_mm, SHELLS_ABOVE_MM)
    shells = shells + _NEIGHBOUR * shells.roll(-1, dims=1)
    tumour = shells[:, :2].sum(dim=1, keepdim=True)
    bounded = image.clamp(*_BRIGHTNESS)
    radius = distance_mm + _from_middle(image, spacing_mm)
    maps = torch.cat([bounded, bounded**2, radius, radius**2], dim=1)
    everywhere = torch.ones_like(image)
    mean, square, _, _ = masked_means(maps, shells, everywhere).unbind(dim=2)  # (N, 4)
    _, _, size, size_square = masked_means(maps, tumour, everywhere)[:, 0].unbind(dim=1)  # (N,)
    voxels = shells[:, :2].flatten(start_dim=2).sum(dim=2)
    within = ((square - mean**2)[:, :2] * voxels).sum(dim=1) / voxels.sum(dim=1).clamp(min=1e-6)
    core, rim, surface, surroundings = mean.clamp(min=_BRIGHTNESS[0]).log().unbind(dim=1)
    size_or_least = size.clamp(min=_LEAST_RADIUS_MM)
    parts = [
        core - rim,
        rim - surface,
        surface - surroundings,
        surroundings,
        _log_deviation(within),
        size_or_least.log(),
        _log_deviation((size_square - size**2) / size_or_least**2),
    ]
    return torch.stack(parts, dim=1)


def _log_deviation(variance: Tensor) -> Tensor:
    return 0.5 * variance.clamp(min=_LEAST_DEVIATION**2).log()


def _from_middle(image: Tensor, spacing_mm: Sequence[float]) -> Tensor:
    """Distance `(D, H, W)` in mm of each voxel from the image's middle."""
    axes = [
        (torch.arange(size, device=image.device) - (size - 1) / 2) * step
        for size, step in zip(image.shape[2:], spacing_mm, strict=True)
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(dim=0).sqrt()
