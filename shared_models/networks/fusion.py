"""Fusion of modalities, any of which a patient or a site may lack."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Tokens(nn.Module):
    """One token a modality: its encoder's output, or a learned token where the patient lacks the modality.

    Every encoder runs on every row, on zeros where the modality is absent, and the mask chooses afterwards:
    running it on a subset of rows would give Opacus wrong per-sample gradients. The learned token is an
    Embedding because a bare Parameter in a module of several inputs has no per-sample gradient.

    Attributes:
        encoders: `encoders.NAME` holds the parameters that only sites with that modality train.
    """

    def __init__(self, encoders: Mapping[str, nn.Module], width: int) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(encoders)
        self.absent = nn.Embedding(len(encoders), width)
        nn.init.zeros_(self.absent.weight)

    def forward(self, inputs: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """Tokens `(N, M, width)` of inputs `{name: (N, ...)}` and presence `(N, M)`."""
        rows = torch.arange(present.shape[1], device=present.device).expand(present.shape)
        absent = self.absent(rows)
        tokens = []
        for index, (name, encoder) in enumerate(self.encoders.items()):
            available = present[:, index] > 0
            encoded = encoder(_mask_missing(available, inputs[name]))
            tokens.append(torch.where(available[:, None], encoded, absent[:, index]))
        return torch.stack(tokens, dim=1)


class TokenSets(nn.Module):
    """Several tokens a modality: its encoder's, or learned ones where the patient lacks the modality.

    As `Tokens` in all else. The learned tokens of a modality differ from each other, or attention to them could
    learn nothing.

    Attributes:
        encoders: `encoders.NAME` maps its input to `(N, T, width)`.
    """

    def __init__(self, encoders: Mapping[str, nn.Module], counts: Mapping[str, int], width: int) -> None:
        super().__init__()
        self.counts = [counts[name] for name in encoders]
        self.encoders = nn.ModuleDict(encoders)
        self.absent = nn.Embedding(sum(self.counts), width)
        nn.init.normal_(self.absent.weight, std=0.02)

    def forward(self, inputs: Mapping[str, Tensor], present: Tensor) -> dict[str, Tensor]:
        """Tokens `{name: (N, T, width)}` of inputs `{name: (N, ...)}` and presence `(N, M)`."""
        # not `len`, which an export takes for a constant
        rows = torch.arange(sum(self.counts), device=present.device).expand(present.shape[0], -1)
        absent = self.absent(rows).split(self.counts, dim=1)
        tokens = {}
        for index, (name, encoder) in enumerate(self.encoders.items()):
            available = present[:, index] > 0
            encoded = encoder(_mask_missing(available, inputs[name]))
            tokens[name] = torch.where(available[:, None, None], encoded, absent[index])
        return tokens


def _mask_missing(available: Tensor, values: Tensor) -> Tensor:
    """`values` `(N, ...)` with zeros in the rows where `available` `(N,)` is false."""
    # where, not times: 0 * inf would be NaN
    return torch.where(available.view(-1, *[1] * (values.dim() - 1)), values, values.new_zeros(()))


class FusionHead(nn.Module):
    """Joins tokens by concatenation: a linear map beside a hidden layer; both start at zero."""

    def __init__(self, tokens: int, width: int, outputs: int, hidden_units: int = 32) -> None:
        super().__init__()
        self.linear = nn.Linear(tokens * width, outputs)
        self.hidden = nn.Linear(tokens * width, hidden_units)
        self.dropout = nn.Dropout(0.2)
        self.last = nn.Linear(hidden_units, outputs)
        for layer in (self.linear, self.last):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps `(N, M, width)` to `(N, outputs)`."""
        joined = tokens.flatten(start_dim=1)
        output: Tensor = self.linear(joined) + self.last(self.dropout(self.hidden(joined).relu()))
        return output


