"""FedNova at a site: its change is divided by the steps it took (Wang 2020, arXiv:2007.07481).

Steps are counted as they are taken, with any optimizer, oversampling or Poisson sampling. In private training their
number depends on how many patients there are and not on their records, and the change has its noise already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from client.training.rule import OwnState
from shared_models.messages import Arrays
from shared_models.messages.fields import MAX_WEIGHT
from shared_models.trained_parts import trained_state


def check(received: Arrays, network: nn.Module) -> None:
    """Refuses any state: the rule remembers nothing.

    Raises:
        ValueError: If there is one.
    """
    del network
    if received:
        msg = "it holds the state of a rule, and fednova has none"
        raise ValueError(msg)


def begin(received: Arrays, network: nn.Module, own: OwnState) -> Steps:
    """A round, from the weights as they came."""
    del received, own
    return Steps(network, {name: value.detach().clone() for name, value in _floating(network).items()})


@dataclass
class Steps:
    """A round at this site.

    Attributes:
        network: It trains in place.
        start: Its weights before the round, by name.
        steps: How many were taken.
    """

    network: nn.Module
    start: Mapping[str, Tensor]
    steps: int = 0

    def correct(self, weights: Sequence[nn.Parameter]) -> None:
        """See `Half`; counts the step and leaves its gradients as they are."""
        del weights
        self.steps += 1

    def finish(self, server_round: int) -> Arrays:
        """See `Half`; the mean change of a step. The site remembers nothing."""
        del server_round
        now = _floating(self.network)
        mean = {name: (now[name].detach() - value) / max(self.steps, 1) for name, value in self.start.items()}
        return {n: torch.nan_to_num(value).clamp(-MAX_WEIGHT, MAX_WEIGHT).cpu().numpy() for n, value in mean.items()}


def _floating(network: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in trained_state(network).items() if value.is_floating_point()}
