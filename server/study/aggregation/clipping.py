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
from numpy.typing import NDArray

from server.study.aggregation.guard import Update
from server.study.aggregation.owners import like
from shared_models.messages import Arrays

log = logging.getLogger("server")


@dataclass(frozen=True)
class Influence:
    """How one update compares with the others of its round.

    Attributes:
        norm: L2 norm of the change it makes to all parameters, as it came.
        cosine: Between that change and the patient-weighted mean of the others' after clipping; None where one is zero.
            The update itself is left out of the mean: a large one would point its own way.
        clipped: Whether the norm was above the bound, and was scaled down to it.
    """

    norm: float
    cosine: float | None
    clipped: bool


def clip_updates(
    updates: Sequence[Update], model: Arrays, multiple: float
) -> tuple[list[Update], dict[str, Influence]]:
    """The updates with norms of at most `multiple` times their median, and each one's influence by site.

    Secure aggregation shows no single update: it comes back as it is, without influences.

    Args:
        updates: The round's accepted updates.
        model: The weights that the sites started from.
        multiple: Of the median norm; 0 clips nothing.
    """
    if any(len(update.sites) > 1 for update in updates):
        return list(updates), {}
    updates = _with_clipped_changes(updates, multiple)
    products = _products(updates, model)
    norms = np.sqrt(np.diag(products))
    bound = multiple * float(np.median(norms)) if multiple and updates else math.inf
    factors = np.array([bound / norm if norm > bound else 1.0 for norm in norms])
    products *= np.outer(factors, factors)
    patients = np.array([update.patients for update in updates], dtype=np.float64)
    clipped, influences = [], {}
    for index, (update, norm) in enumerate(zip(updates, norms, strict=True)):
        clipped.append(_scaled(update, model, factors[index]) if norm > bound else update)
        others = np.where(np.arange(len(updates)) == index, 0.0, patients)
        length = math.sqrt(products[index, index] * max(others @ products @ others, 0.0))
        cosine = float(products[index] @ others) / length if length > 0 else None
        influences[update.sites[0]] = Influence(float(norm), cosine, bool(norm > bound))
    return clipped, influences


def log_influences(influences: Mapping[str, Influence]) -> dict[str, dict[str, float | bool | None]]:
    """Logs the round's influences, and returns them as a record for the history."""
    parts = []
    for site, one in influences.items():
        cosine = "none" if one.cosine is None else f"{one.cosine:.2f}"
        parts.append(f"{site} {one.norm:.3g}{' (clipped)' if one.clipped else ''} {cosine}")
    if parts:
        log.info("norms of the updates, and cosines to the others' mean: %s", "; ".join(parts))
    return {site: asdict(one) for site, one in influences.items()}


def _with_clipped_changes(updates: Sequence[Update], multiple: float) -> list[Update]:
    """The updates whose rule's changes have norms of at most `multiple` times their median; each has its share."""
    squares = [sum(float(np.vdot(a, a)) for a in _in_float64(update.rule_change)) for update in updates]
    norms = np.sqrt(squares)
    bound = multiple * float(np.median(norms)) if multiple and updates else math.inf
    shares = [bound / norm if norm > bound else 1.0 for norm in norms]
    return [
        replace(
            update,
            rule_change={name: like(share * array, array) for name, array in update.rule_change.items()},
            rule_share=share,
        )
        if share < 1
        else update
        for update, share in zip(updates, shares, strict=True)
    ]


def _in_float64(arrays: Arrays) -> list[NDArray[np.float64]]:
    return [array.astype(np.float64) for array in arrays.values()]


def _products(updates: Sequence[Update], model: Arrays) -> NDArray[np.float64]:
    """Dot products `(U, U)` of the U updates' changes to all parameters, in float64."""
    products = np.zeros((len(updates), len(updates)))
    for name, array in model.items():
        changes = [(update.model[name].astype(np.float64) - array).ravel() for update in updates]
        products += np.stack(changes) @ np.stack(changes).T if changes else 0.0
    return products


def _scaled(update: Update, model: Arrays, factor: float) -> Update:
    scaled = {
        name: like(array + factor * (update.model[name].astype(np.float64) - array), array)
        for name, array in model.items()
    }
    return replace(update, model=scaled)
