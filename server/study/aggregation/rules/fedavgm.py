"""Mean of the updates with momentum at the center, by `server-momentum` (Hsu 2019, arXiv:1909.06335)."""

from __future__ import annotations

from dataclasses import dataclass, field

from flwr.serverapp.strategy import FedAvg

from server.study.aggregation.owners import aggregate_by_owners, like
from server.study.aggregation.rule import Needs, Round
from shared_models.messages import Arrays

NEEDS: Needs = "sums"


@dataclass(frozen=True)
class State:
    """Changes of the rounds so far, by parameter, each round's worth less than the next; empty before round 1."""

    velocity: Arrays = field(default_factory=dict)


def aggregate(this: Round, state: State) -> tuple[Arrays, State]:
    """The model moved by the velocity, to which the mean change is added; a step size of 1, as in the paper."""
    momentum = this.config.server_momentum
    mean = aggregate_by_owners(this.updates, this.model, lambda _: FedAvg())
    velocity = {
        name: momentum * state.velocity.get(name, 0.0) + (mean[name] - array) for name, array in this.model.items()
    }
    model = {name: like(array + velocity[name], array) for name, array in this.model.items()}
    return model, State(velocity)
