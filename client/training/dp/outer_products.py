"""Per-sample gradients of a matrix as outer products, which are clipped and summed without making the gradients.

A layer's gradient of one patient is the sum, over the places where its weight was used, of a slope times an input. In a
large layer with few places these two are far smaller than their product, and both its norm and a weighted sum over
patients follow from them: Goodfellow 2015 (arXiv:1510.01799) for linear layers, Bu 2022 (arXiv:2205.10683) for
convolutions. Unlike ghost clipping this takes no second backward pass, and all is added in 64 bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

MAX_PRODUCTS = 8  # of a patient, above which making the gradient is faster
MIN_WEIGHTS = 1 << 12  # of a layer, below which there is nothing to save
EPSILON = 2.0**-53


@dataclass(frozen=True)
class OuterProducts:
    """The gradients `(N, O, J)` of a matrix, each the sum of L products of a slope and an input.

    Attributes:
        slopes: `(N, L, O)`.
        inputs: `(N, L, J)`.
    """

    slopes: Tensor
    inputs: Tensor

    def __len__(self) -> int:
        return len(self.slopes)

    @property
    def width(self) -> int:
        """How many numbers a gradient has."""
        return self.slopes.shape[2] * self.inputs.shape[2]

    def joined(self, other: OuterProducts) -> OuterProducts:
        """The sum, of a layer that is used twice."""
        pairs = (self.slopes, other.slopes), (self.inputs, other.inputs)
        return OuterProducts(*(torch.cat(pair, dim=1) for pair in pairs))

    def made(self) -> Tensor:
        """The gradients themselves, `(N, O J)`."""
        return torch.bmm(self.slopes.transpose(1, 2), self.inputs).flatten(1)

    def double(self) -> OuterProducts:
        """In 64 bits."""
        return OuterProducts(self.slopes.double(), self.inputs.double())

    def only(self, chosen: Tensor) -> OuterProducts:
        """The same with zeros for the patients outside of `chosen`, `(N,)`."""
        return OuterProducts(*(torch.where(chosen[:, None, None], part, 0.0) for part in (self.slopes, self.inputs)))

    def squared_norms(self) -> Tensor:
        """`(N,)`, never too small: what products that cancel lose by rounding is added."""
        slopes, inputs = (torch.bmm(part, part.transpose(1, 2)) for part in (self.slopes, self.inputs))  # (N, L, L)
        lengths = (slopes.diagonal(dim1=1, dim2=2) * inputs.diagonal(dim1=1, dim2=2)).sqrt().sum(dim=1)
        additions = self.slopes.shape[2] + self.inputs.shape[2] + self.slopes.shape[1] ** 2
        return (slopes * inputs).sum(dim=(1, 2)) + EPSILON * additions * lengths.square()

    def sum_by(self, shares: Tensor, out: Tensor) -> None:
        """The sum over patients of a share `(N,)` of each gradient, to `out`, `(O J,)`."""
        rows = (self.slopes * shares[:, None, None]).flatten(0, 1)  # (N L, O)
        torch.mm(rows.T, self.inputs.flatten(0, 1), out=out.view(rows.shape[1], -1))


def pays(products: int, weights: int) -> bool:
    """Whether a layer's gradients are better left as products of each patient, by the layer alone.

    Were it by the batch, one more patient would change how the others' gradients are rounded.
    """
    return products <= MAX_PRODUCTS and weights >= MIN_WEIGHTS