class ProductHead(nn.Module):
    """What two sides say together and neither alone: products of linear maps of both, and a linear map of these.

    Low-rank bilinear pooling (Kim 2017, arXiv:1610.04325), as Pathomic Fusion (Chen 2020, 10.1109/TMI.2020.3021387)
    multiplies what a slide and what genes say. A hidden layer of both side by side can represent as much, but of some
    hundred patients with modalities dropped it learns them by heart before it finds a product. It starts at zero.

    Args:
        first: Width of one side.
        second: Width of the other.
        outputs: How many numbers to predict.
        products: How many.

    Example:
        >>> ProductHead(256, 50, 1)(torch.zeros(5, 256), torch.zeros(5, 50)).shape
        torch.Size([5, 1])
    """

    def __init__(self, first: int, second: int, outputs: int, products: int = 64) -> None:
        super().__init__()
        self.first = nn.Linear(first, products)
        self.second = nn.Linear(second, products)
        self.last = nn.Linear(products, outputs, bias=False)
        nn.init.zeros_(self.last.weight)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Maps `(N, first)` and `(N, second)` to `(N, outputs)`."""
        output: Tensor = self.last(self.first(first) * self.second(second))
        return output


class OutputLines(nn.ModuleDict):
    """From a target's scores to its outputs by a line, whose bias is the base rate.

    The identity at first. One score for several outputs is the risk in each interval of a time to event: proportional
    odds (Tutz & Schmid 2016, 10.1007/978-3-319-28158-2), with one score to learn instead of one an interval.

    Args:
        targets: Outputs of each target.
        scores: Scores of each target.
    """

    def __init__(self, targets: Mapping[str, int], scores: Mapping[str, int]) -> None:
        super().__init__({name: nn.Linear(scores[name], count) for name, count in targets.items()})
        for name, layer in self.lines().items():
            (nn.init.eye_ if scores[name] == targets[name] else nn.init.ones_)(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Outputs `{target: (N, outputs)}` of scores `{target: (N, scores)}`."""
        return {name: line(scores[name]) for name, line in self.lines().items()}

    def lines(self) -> dict[str, nn.Linear]:
        """By target."""
        return {name: layer for name, layer in self.items() if isinstance(layer, nn.Linear)}


class LateFusion(nn.Module):
    """Late (decision-level) fusion: every modality gives log-odds of its own, and they add up.

    Baltrusaitis 2019 (arXiv:1705.09406, section 6) and, for medicine, Huang 2020 (10.1038/s41746-020-00341-z).
    Modalities never interact, so that what each contributes can be read off. Of tables without hidden units it is
    a logistic regression. A modality that a patient lacks contributes a learned constant.

    Args:
        encoders: Each maps its modality to `(N, sum of the targets' scores)`.
        targets: Outputs of each target.
        scores: Scores of each target; as many as outputs where there are none.

    Attributes:
        tokens: Each modality's scores.
        outputs: The line of each target.

    Example:
        >>> fusion = LateFusion({"clinical": nn.Linear(12, 2), "genomic": nn.Linear(8, 2)}, {"er": 1, "pr": 1})
        >>> inputs = {"clinical": torch.zeros(5, 12), "genomic": torch.zeros(5, 8)}
        >>> fusion(inputs, torch.ones(5, 2))["er"].shape
        torch.Size([5, 1])
    """

    def __init__(
        self, encoders: Mapping[str, nn.Module], targets: Mapping[str, int], scores: Mapping[str, int] | None = None
    ) -> None:
        super().__init__()
        self.scores = dict(scores or targets)
        self.tokens = Tokens(encoders, width=sum(self.scores.values()))
        self.outputs = OutputLines(targets, self.scores)

    def forward(self, inputs: Mapping[str, Tensor], present: Tensor) -> dict[str, Tensor]:
        """Outputs `{target: (N, outputs)}` of inputs `{name: (N, ...)}` and presence `(N, M)`."""
        summed = self.tokens(inputs, present).sum(dim=1).split(list(self.scores.values()), dim=1)
        outputs: dict[str, Tensor] = self.outputs(dict(zip(self.scores, summed, strict=True)))
        return outputs

    def output_layers(self) -> dict[str, nn.Linear]:
        """The layer of each target whose bias starts at the base rate."""
        return self.outputs.lines()
