"""Plain reference networks: what any phantom should be readable by, trained on pooled arrays without a federation.

Images go through three convolutions with GroupNorm, ReLU and MaxPool, then their mean and maximum over space; tables
through one hidden layer; both are joined by one hidden layer. AdamW with a learning rate of .001, and nothing tuned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

Floats = NDArray[np.float32]
Inputs = Mapping[str, Floats]

WIDTHS = (16, 32, 64)
LEARNING_RATE = 1e-3
BATCH = 8


def _image_encoder(channels: int, shape: tuple[int, ...], tiles: bool) -> nn.Sequential:
    """Three convolutions; over tiles `(T, H, W)` they stay within each, for tiles in a row are no neighbours."""
    layers: list[nn.Module] = []
    kernel, padding = ((1, 3, 3), (0, 1, 1)) if tiles else ((3, 3, 3), (1, 1, 1))
    for width in WIDTHS:
        # a side that is used up is halved no further
        halved = tuple(2 if side > 2 and size > 1 else 1 for side, size in zip(shape, kernel, strict=True))
        layers += [nn.Conv3d(channels, width, kernel, padding=padding), nn.GroupNorm(8, width), nn.ReLU()]
        layers += [nn.MaxPool3d(halved)]
        channels, shape = width, tuple(side // half for side, half in zip(shape, halved, strict=True))
    return nn.Sequential(*layers)


class PlainNetwork(nn.Module):
    """A CNN for each image, an MLP for each table, and an MLP of both where there are several.

    Args:
        shapes: Modality to its shape without the patients: `(C, D, H, W)` or `(width,)`.
        outputs: How many numbers to predict.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], outputs: int) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(
            {
                name: _image_encoder(shape[0], shape[1:], name == "tiles")
                if len(shape) == 4
                else nn.Sequential(nn.Linear(shape[0], 64), nn.ReLU())
                for name, shape in shapes.items()
            }
        )
        width = sum(2 * WIDTHS[-1] if len(shape) == 4 else 64 for shape in shapes.values())
        only_images = all(len(shape) == 4 for shape in shapes.values())
        hidden = nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, outputs))
        self.head = nn.Linear(width, outputs) if only_images else hidden

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Numbers `(N, outputs)` of each modality's `(N, ...)`."""
        parts = []
        for name, encoder in self.encoders.items():
            encoded = encoder(inputs[name])
            if encoded.ndim == 5:
                encoded = torch.cat([encoded.mean(dim=(2, 3, 4)), encoded.amax(dim=(2, 3, 4))], dim=1)
            parts.append(encoded)
        return self.head(torch.cat(parts, dim=1))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Standardised:
    """Inputs with every channel of every image of mean 0 and variance 1 over the training patients."""

    means: Mapping[str, Floats]
    scales: Mapping[str, Floats]

    @classmethod
    def of(cls, inputs: Inputs) -> Standardised:
        """The means and deviations of `inputs`."""
        means = {n: a.mean(axis=(0, *range(2, a.ndim)), keepdims=True) for n, a in inputs.items()}
        scales = {n: np.maximum(a.std(axis=(0, *range(2, a.ndim)), keepdims=True), 1e-6) for n, a in inputs.items()}
        return cls(means, scales)

    def __call__(self, inputs: Inputs) -> dict[str, Tensor]:
        """Tensors of `inputs`."""
        return {n: torch.from_numpy((a - self.means[n]) / self.scales[n]).float() for n, a in inputs.items()}


def train_plain(inputs: Inputs, labels: Floats, numbers: tuple[int, ...] = (), epochs: int = 16, seed: int = 0) -> Fit:
    """Trains a plain network.

    Args:
        inputs: Modality to `(N, ...)`.
        labels: `(N, T)`: 0 and 1, or numbers; NaN where unknown.
        numbers: Which of the T are numbers; their loss is the squared error of the z-score.
        epochs: Over all rows.
        seed: Of the initial weights and the order of the rows.
    """
    torch.manual_seed(seed)
    standardise = Standardised.of(inputs)
    tensors, target = standardise(inputs), torch.from_numpy(labels.copy()).float()
    known = ~target.isnan()
    for position in numbers:
        values = target[known[:, position], position]
        target[:, position] = (target[:, position] - values.mean()) / values.std()
    target = target.nan_to_num()
    network = PlainNetwork({name: array.shape[1:] for name, array in inputs.items()}, labels.shape[1])
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE)
    is_number = torch.zeros(labels.shape[1], dtype=torch.bool)
    is_number[list(numbers)] = True
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(target)), BATCH):
            output = network({name: tensor[rows] for name, tensor in tensors.items()})
            squared = functional.mse_loss(output, target[rows], reduction="none")
            entropy = functional.binary_cross_entropy_with_logits(output, target[rows].clamp(0, 1), reduction="none")
            optimizer.zero_grad()
            loss = torch.where(is_number, squared, entropy) * known[rows]
            loss.mean(dim=0).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return Fit(network, standardise)


@dataclass(frozen=True)
class Fit:
    """A trained plain network with the scales of its inputs."""

    network: PlainNetwork
    standardise: Standardised

    @torch.no_grad()
    def predict(self, inputs: Inputs) -> Floats:
        """Numbers `(N, T)`: logits, and z-scores of numbers."""
        self.network.eval()
        tensors = self.standardise(inputs)
        rows = len(next(iter(tensors.values())))
        parts = [
            self.network({name: tensor[start : start + 64] for name, tensor in tensors.items()})
            for start in range(0, rows, 64)
        ]
        return np.asarray(torch.cat(parts))
