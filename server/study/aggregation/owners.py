"""Aggregation by owners: a strategy of Flower's sees each group of parameters with the updates that may change it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np
from flwr.app import Array, ArrayRecord, Message, Metadata, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg

from server.study.aggregation.guard import Update
from server.study.weights.spool import pieces, shapes_of
from shared_models.messages import Arrays, TrainRequest
from shared_models.secure_aggregation.groups import modality_of

log = logging.getLogger("server")

# The records of a reply that Flower's strategies are given, named as they name them.
ARRAYS, METRICS, WEIGHT = "arrays", "metrics", "num-examples"


def aggregate_by_owners(
    updates: Sequence[Update],
    model: Arrays,
    strategy_for: Callable[[int], FedAvg],
    fewest: int = 1,
    choose: Callable[[Sequence[Update], Sequence[str]], Sequence[Update]] = lambda owners, names: owners,
) -> Arrays:
    """The next model: each group of parameters as a strategy of Flower's aggregates its owners' changes.

    A group is the encoder of one modality, or all that sites share. The owners of an encoder are the sites with
    training patients who have its modality, weighted by them, so that a site without MRI never drags the MRI encoder.
    Where no site owns it, it stays as it was. The strategy sees changes `(weights - model)` in float64, piece by piece,
    so that it must treat each parameter by itself.

    Args:
        updates: What the sites sent, or the sum of it.
        model: The weights that the sites started from.
        strategy_for: Makes the strategy for a number of owners.
        fewest: Owners that the strategy needs to withstand what it should; a group with fewer is logged.
        choose: Of a group's owners those that count, from all the group's parameters, whose names it is given.
    """
    groups: dict[str, list[str]] = {}
    for name in model:
        groups.setdefault(modality_of(name), []).append(name)
    after = dict(model)
    for modality, names in groups.items():
        owners = [update for update in updates if update.weight(modality) > 0]
        if not owners:
            continue
        if len(owners) < fewest:
            what = f"the encoder of {modality}" if modality else "the network"
            log.warning("%d sites changed %s; the rule needs %d to withstand a hostile one", len(owners), what, fewest)
        after |= _moved(choose(owners, names), {name: model[name] for name in names}, modality, strategy_for)
    return after


def _moved(owners: Sequence[Update], model: Arrays, modality: str, strategy_for: Callable[[int], FedAvg]) -> Arrays:
    """A group of parameters after the step of a strategy, for which no more than a piece is in memory of each site."""
    moved, strategy = (
        {name: np.empty(array.shape, array.dtype) for name, array in model.items()},
        strategy_for(len(owners)),
    )
    for piece in pieces(shapes_of(model, [*model]), len(owners)):
        replies = [
            as_reply({name: one.change(model, name, part) for name, part in piece.items()}, one.weight(modality))
            for one in owners
        ]
        changes, _ = strategy.aggregate_train(1, replies)
        for name, part in piece.items():
            before = model[name].reshape(-1)[part]
            moved[name].reshape(-1)[part] = like(before + changes[name].numpy(), before)
    return moved


def as_reply(arrays: Arrays, weight: float = 1.0) -> Message:
    """Arrays as a site's reply that Flower's strategies read, with the patients behind them."""
    record = ArrayRecord({name: Array(np.asarray(array)) for name, array in arrays.items()})
    metadata = Metadata(
        run_id=0,
        message_id="",
        src_node_id=0,
        dst_node_id=0,
        reply_to_message_id="",
        group_id="",
        created_at=0.0,
        ttl=1.0,
        message_type=TrainRequest.KIND,
    )
    content = RecordDict({ARRAYS: record, METRICS: MetricRecord({WEIGHT: float(weight)})})
    return Message(content=content, metadata=metadata)


def like(array: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The array in the reference's dtype; whole numbers are rounded, not cut."""
    return np.asarray(np.rint(array) if reference.dtype.kind in "iub" else array).astype(reference.dtype)
