"""Adaptive steps of the server: Flower's FedAdam and FedYogi, whose moments outlive a restart (Reddi 2021)."""

from __future__ import annotations

from dataclasses import dataclass, field

from flwr.serverapp.strategy import FedAdam, FedAvg, FedYogi

from server.study.aggregation.owners import aggregate_by_owners, as_reply, like
from server.study.aggregation.rule import Round
from shared_models.messages import Arrays


@dataclass(frozen=True)
class Moments:
    """First and second moment of the mean change, by parameter; empty before round 1."""

    m_t: Arrays = field(default_factory=dict)
    v_t: Arrays = field(default_factory=dict)


def adaptive_step(kind: type[FedAdam | FedYogi], this: Round, state: Moments) -> tuple[Arrays, Moments]:
    """The model after Flower's step from the mean over owners, which it sees as a single reply."""
    mean = aggregate_by_owners(this.updates, this.model, lambda _: FedAvg())
    strategy = kind(eta=this.config.server_learning_rate, tau=this.config.server_tau)
    strategy.current_arrays, strategy.m_t, strategy.v_t = this.model, state.m_t or None, state.v_t or None
    stepped, _ = strategy.aggregate_train(this.number, [as_reply(mean)])
    model = {name: like(stepped[name].numpy(), array) for name, array in this.model.items()}
    return model, Moments(strategy.m_t, strategy.v_t)
