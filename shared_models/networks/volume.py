"""Encoder of an image volume."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class VolumeEncoder(nn.Module):
    """Three 3D convolutions with GroupNorm at half resolution, then the mean and the maximum over space.

    GroupNorm, not BatchNorm: batch statistics mix patients (which breaks per-patient clipping) and sites (which
    breaks averaging; Hsieh 2020, arXiv:1910.00189). The maximum keeps a small lesion visible in a large field.
    Pooling, not strides: on a CPU the gradient of a strided 3D convolution takes up to ten times as long.

    Example:
        >>> VolumeEncoder(4, 32)(torch.zeros(2, 4, 32, 64, 64)).shape
        torch.Size([2, 32])
    """

    def __init__(self, channels: int, outputs: int, widths: tuple[int, ...] = (16, 32, 64)) -> None:
        super().__init__()
        stages: list[nn.Module] = [nn.AvgPool3d(2)]
        for before, after in zip((channels, *widths), widths, strict=False):
            stages += [nn.Conv3d(before, after, 3, padding=1), nn.GroupNorm(min(8, after), after), nn.ReLU()]
            stages += [nn.MaxPool3d(2)] if after != widths[-1] else []
        self.stages = nn.Sequential(*stages)
        self.project = nn.Linear(2 * widths[-1], outputs)

    def forward(self, volume: Tensor) -> Tensor:
        """Maps `(N, C, D, H, W)` to `(N, outputs)`."""
        maps = self.stages(volume).flatten(start_dim=2)
        encoded: Tensor = self.project(torch.cat([maps.mean(dim=2), maps.amax(dim=2)], dim=1))
        return encoded
