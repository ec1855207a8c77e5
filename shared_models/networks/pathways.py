"""Encoder of a table of genes as tokens."""

from __future__ import annotations

from torch import Tensor, nn


class Pathways(nn.Module):
    """Sums genes into learned pathways, each a token.

    Genes grouped into a few tokens are what attention can relate to tiles (MCAT: Chen 2021,
    10.1109/ICCV48922.2021.00398); the groups are learned, because a study may bring any list of genes. Every pathway
    has a few numbers only, so that 600 genes stay small; one layer makes all of them as wide as a tile's token. They
    are sums and nothing else: with a ReLU here some hundred patients are learned by heart before what their genes and
    their tiles say together.

    Example:
        >>> import torch
        >>> Pathways(1290, 128)(torch.zeros(5, 1290)).shape
        torch.Size([5, 16, 128])
    """

    def __init__(self, width: int, outputs: int, pathways: int = 16, rank: int = 16) -> None:
        super().__init__()
        self.pathways = pathways
        self.rank = rank
        self.activity = nn.Linear(width, pathways * rank)
        self.widen = nn.Linear(rank, outputs)

    def forward(self, table: Tensor) -> Tensor:
        """Maps `(N, width)` to `(N, pathways, outputs)`."""
        activity = self.activity(table).unflatten(1, (self.pathways, self.rank))
        tokens: Tensor = self.widen(activity)
        return tokens
