"""The sum of a secure aggregation as the reply that one site with all their patients would give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from server.study.exchange import Answer
from server.study.secure_aggregation.summing import Opened
from shared_models.messages import Arrays, ModelRequest, Reply, Request
from shared_models.secure_aggregation.encoding import Block
from shared_models.secure_aggregation.groups import RULE_CHANGE, TRAIN, group_of_parameter
from shared_models.secure_aggregation.layout import LOSS, PATIENTS, STEPS

R = TypeVar("R", bound=Reply)


def reply_of(opened: Opened, request: Request[R]) -> Answer[R]:
    """The reply: weights with the mean change of them added, statistics as sums; 0 what too few sites add to.

    Raises:
        KeyError: If the sum is not one of such replies.
        ValueError: If it is not, or holds what no reply may hold.
    """
    layout = opened.layout
    sent = request.model if isinstance(request, ModelRequest) and layout.updates else {}
    shapes = {name: shape for group_shapes in layout.updates.values() for name, shape in group_shapes.items()}
    if shapes != {name: array.shape for name, array in sent.items()}:
        msg = "its arrays are not those of the network"
        raise ValueError(msg)
    updates: Arrays = {}
    statistics: Arrays = {}
    for group in {**layout.updates, **layout.statistics}:
        summed, counted = layout.named(group, opened.blocks.get(group) or _nothing(*layout.sizes(group)))
        updates |= summed
        statistics |= counted
    patients, steps = _taken(statistics, PATIENTS), _taken(statistics, STEPS)
    values: dict[str, Any] = {}
    fields: dict[str, Arrays] = {name: {} for name in request.reply_kind.summed_arrays()}
    if sent:
        behind = {name: _behind(patients, steps, group_of_parameter(name)) for name in sent}
        fields["model"] = {name: _moved(array, updates[name], behind[name]) for name, array in sent.items()}
        values = {"patients": round(patients[TRAIN]), "loss": float(statistics.pop(LOSS)) / max(patients[TRAIN], 1.0)}
    for name, array in statistics.items():
        field, _, key = name.partition(".")
        if field == RULE_CHANGE:
            array = (array / max(patients[group_of_parameter(key)], 1.0)).astype(sent[key].dtype)
        fields.setdefault(field, {})[key] = array
    reply = request.reply_kind.of_sum(fields, **values)
    members = opened.survivors.sites
    by_modality = {name: count for name, count in patients.items() if name != TRAIN}
    return Answer(f"the sum of {', '.join(members)}", reply, "", members, by_modality)


def _nothing(updates: int, statistics: int) -> Block:
    return Block.unpack(bytes(Block.size(updates, statistics)), updates, statistics)


def _moved(sent: np.ndarray[Any, Any], total: np.ndarray[Any, Any], patients: float) -> np.ndarray[Any, Any]:
    """A weight with its mean change over the patients behind it; where there are none, as it was."""
    if not patients > 0:
        return sent
    moved = sent + total / patients
    return (np.rint(moved) if sent.dtype.kind in "iub" else moved).astype(sent.dtype)


def _taken(statistics: Arrays, kind: str) -> dict[str, float]:
    """The numbers by group of a kind, which are statistics no longer."""
    names = [name for name in statistics if name.startswith(f"{kind}.")]
    return {name.partition(".")[2]: float(statistics.pop(name)) for name in names}


def _behind(patients: Mapping[str, float], steps: Mapping[str, float], group: str) -> float:
    """What a group's summed changes are divided by: its patients, or of changes of a step these by their mean steps."""
    counted = patients[group]
    return counted / max(steps[group] / counted, 1.0) if steps and counted > 0 else counted
