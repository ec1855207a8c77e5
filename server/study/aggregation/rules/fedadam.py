"""The mean of the updates as a gradient for Adam's step at the center (Reddi 2021, arXiv:2003.00295)."""

from __future__ import annotations

from flwr.serverapp.strategy import FedAdam

from server.study.aggregation.adaptive import Moments, adaptive_step
from server.study.aggregation.rule import Needs, Round
from shared_models.messages import Arrays

NEEDS: Needs = "sums"
State = Moments


def aggregate(this: Round, state: Moments) -> tuple[Arrays, Moments]:
    """Flower's FedAdam, with `server-learning-rate` and `server-tau`."""
    return adaptive_step(FedAdam, this, state)
