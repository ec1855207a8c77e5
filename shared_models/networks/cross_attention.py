"""Cross-attention between two sets of tokens."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class CrossAttention(nn.Module):
    """Multi-head attention (Vaswani 2017, arXiv:1706.03762) of one set of tokens to another.

    Four plain Linear layers: nn.MultiheadAttention has no per-sample gradients, and with `batch_first` Opacus's own
    gives other outputs. The keys have no bias, because softmax cancels it.

    Example:
        >>> import torch
        >>> CrossAttention(32, heads=4)(torch.zeros(5, 10, 32), torch.zeros(5, 16, 32)).shape
        torch.Size([5, 10, 32])
    """

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.project = nn.Linear(width, width)

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        """What each of `tokens` `(N, T, width)` reads in `context` `(N, S, width)`, `(N, T, width)`."""
        query, key, value = (self._split(part) for part in (self.query(tokens), self.key(context), self.value(context)))
        read = functional.scaled_dot_product_attention(query, key, value)
        projected: Tensor = self.project(read.transpose(1, 2).flatten(start_dim=2))
        return projected

    def weights(self, tokens: Tensor, context: Tensor) -> Tensor:
        """How much each of `tokens` reads of each of `context`, `(N, heads, T, S)`; over S they sum to 1."""
        query, key = self._split(self.query(tokens)), self._split(self.key(context))
        return (query @ key.transpose(2, 3) / query.shape[3] ** 0.5).softmax(dim=3)

    def _split(self, tokens: Tensor) -> Tensor:
        """`(N, T, width)` as `(N, heads, T, width / heads)`."""
        rows, count, width = tokens.shape
        return tokens.view(rows, count, self.heads, width // self.heads).transpose(1, 2)


class MutualAttention(nn.Module):
    """Two sets of tokens that read each other at once, each added to what it was.

    As in co-attention (Lu 2019, arXiv:1908.02265), and in MCAT for slides and genes (Chen 2021,
    10.1109/ICCV48922.2021.00398), where only the genes read the slide.

    Example:
        >>> import torch
        >>> one, other = MutualAttention(32)(torch.zeros(5, 10, 32), torch.zeros(5, 16, 32))
        >>> one.shape, other.shape
        (torch.Size([5, 10, 32]), torch.Size([5, 16, 32]))
    """

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.first = CrossAttention(width, heads)
        self.second = CrossAttention(width, heads)

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Maps `(N, T, width)` and `(N, S, width)` to the same shapes."""
        return first + self.first(first, second), second + self.second(second, first)
