"""Median of the updates, parameter by parameter, whatever their patients (Yin 2018, arXiv:1803.01498)."""

from __future__ import annotations

from flwr.serverapp.strategy import FedMedian

from server.study.aggregation.owners import aggregate_by_owners
from server.study.aggregation.rule import Needs, NoState, Round
from shared_models.messages import Arrays

NEEDS: Needs = "single updates"
State = NoState
FEWEST_SITES = 3  # of two the median is the mean


def aggregate(this: Round, state: NoState) -> tuple[Arrays, NoState]:
    """Flower's FedMedian over the owners of each group of parameters; withstands fewer than half of them."""
    return aggregate_by_owners(this.updates, this.model, lambda _: FedMedian(), FEWEST_SITES), state
