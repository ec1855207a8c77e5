"""Encoder of a tabular modality."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

KNOTS = (-1.5, -0.75, 0.0, 0.75, 1.5)
"""Where the hinges of a number lie, as z-scores."""


class TabularEncoder(nn.Module):
    """A linear map beside an optional hidden layer: wide and deep (Cheng 2016, arXiv:1606.07792).

    Clinical tables are small and their effects mostly additive; the linear path starts as the whole model and
    the deep path, whose last layer starts at zero, adds what the data support.

    Example:
        >>> import torch
        >>> TabularEncoder(12, 32, hidden_units=16)(torch.zeros(5, 12)).shape
        torch.Size([5, 32])
    """

    def __init__(self, width: int, outputs: int, hidden_units: int = 0) -> None:
        super().__init__()
        self.linear = nn.Linear(width, outputs)
        self.deep: nn.Module | None = None
        if hidden_units:
            last = nn.Linear(hidden_units, outputs)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            self.deep = nn.Sequential(nn.Linear(width, hidden_units), nn.ReLU(), nn.Dropout(0.2), last)

    def forward(self, table: Tensor) -> Tensor:
        """Maps `(N, width)` to `(N, outputs)`."""
        encoded: Tensor = self.linear(table)
        return encoded if self.deep is None else encoded + self.deep(table)


class Hinges(nn.Module):
    """Puts hinges of a table's numbers beside its columns: by how much a z-score is above each of `KNOTS`, or else 0.

    A weighted sum of hinges bends at every knot (linear splines, Friedman 1991, 10.1214/aos/1176347963). A layer after
    them says from its first steps on that middling values are worse than small and large ones, for which a column
    alone needs a whole network, and hundreds of steps.

    Example:
        >>> Hinges([0])(torch.tensor([[1.0, 7.0]]))
        tensor([[1.0000, 7.0000, 2.5000, 1.7500, 1.0000, 0.2500, 0.0000]])
    """

    knots: Tensor

    def __init__(self, numbers: Sequence[int]) -> None:
        super().__init__()
        self.numbers = list(numbers)
        self.register_buffer("knots", torch.tensor(KNOTS), persistent=False)  # constants: they need not travel

    def forward(self, table: Tensor) -> Tensor:
        """Maps `(N, width)` to `(N, width + len(numbers) * len(KNOTS))`."""
        above = (table[:, self.numbers, None] - self.knots).relu()
        return torch.cat([table, above.flatten(start_dim=1)], dim=1)


class Shrunk(nn.Module):
    """Divides a wide table of correlated columns by a constant.

    Where C standardised columns say nearly the same, a step of gradient descent moves their common score C times as
    far as that of one column, and the table alone would bound the learning rate of the whole network.
    """

    def __init__(self, divisor: float) -> None:
        super().__init__()
        self.divisor = divisor

    def forward(self, table: Tensor) -> Tensor:
        """Maps `(N, width)` to the same shape."""
        return table / self.divisor


def start_at_zero(encoder: nn.Module) -> nn.Module:
    """Sets the linear map that an encoder ends with to zero, so that a score starts as the base rate everywhere."""
    last = [layer for layer in encoder.modules() if isinstance(layer, TabularEncoder)]
    linear = last[-1].linear if last else [layer for layer in encoder.modules() if isinstance(layer, nn.Linear)][-1]
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return encoder
