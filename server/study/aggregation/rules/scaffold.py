"""Mean of the updates; control variates keep each site's steps from drifting (SCAFFOLD, Karimireddy 2020).

Algorithm 1 of arXiv:1910.06378 with option II and a step size of 1 at the center. Sites weigh by their patients, in the
mean control variate, too, so that the network is that of the pooled patients. The site's half is
`client/training/rules/scaffold.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from flwr.serverapp.strategy import FedAvg

from server.study.aggregation.guard import floating
from server.study.aggregation.owners import aggregate_by_owners
from server.study.aggregation.presence import training_weights
from server.study.aggregation.rule import Needs, Round
from shared_models.messages import Arrays
from shared_models.secure_aggregation.groups import modality_of

NEEDS: Needs = "sums"
AT_SITES = True


@dataclass(frozen=True)
class State:
    """What is sent to the sites.

    Attributes:
        control: Mean of all sites' control variates, by parameter; empty before round 1.
        counted: By `SITE/MODALITY`, of the encoder of a modality or without one of what all sites share, `(2,)`: the
            round of the site's last change that is in the mean, and the share of it that clipping left. A site whose
            answer was lost or refused would otherwise correct by a variate that the mean does not have, and the network
            would settle beside the optimum.
    """

    control: Arrays = field(default_factory=dict)
    counted: Arrays = field(default_factory=dict)


def aggregate(this: Round, state: State) -> tuple[Arrays, State]:
    """FedAvg's model, and the mean control variate moved by the mean change over all sites."""
    model = aggregate_by_owners(this.updates, this.model, lambda _: FedAvg())
    zeros = {name: np.zeros_like(array) for name, array in floating(this.model).items()}
    changes = [update.of_rule() for update in this.updates]
    mean = aggregate_by_owners(changes, zeros, lambda _: FedAvg())
    modalities = {modality_of(name) for name in zeros}
    present = {modality: _present(this, modality) for modality in modalities}
    control = {
        name: (state.control.get(name, zeros[name]) + present[modality_of(name)] * change).astype(change.dtype)
        for name, change in mean.items()
    }
    counted = {
        f"{site}/{modality}": np.array([this.number, update.rule_share])
        for update in this.updates
        for site in update.sites
        for modality in modalities
        if update.weight(modality) > 0 and training_weights(this, modality).get(site)
    }
    return model, State(control, {**state.counted, **counted})


def _present(this: Round, modality: str) -> float:
    """Share of all training patients, with a modality or `""`, whose sites are in the round; |S| / N of the paper."""
    weights = training_weights(this, modality)
    sites = {site for update in this.updates if update.weight(modality) > 0 for site in update.sites}
    return sum(weights.get(site, 0) for site in sites) / max(sum(weights.values()), 1)
