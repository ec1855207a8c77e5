"""Mean of the updates without the `hostile-sites` that lie farthest from the others (Multi-Krum, Blanchard 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from flwr.serverapp.strategy import FedAvg

from server.study.aggregation.clipping import products_of
from server.study.aggregation.guard import Update
from server.study.aggregation.owners import aggregate_by_owners
from server.study.aggregation.rule import Needs, NoState, Round
from shared_models.messages import Arrays

NEEDS: Needs = "single updates"
State = NoState


def aggregate(this: Round, state: NoState) -> tuple[Arrays, NoState]:
    """Flower's FedAvg over those owners of each group of parameters that Multi-Krum chooses (arXiv:1703.02757).

    Distances are within the group: whoever is far off in one encoder is left out of that encoder. Krum itself, which
    keeps one update, would join one site's encoder to another's head; the mean of several keeps them together.
    """
    hostile = this.config.hostile_sites

    def nearest(owners: Sequence[Update], names: Sequence[str]) -> Sequence[Update]:
        products = products_of(owners, this.model, names)
        squares = np.diag(products)
        distances = np.sort(squares[:, None] + squares - 2 * products, axis=1)
        scores = distances[:, 1 : 1 + max(1, len(owners) - hostile - 2)].sum(axis=1)  # the first is that to itself
        chosen = np.argsort(scores, kind="stable")[: max(1, len(owners) - hostile)]
        return [owners[index] for index in sorted(chosen)]

    return aggregate_by_owners(this.updates, this.model, lambda _: FedAvg(), 2 * hostile + 3, nearest), state
