"""Clipping of per-sample gradients to a norm, and their sum: what bounds how far a patient moves a step.

Opacus clips, too, but a gradient that is no number times 0 is no number: one patient's then shows in the sum, whatever
the noise. And it adds in 32 bits, whose rounding is another few millionths of the clipping norm.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

MARGIN = 1e-5  # what gradients, norms and sums may be off by rounding, in parts of the clipping norm
BLOCK = 1 << 12  # numbers whose squares are added in 32 bits: with more, the sum loses digits
CHUNK = 1 << 18  # numbers that are made 64 bits long at a time


def clip_and_sum(gradients: Sequence[Tensor], clip_norm: float) -> Tensor:
    """The clipped sum `(P,)` in float64 of gradients, `(N, p)` by parameter; N may be 0.

    A patient whose gradient is not finite, or too large to have a norm, counts as a gradient of zero.
    """
    parts = _joined(gradients)
    norms = torch.stack([_squared_norms(part) for part in parts]).sum(dim=0).sqrt()  # (N,)
    finite = norms.isfinite()
    shares = torch.where(finite, ((1.0 - MARGIN) * clip_norm / norms).clamp(max=1.0), 0.0)
    if not bool(finite.all()):
        parts = [torch.where(finite[:, None], part, 0.0) for part in parts]
    size = max(BLOCK, CHUNK // max(len(shares), 1))
    total = shares.new_empty(sum(part.shape[1] for part in parts))
    chunks = [chunk for part in parts for chunk in torch.split(part, size, dim=1)]
    for place, chunk in zip(torch.split(total, [chunk.shape[1] for chunk in chunks]), chunks, strict=True):
        torch.mv(chunk.double().T, shares, out=place)
    return total


def _joined(gradients: Sequence[Tensor]) -> list[Tensor]:
    """The same with neighbouring small parameters side by side: each operation takes its time, however small."""
    groups: list[list[Tensor]] = []
    for gradient in gradients:
        if not groups or sum(part.shape[1] for part in groups[-1]) + gradient.shape[1] > 4 * BLOCK:
            groups.append([])
        groups[-1].append(gradient)
    return [torch.cat(group, dim=1) if len(group) > 1 else group[0] for group in groups]


def _squared_norms(part: Tensor) -> Tensor:
    """`(N,)` in float64."""
    whole = part.shape[1] - part.shape[1] % BLOCK
    squares = torch.linalg.vector_norm(part[:, whole:], dim=1).double().square()
    if whole:
        blocks = torch.linalg.vector_norm(part[:, :whole].reshape(len(part), whole // BLOCK, BLOCK), dim=2)
        squares += blocks.double().square().sum(dim=1)
    return squares
