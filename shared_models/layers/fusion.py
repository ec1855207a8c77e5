"""Fusion of modalities that a patient or a whole site may lack."""

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
            here = present[:, index] > 0
            # where, not times: 0 * inf would be NaN
            values = inputs[name]
            masked = torch.where(here.view(-1, *[1] * (values.dim() - 1)), values, values.new_zeros(()))
            tokens.append(torch.where(here[:, None], encoder(masked), absent[:, index]))
        return torch.stack(tokens, dim=1)


class FusionHead(nn.Module):
    """Joins tokens by concatenation: a linear map beside a hidden layer whose last layer starts at zero."""

    def __init__(self, tokens: int, width: int, outputs: int, hidden_units: int = 32) -> None:
        super().__init__()
        self.linear = nn.Linear(tokens * width, outputs)
        self.hidden = nn.Linear(tokens * width, hidden_units)
        self.dropout = nn.Dropout(0.2)
        self.last = nn.Linear(hidden_units, outputs)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps `(N, M, width)` to `(N, outputs)`."""
        joined = tokens.flatten(start_dim=1)
        output: Tensor = self.linear(joined) + self.last(self.dropout(self.hidden(joined).relu()))
        return output
