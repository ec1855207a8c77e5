"""Multi-scale spatial attention."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class SpatialAttention(nn.Module):
    """One attention map from the maps of several scales, the finest first, as in Zeng 2026 (arXiv:2601.07001).

    At each scale a convolution of kernel 7 reads the mean and the maximum over channels and a sigmoid makes a
    weight of it (Woo 2018, CBAM, arXiv:1807.06521). The weights are resampled to the finest grid and averaged,
    which is their sum up to a constant, so that the result stays between 0 and 1. It starts at one half everywhere.
    Zeros beyond the edge tell a convolution where in the grid a voxel lies, and so about where in the tumour, which is
    in its middle: with maps continued beyond their edge instead, what shows in a tumour's end slices was read by an AUC
    of .74 in place of .99 (docs/phantoms.md).

    Example:
        >>> fine, coarse = torch.zeros(2, 32, 12, 24, 24), torch.zeros(2, 64, 6, 12, 12)
        >>> SpatialAttention(scales=2)([fine, coarse]).shape
        torch.Size([2, 1, 12, 24, 24])
    """

    def __init__(self, scales: int, kernel: int = 7) -> None:
        super().__init__()
        self.gates = nn.ModuleList(nn.Conv3d(2, 1, kernel, padding=kernel // 2) for _ in range(scales))
        for gate in self.gates:
            nn.init.zeros_(gate.weight)  # type: ignore[arg-type]
            nn.init.zeros_(gate.bias)  # type: ignore[arg-type]

    def forward(self, scales: Sequence[Tensor]) -> Tensor:
        """Weights `(N, 1, D, H, W)` of maps `(N, C_i, D_i, H_i, W_i)`, on the grid `(D, H, W)` of the first."""
        grid = scales[0].shape[2:]
        weights = []
        for gate, maps in zip(self.gates, scales, strict=True):
            summary = torch.stack([maps.mean(dim=1), maps.amax(dim=1)], dim=1)
            weight = gate(summary).sigmoid()
            weights.append(functional.interpolate(weight, size=grid, mode="trilinear", align_corners=False))
        return torch.stack(weights).mean(dim=0)
