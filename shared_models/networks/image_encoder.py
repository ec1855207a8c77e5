"""Encoder of an image: every scale of a residual network, averaged over the image or over regions of its tumour."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_models.networks.resnet import WIDTHS, ResNet, halvings
from shared_models.networks.spatial_attention import SpatialAttention
from shared_models.networks.standardisation import FixedStandardisation
from shared_models.networks.tumour_regions import REGIONS, RegionGate, masked_means, tumour_regions
from shared_models.task import Volume


class ScalesToToken(nn.Module):
    """Every scale's numbers standardised by themselves, and one linear map of all of them.

    Every scale, because the grain of a tissue shows in the finest and a shape in the coarsest; each by itself, so that
    a few maps of one kind count as much as many of another.

    Args:
        regions: R.
        widths: C_i of each scale.
        outputs: Width of the token.
        gate: Whether regions count as much as the patient's own maps of the last scale say.
    """

    def __init__(self, regions: int, widths: Sequence[int], outputs: int, gate: bool = False) -> None:
        super().__init__()
        self.standardised = nn.ModuleList(FixedStandardisation(regions * width) for width in widths)
        self.gate = RegionGate(regions, widths[-1]) if gate else None
        self.project = nn.Linear(regions * sum(widths), outputs)
        nn.init.normal_(self.project.weight, std=len(widths) ** -0.5)  # the token's numbers are of the order of 1
        nn.init.zeros_(self.project.bias)

    def forward(self, means: Sequence[Tensor]) -> Tensor:
        """Maps `(N, R, C_i)` of each scale to `(N, outputs)`."""
        scales = [layer(mean.flatten(1)).view_as(mean) for layer, mean in zip(self.standardised, means, strict=True)]
        if self.gate is not None:
            shares = self.gate(scales[-1])
            scales = [scale * shares for scale in scales]
        token: Tensor = self.project(torch.cat([scale.flatten(1) for scale in scales], dim=1))
        return token


class ImageEncoder(nn.Module):
    """The means and maxima of every scale's maps over the image, and a linear map of them.

    Args:
        kind: The image.
        outputs: Width of its token.
        grid_mm: Of the first stage, whatever the study's voxels.
        widths: Channels of each stage.

    Example:
        >>> ImageEncoder(Volume((4, 16, 32, 32), (4.0, 2.0, 2.0)), 64, grid_mm=4.0)(torch.zeros(5, 4, 16, 32, 32)).shape
        torch.Size([5, 64])
    """

    def __init__(self, kind: Volume, outputs: int, grid_mm: float, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.backbone = ResNet(kind.shape[0], kind.tumour, widths, halvings(kind.spacing_mm, grid_mm))
        self.token = ScalesToToken(2, (*self.backbone.stem_widths, *widths), outputs)

    def forward(self, volume: Tensor) -> Tensor:
        """Maps `(N, C, D, H, W)` to `(N, outputs)`."""
        maps = [scale.flatten(start_dim=2) for scale in self.backbone(volume)]
        token: Tensor = self.token([torch.stack([scale.mean(dim=2), scale.amax(dim=2)], dim=1) for scale in maps])
        return token


class TumourEncoder(nn.Module):
    """The means of every scale's maps over the tumour's core, its rim, the tissue around and the image.

    Zeng 2026 (arXiv:2601.07001): a spatial attention says where in the maps of the stages to look, and a gate, from the
    patient's own means, how much each region counts; all alike at first.

    Args:
        kind: The image, whose last channel is the distance to the tumour's surface in mm.
        outputs: Width of its token.
        grid_mm: Of the first stage, whatever the study's voxels.
        widths: Channels of each stage.
        attention: Whether to have both.

    Attributes:
        spacing_mm: Voxel size along `(D, H, W)`.
    """

    def __init__(
        self,
        kind: Volume,
        outputs: int,
        grid_mm: float,
        widths: Sequence[int] = WIDTHS,
        attention: bool = True,
    ) -> None:
        super().__init__()
        self.spacing_mm = kind.spacing_mm
        self.backbone = ResNet(kind.shape[0], True, widths, halvings(kind.spacing_mm, grid_mm))
        self.attention = SpatialAttention(len(widths)) if attention else None
        self.token = ScalesToToken(len(REGIONS) + 1, (*self.backbone.stem_widths, *widths), outputs, gate=attention)

    def forward(self, volume: Tensor) -> Tensor:
        """Maps `(N, C, D, H, W)` to `(N, outputs)`."""
        scales = self.backbone(volume)
        first = len(self.backbone.stem_widths)
        tumour = tumour_regions(volume[:, -1:], self.spacing_mm)
        everywhere = torch.ones_like(tumour[:, :1])
        regions = torch.cat([tumour, everywhere], dim=1)
        means = [masked_means(maps, regions, everywhere) for maps in scales[:first]]
        regions = functional.adaptive_avg_pool3d(regions, scales[first].shape[2:])
        weights = regions[:, -1:] if self.attention is None else self.attention(scales[first:])
        means += [masked_means(maps, regions, weights) for maps in scales[first:]]
        token: Tensor = self.token(means)
        return token
