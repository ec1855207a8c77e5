"""The check of every update before it counts: keys, shapes, dtypes, finite numbers, a plausible weight.

Flower's stock strategies average whatever comes: one NaN ruins the global model for good, a wrong shape ends the
run, and a claimed 1e12 examples drowns every other site.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from server.study.exchange import Answer
from shared_models.messages import MODEL, NUMBERS, Arrays, unpack_arrays

WEIGHT = "num-examples"


@dataclass(frozen=True)
class Update:
    """One site's accepted update, or the secure sum of several.

    Attributes:
        sites: The sites' names.
        model: Its weights after local training.
        patients: Training patients behind them.
        patients_by_modality: Training patients with each modality.
        loss: Mean training loss of a patient, for the log only.
    """

    sites: tuple[str, ...]
    model: Arrays
    patients: float
    patients_by_modality: Mapping[str, float]
    loss: float

    def weight(self, modality: str) -> float:
        """Training patients behind an encoder's parameters, or behind those that all sites share (`""`)."""
        return self.patients_by_modality.get(modality, 0.0) if modality else self.patients


def accept(answer: Answer, reference: Arrays, enrolled: Mapping[str, Mapping[str, float]]) -> Update:
    """Checks one site's reply to a training request, or the secure sum of several.

    Args:
        answer: The reply.
        reference: The global model that was sent: the keys, shapes and dtypes an update must have.
        enrolled: What each site counted before round 1: `patients/train`, and `modality/NAME`.

    Raises:
        ValueError: With the reason, if the update must not count.
    """
    assert answer.content is not None
    try:
        model = unpack_arrays(answer.content.array_records[MODEL])
        numbers = answer.content.metric_records[NUMBERS]
        weight, loss = numbers[WEIGHT], float(numbers["train-loss"])
    except (KeyError, TypeError, ValueError) as error:
        msg = f"the reply cannot be read: {type(error).__name__}: {error}"
        raise ValueError(msg) from None
    sites = answer.members or (answer.site,)
    most = sum(enrolled[site]["patients/train"] for site in sites)
    if problem := _model_problem(model, reference) or _weight_problem(weight, most):
        raise ValueError(problem)
    patients_by_modality = numbers if answer.members else enrolled[answer.site]  # who owns what is part of a secure sum
    modalities = {name: float(n) for name, n in patients_by_modality.items() if name.startswith("modality/")}
    return Update(sites, model, float(weight), {name.partition("/")[2]: n for name, n in modalities.items()}, loss)


def sort_updates(
    answers: Sequence[Answer], reference: Arrays, enrolled: Mapping[str, Mapping[str, float]]
) -> tuple[list[Update], dict[str, str]]:
    """The updates that may count, and why the others may not, by site."""
    updates, rejected = [], {}
    for answer in answers:
        if answer.content is not None:
            try:
                updates.append(accept(answer, reference, enrolled))
            except ValueError as error:
                rejected[answer.site] = f"update rejected: {error}"
    return updates, rejected


def _model_problem(model: Arrays, reference: Arrays) -> str:
    if extra := sorted(set(model) ^ set(reference)):
        return f"the update's arrays are not the model's: {', '.join(extra[:3])} missing or unknown"
    for name, expected in reference.items():
        array = model[name]
        if array.shape != expected.shape or array.dtype != expected.dtype:
            return f"{name} is {array.dtype}{array.shape}, expected {expected.dtype}{expected.shape}"
        if not np.isfinite(array).all():
            return f"{name} holds NaN or infinity"
    return ""


def _weight_problem(weight: Any, train_patients: float) -> str:
    if not isinstance(weight, int | float) or not np.isfinite(weight) or not 0 < weight <= train_patients:
        return f"claims {weight} training patients, but counted {train_patients:.0f} before round 1"
    return ""
