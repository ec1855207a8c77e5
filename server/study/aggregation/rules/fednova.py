"""Mean of the updates per step, times the mean number of steps, so that no site counts by its steps (Wang 2020).

FedNova, arXiv:2007.07481, equation 9: a site with more batches moves its weights further in a round, and FedAvg, which
weighs by patients besides, then learns another objective than the pooled patients' loss. The site's half,
`client/training/rules/fednova.py`, divides its change by the steps it took: also where the center sees sums only.
"""

from __future__ import annotations

import math

import numpy as np
from flwr.serverapp.strategy import FedAvg

from server.study.aggregation.guard import floating
from server.study.aggregation.owners import aggregate_by_owners, like
from server.study.aggregation.presence import training_weights
from server.study.aggregation.rule import Needs, NoState, Round
from shared_models.messages import Arrays
from shared_models.secure_aggregation.groups import modality_of

NEEDS: Needs = "sums"
AT_SITES = True
State = NoState


def aggregate(this: Round, state: NoState) -> tuple[Arrays, NoState]:
    """The model moved by the mean change per step, times the mean number of steps; whole numbers as in FedAvg."""
    zeros = {name: np.zeros_like(array) for name, array in floating(this.model).items()}
    per_step = [update.of_rule() for update in this.updates]
    mean = aggregate_by_owners(per_step, zeros, lambda _: FedAvg())
    steps = {modality: _mean_steps(this, modality) for modality in {modality_of(name) for name in zeros}}
    model = aggregate_by_owners(this.updates, this.model, lambda _: FedAvg())
    model |= {
        name: like(this.model[name] + steps[modality_of(name)] * change.astype(np.float64), this.model[name])
        for name, change in mean.items()
    }
    return model, state


def _mean_steps(this: Round, modality: str) -> float:
    """Mean number of steps of the round's sites that have a modality, or of all for `""`, by their patients.

    From the counts before round 1: it is the length of the step at the center, and changes no fixed point.
    """
    weights = training_weights(this, modality)
    sites = [site for update in this.updates if update.weight(modality) > 0 for site in update.sites]
    steps = {
        site: this.config.local_epochs * math.ceil(this.enrolled[site].patients["train"] / this.config.batch_size)
        for site in sites
    }
    total = sum(weights[site] for site in sites)
    return sum(weights[site] * steps[site] for site in sites) / total if total else 0.0
