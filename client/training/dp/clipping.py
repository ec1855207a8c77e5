"""Clipping of per-sample gradients to a norm, and their sum: what bounds how far a patient moves a step.

Opacus clips, too, but a gradient that is no number times 0 is no number: one patient's then shows in the sum, whatever
the noise. And it adds in 32 bits, whose rounding is another few millionths of the clipping norm.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

MARGIN = 1e-6  # what norms and sums may be off by rounding, in parts of the clipping norm
CHUNK = 1 << 14  # numbers of a patient at a time


def clip_and_sum(gradients: Sequence[Tensor], clip_norm: float) -> Tensor:
    """The clipped sum `(P,)` in float64 of gradients, `(N, p)` by parameter; N may be 0.

    A patient whose gradient is not finite, or too large to have a norm, counts as a gradient of zero.
    """
    norms = torch.stack([_squared_norms(part) for part in gradients]).sum(dim=0).sqrt()  # (N,)
    finite = norms.isfinite()
    shares = torch.where(finite, ((1.0 - MARGIN) * clip_norm / norms).clamp(max=1.0), 0.0)
    if not bool(finite.all()):
        gradients = [torch.where(finite[:, None], part, 0.0) for part in gradients]
    return torch.cat([_weighted_sum(shares, part) for part in gradients])


def _squared_norms(part: Tensor) -> Tensor:
    """`(N,)` in float64: by blocks of 32-bit sums, none so long that it loses digits."""
    whole = part.shape[1] - part.shape[1] % CHUNK
    blocks = torch.linalg.vector_norm(part[:, :whole].unflatten(1, (-1, CHUNK)), dim=2).double()
    rest = torch.linalg.vector_norm(part[:, whole:], dim=1).double()
    return blocks.square().sum(dim=1) + rest.square()


def _weighted_sum(shares: Tensor, part: Tensor) -> Tensor:
    """`(p,)` in float64."""
    return torch.cat([shares @ block.double() for block in part.split(CHUNK, dim=1)])
