"""Mean of the updates, parameter by parameter, without the `hostile-sites` lowest and highest (Yin 2018)."""

from __future__ import annotations

from flwr.serverapp.strategy import FedTrimmedAvg

from server.study.aggregation.owners import aggregate_by_owners
from server.study.aggregation.rule import Needs, NoState, Round
from shared_models.messages import Arrays

NEEDS: Needs = "single updates"
State = NoState


def aggregate(this: Round, state: NoState) -> tuple[Arrays, NoState]:
    """Flower's FedTrimmedAvg over the owners of each group of parameters, unweighted (arXiv:1803.01498).

    Of too few owners as many are cut as leave one or two.
    """
    hostile = this.config.hostile_sites

    def strategy_for(owners: int) -> FedTrimmedAvg:
        cut = min(hostile, (owners - 1) // 2)
        return FedTrimmedAvg(beta=(cut + 0.25) / owners)  # Flower cuts int(beta * owners)

    return aggregate_by_owners(this.updates, this.model, strategy_for, 2 * hostile + 1), state
