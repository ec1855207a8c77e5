"""Dropout whose masks follow from the step and the patient alone, in place of torch's, in private training.

torch's masks come from one stream for the whole batch: who is missing changes everybody else's mask, and with it
everybody else's gradient. That moves a step by many clipping norms.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from client.training.dp.randomness import PatientDraws


class PatientDropout(nn.Module):
    """Dropout (Srivastava 2014) by the draws of the patients in a batch.

    Args:
        drop_prob: The chance that a number is dropped.

    Attributes:
        draws: Of the batch that comes next; see `use_draws`.
    """

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.drop_prob = drop_prob
        self.draws: PatientDraws | None = None

    def forward(self, values: Tensor) -> Tensor:
        """Maps `(N, ...)` to the same shape."""
        if not self.training or not self.drop_prob:
            return values
        if self.draws is None:
            msg = "private dropout was asked for masks before it was given a batch's draws"
            raise RuntimeError(msg)
        mask = self.draws.uniform(*values.shape[1:]).to(values.device) >= self.drop_prob
        return torch.where(mask, values / (1.0 - self.drop_prob), values.new_zeros(()))


def replace_dropout(model: nn.Module) -> None:
    """Puts `PatientDropout` in the place of every `nn.Dropout`; the names of the weights stay."""
    for parent in list(model.modules()):
        for name, layer in parent.named_children():
            if type(layer) is nn.Dropout:
                setattr(parent, name, PatientDropout(layer.p).train(layer.training))


def use_draws(model: nn.Module, draws: PatientDraws) -> None:
    """Gives the next batch's draws to every `PatientDropout`."""
    for layer in model.modules():
        if isinstance(layer, PatientDropout):
            layer.draws = draws


def current_draws(model: nn.Module) -> PatientDraws | None:
    """The draws that were given last; none in a network without dropout."""
    return next((layer.draws for layer in model.modules() if isinstance(layer, PatientDropout)), None)
