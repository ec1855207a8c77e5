"""Clipping of per-sample gradients to a norm, and their sum: what bounds how far a patient moves a step.

Opacus clips, too, but a gradient that is no number times 0 is no number: one patient's then shows in the sum, whatever
the noise. And it adds in 32 bits, whose rounding is another few millionths of the clipping norm.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from client.training.dp.outer_products import OuterProducts

MARGIN = 1e-3
"""How far norms are held below the clipping norm, in parts of it, for what 32 bits round.

Another patient more in a batch makes kernels round the others' gradients otherwise: by some 1e-6 of their norm, and by
1e-3 in a network that has diverged (AdamW at a learning rate of 1). Such errors point anywhere, so that their sum over
N patients is sqrt(N) of one: at 1e-3 a batch may have 2,000 patients. Norms of ghost clipping, roots of sums of 32-bit
products, are off by as much at most.
"""
BLOCK = 1 << 12  # numbers whose squares are added in 32 bits: with more, the sum loses digits
CHUNK = 1 << 18  # numbers that are made 64 bits long at a time
Gradient = Tensor | OuterProducts  # `(N, p)` of a parameter


def clip_and_sum(gradients: Sequence[Gradient], clip_norm: float) -> Tensor:
    """The clipped sum `(P,)` in float64 of gradients, `(N, p)` by parameter; N may be 0.

    A patient whose gradient is not finite, or too large to have a norm, counts as a gradient of zero.
    """
    parts = _joined(gradients)
    norms = torch.stack([_squared_norms(part) for part in parts]).sum(dim=0).sqrt()  # (N,)
    finite = norms.isfinite()
    shares = torch.where(finite, ((1.0 - MARGIN) * clip_norm / norms).clamp(max=1.0), 0.0)
    if not bool(finite.all()):
        parts = [_only(part, finite) for part in parts]
    widths = [_width(part) for part in parts]
    total = shares.new_empty(sum(widths))
    for place, part in zip(torch.split(total, widths), parts, strict=True):
        _sum_by(shares, part, place)
    return total


def _joined(gradients: Sequence[Gradient]) -> list[Gradient]:
    """The same with neighbouring small parameters side by side: each operation takes its time, however small."""
    groups: list[list[Gradient]] = []
    room = 0
    for gradient in gradients:
        width = _width(gradient)
        if isinstance(gradient, OuterProducts) or width > room:
            groups.append([])
            room = 0 if isinstance(gradient, OuterProducts) else 4 * BLOCK
        groups[-1].append(gradient)
        room -= width
    return [_join(group) for group in groups]


def _join(group: Sequence[Gradient]) -> Gradient:
    tensors = [part for part in group if isinstance(part, Tensor)]
    if len(tensors) > 1:
        return torch.cat(tensors, dim=1)
    return group[0].double() if isinstance(group[0], OuterProducts) else group[0]


def _width(part: Gradient) -> int:
    return part.width if isinstance(part, OuterProducts) else part.shape[1]


def _only(part: Gradient, finite: Tensor) -> Gradient:
    return part.only(finite) if isinstance(part, OuterProducts) else torch.where(finite[:, None], part, 0.0)


def _squared_norms(part: Gradient) -> Tensor:
    """`(N,)` in float64."""
    if isinstance(part, OuterProducts):
        return part.squared_norms()
    whole = part.shape[1] - part.shape[1] % BLOCK
    squares = torch.linalg.vector_norm(part[:, whole:], dim=1).double().square()
    if whole:
        blocks = torch.linalg.vector_norm(part[:, :whole].reshape(len(part), whole // BLOCK, BLOCK), dim=2)
        squares += blocks.double().square().sum(dim=1)
    return squares


def _sum_by(shares: Tensor, part: Gradient, out: Tensor) -> None:
    """The sum over patients of a share `(N,)` of each gradient."""
    if isinstance(part, OuterProducts):
        part.sum_by(shares, out)
        return
    size = max(BLOCK, CHUNK // max(len(shares), 1))
    for place, chunk in zip(torch.split(out, size), torch.split(part, size, dim=1), strict=True):
        torch.mv(chunk.double().T, shares, out=place)
