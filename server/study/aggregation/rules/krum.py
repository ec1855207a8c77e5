"""Mean of the updates without the `hostile-sites` that lie farthest from the others (Multi-Krum, Blanchard 2017)."""

from __future__ import annotations

from flwr.serverapp.strategy import MultiKrum

from server.study.aggregation.owners import aggregate_by_owners
from server.study.aggregation.rule import Needs, NoState, Round
from shared_models.messages import Arrays

NEEDS: Needs = "single updates"
State = NoState


def aggregate(this: Round, state: NoState) -> tuple[Arrays, NoState]:
    """Flower's MultiKrum over the owners of each group of parameters, weighted by patients (arXiv:1703.02757).

    Distances are within the group: whoever is far off in one encoder is left out of that encoder. Krum itself, which
    keeps one update, would join one site's encoder to another's head; the mean of several keeps them together.
    """
    hostile = this.config.hostile_sites

    def strategy_for(owners: int) -> MultiKrum:
        return MultiKrum(num_malicious_nodes=hostile, num_nodes_to_select=max(1, owners - hostile))

    return aggregate_by_owners(this.updates, this.model, strategy_for, 2 * hostile + 3), state
