"""Norm clipping of updates at the center, and what each update's influence was.

The change that a site makes to the model is scaled down to a multiple of the round's median norm, so that no single
site replaces the model (Sun 2019, arXiv:1911.07963). A hostile minority cannot move the median.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.study.aggregation.guard import Update, floating
from server.study.weights.spool import numbers_of, pieces, shapes_of
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
    updates = _with_clipped_changes(updates, model, multiple)
    products = products_of(updates, model, [*model])
    norms = np.sqrt(np.diag(products))
    bound = multiple * float(np.median(norms)) if multiple and updates else math.inf
    factors = np.array([bound / norm if norm > bound else 1.0 for norm in norms])
    products *= np.outer(factors, factors)
    patients = np.array([update.patients for update in updates], dtype=np.float64)
    clipped, influences = [], {}
    for index, (update, norm) in enumerate(zip(updates, norms, strict=True)):
        clipped.append(replace(update, share=float(factors[index])) if norm > bound else update)
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


def products_of(updates: Sequence[Update], model: Arrays, names: Sequence[str]) -> NDArray[np.float64]:
    """Dot products `(U, U)` of the U updates' changes to some parameters, in float64."""
    products = np.zeros((len(updates), len(updates)))
    for piece in pieces(shapes_of(model, names), len(updates)) if updates else ():
        for name, part in piece.items():
            changes = np.stack([update.change(model, name, part) for update in updates])
            products += changes @ changes.T
    return products


def _with_clipped_changes(updates: Sequence[Update], model: Arrays, multiple: float) -> list[Update]:
    """The updates whose rule's changes have norms of at most `multiple` times their median; each has its share."""
    if not any(update.rule_change for update in updates):
        return list(updates)
    norms = np.sqrt([_square(update.rule_change, floating(model)) for update in updates])
    bound = multiple * float(np.median(norms)) if multiple else math.inf
    return [
        replace(update, rule_share=bound / norm) if norm > bound else update
        for update, norm in zip(updates, norms, strict=True)
    ]


def _square(arrays: Mapping[str, NDArray[Any]], model: Arrays) -> float:
    """The squared L2 norm of all arrays together."""
    return sum(
        float(np.vdot(numbers, numbers))
        for piece in pieces(shapes_of(model, [*arrays]), 1)
        for name, part in piece.items()
        for numbers in [numbers_of(arrays, name, part)]
    )
