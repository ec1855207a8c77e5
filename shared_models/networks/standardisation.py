"""Standardisation of pooled image features by constants that no patient gives.

What a network that has just been started makes of any two patients is nearly the same: after GroupNorm and ReLU the
means of its maps over space have a common part many times as large as their differences. A step of training would move
all patients together by far more than it moves them apart. Batch statistics would mend that, but mix patients and
sites. So the features are centred and scaled by what made-up images give, once, before the first round: as LSUV does
with a batch of data (Mishkin 2016, arXiv:1511.06422), but with none of anybody's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_models.task import Bag, Table, Volume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared_models.task import Modality, Task

EXAMPLES = 16
_MIN_DEVIATION = 0.01
_MAX_RADIUS_MM, _MIN_RADIUS_MM = 20.0, 4.0


class FixedStandardisation(nn.Module):
    """Features minus a centre, over a deviation and over the square root of how many they are.

    The last makes a step of training move a sum of them as far as it moves one number, however many there are. Centre
    and deviation are constants that travel with the weights and that training leaves alone.

    Example:
        >>> FixedStandardisation(480)(torch.zeros(5, 480)).shape
        torch.Size([5, 480])
    """

    centre: Tensor
    deviation: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))

    def forward(self, features: Tensor) -> Tensor:
        """Maps `(..., width)` to the same shape."""
        return (features - self.centre) / self.deviation / self.centre.numel() ** 0.5

    def fit(self, features: Tensor) -> None:
        """Takes centre and deviation from examples `(..., width)`."""
        rows = features.reshape(-1, features.shape[-1])
        self.centre.copy_(rows.mean(dim=0))
        self.deviation.copy_(rows.std(dim=0).clamp(min=_MIN_DEVIATION))


@torch.no_grad()
def standardise_on_made_up_patients(model: nn.Module, task: Task) -> None:
    """Fits every `FixedStandardisation` of a fresh network of this task to made-up patients, one after the other."""
    seen: dict[FixedStandardisation, list[Tensor]] = {
        layer: [] for layer in model.modules() if isinstance(layer, FixedStandardisation)
    }
    if not seen:
        return
    hooks = [layer.register_forward_pre_hook(lambda layer, inputs: seen[layer].append(inputs[0])) for layer in seen]
    training = model.training
    model.eval()
    rng = torch.Generator().manual_seed(0)
    inputs = {name: _made_up(kind, rng) for name, kind in task.modalities.items()}
    for row in range(EXAMPLES):
        model({name: values[row : row + 1] for name, values in inputs.items()}, torch.ones(1, len(inputs)))
    for hook in hooks:
        hook.remove()
    for layer, features in seen.items():
        layer.fit(torch.cat(features))
    model.train(training)


def _made_up(kind: Modality, rng: torch.Generator) -> Tensor:
    """What `EXAMPLES` patients could bring, from noise alone: `(EXAMPLES, ...)`."""
    if isinstance(kind, Table):
        return torch.randn((EXAMPLES, kind.width), generator=rng)
    if isinstance(kind, Bag):
        return torch.randn((EXAMPLES, *kind.shape), generator=rng).relu()
    size = kind.shape[1:]
    noise = torch.cat([_noise((kind.shape[0], *size), rounds % 4, rng) for rounds in range(EXAMPLES)])
    images = 0.5 + 0.15 * noise
    if not kind.tumour:
        return images
    distance = _ball_distances(size, kind)
    images[:, :-1] += 0.5 * (distance > 0)
    images[:, -1:] = distance
    return images


def _noise(shape: tuple[int, ...], smoothings: int, rng: torch.Generator) -> Tensor:
    """White noise `(1, *shape)`, smoothed as often and brought back to a deviation of 1."""
    noise = torch.randn((1, *shape), generator=rng)
    window = [3 if size > 2 else 1 for size in shape[1:]]
    for _ in range(smoothings):
        noise = functional.avg_pool3d(noise, window, stride=1, padding=[size // 2 for size in window])
    return noise / noise.std()


def _ball_distances(size: Sequence[int], kind: Volume) -> Tensor:
    """Distance in mm to the surface of balls in the middle, `(EXAMPLES, 1, D, H, W)`, positive inside."""
    axes = [(torch.arange(n) - (n - 1) / 2) * step for n, step in zip(size, kind.spacing_mm, strict=True)]
    from_middle = torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(dim=0).sqrt()
    radius = torch.linspace(_MIN_RADIUS_MM, _MAX_RADIUS_MM, EXAMPLES)
    return radius.view(-1, 1, 1, 1, 1) - from_middle
