"""Norm clipping of updates at the center, and what each update's influence was.

The change that a site makes to the model is scaled down to a multiple of the round's median norm, so that no single
site replaces the model (Sun 2019, arXiv:1911.07963). A hostile minority cannot move the median.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from flwr.serverapp.strategy import FedAvg

from server.study.aggregation.guard import Update
from server.study.aggregation.owners import aggregate_by_owners, like
from shared_models.messages import Arrays

log = logging.getLogger("server")


@dataclass(frozen=True)
class Influence:
    """How one update stands to the others of its round.

    Attributes:
        norm: L2 norm of the change it makes to all parameters, as it came.
        cosine: Between that change and the patient-weighted mean of all changes after clipping; None where one is zero.
        clipped: Whether the norm was above the bound, and was scaled down to it.
    """

    norm: float
    cosine: float | None
    clipped: bool


def clip_updates(
    updates: Sequence[Update], model: Arrays, multiple: float
) -> tuple[list[Update], dict[str, Influence]]:
    """The updates with norms of at most `multiple` times their median, and each one's influence by site.

    A secure sum shows no single update: it comes back as it is, without influences.

    Args:
        updates: The round's accepted updates.
        model: The weights that the sites started from.
        multiple: Of the median norm; 0 clips nothing.
    """
    if any(len(update.sites) > 1 for update in updates):
        return list(updates), {}
    norms = [math.sqrt(_dot(update.model, update.model, model)) for update in updates]
    bound = multiple * float(np.median(norms)) if multiple and norms else math.inf
    clipped = [
        _scaled(update, model, bound / norm) if norm > bound else update
        for update, norm in zip(updates, norms, strict=True)
    ]
    mean = aggregate_by_owners(clipped, model, lambda _: FedAvg())
    length = math.sqrt(_dot(mean, mean, model))
    influences = {}
    for update, norm in zip(updates, norms, strict=True):
        size = norm * length
        cosine = _dot(update.model, mean, model) / size if size > 0 else None
        influences[update.sites[0]] = Influence(norm, cosine, norm > bound)
    return clipped, influences


def log_influences(influences: Mapping[str, Influence]) -> dict[str, dict[str, float | bool | None]]:
    """Logs the round's influences, and returns them as a record for the history."""
    told = []
    for site, one in influences.items():
        cosine = "none" if one.cosine is None else f"{one.cosine:.2f}"
        told.append(f"{site} {one.norm:.3g}{' (clipped)' if one.clipped else ''} {cosine}")
    if told:
        log.info("norms of the updates, and cosines to their mean: %s", "; ".join(told))
    return {site: asdict(one) for site, one in influences.items()}


def _dot(one: Arrays, other: Arrays, origin: Arrays) -> float:
    """The dot product of two models' changes from `origin`, over all parameters, in float64."""
    return sum(
        float(np.vdot(one[name].astype(np.float64) - array, other[name].astype(np.float64) - array))
        for name, array in origin.items()
    )


def _scaled(update: Update, model: Arrays, factor: float) -> Update:
    scaled = {
        name: like(array + factor * (update.model[name].astype(np.float64) - array), array)
        for name, array in model.items()
    }
    return replace(update, model=scaled)
