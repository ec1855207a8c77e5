"""Mean of the updates, weighted by patients (McMahan 2017, arXiv:1602.05629)."""

from __future__ import annotations

from flwr.serverapp.strategy import FedAvg

from server.study.aggregation.owners import aggregate_by_owners
from server.study.aggregation.rule import Needs, NoState, Round
from shared_models.messages import Arrays

NEEDS: Needs = "sums"
State = NoState


def aggregate(this: Round, state: NoState) -> tuple[Arrays, NoState]:
    """Flower's FedAvg over the owners of each group of parameters."""
    return aggregate_by_owners(this.updates, this.model, lambda _: FedAvg()), state
