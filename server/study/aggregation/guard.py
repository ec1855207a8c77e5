"""The check of every update before it counts: keys, shapes, dtypes, finite numbers, a plausible weight.

Flower's stock strategies average whatever comes: one NaN ruins the global model for good, a wrong shape ends the
run, and a claimed 1e12 examples drowns every other site.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from server.study.enrolment import Enrolment
from server.study.exchange import Answer
from server.study.weights.spool import numbers_of
from shared_models.messages import Arrays, TrainReply


@dataclass(frozen=True)
class Update:
    """One site's accepted update, or the sum of several.

    Attributes:
        sites: The sites' names.
        model: Its weights after local training.
        patients: Training patients behind them.
        patients_by_modality: Training patients with each modality.
        loss: Mean training loss of a patient, for the log only.
        rule_change: What the rule's half at the site adds, by parameter; empty where the rule has none.
        share: How much clipping left of the change to the weights, from 0 to 1.
        rule_share: How much of what the rule adds.
    """

    sites: tuple[str, ...]
    model: Mapping[str, NDArray[Any]]
    patients: float
    patients_by_modality: Mapping[str, float]
    loss: float
    rule_change: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    share: float = 1.0
    rule_share: float = 1.0

    def weight(self, modality: str) -> float:
        """Training patients behind an encoder's parameters, or behind those that all sites share (`""`)."""
        return self.patients_by_modality.get(modality, 0.0) if modality else self.patients

    def change(self, model: Arrays, name: str, part: slice) -> NDArray[np.float64]:
        """What it changes of some of an array's numbers `(N,)`, after clipping.

        In float64: in float32, differences of large weights that differ little would be rounding.
        """
        return self.share * (numbers_of(self.model, name, part) - numbers_of(model, name, part))

    def of_rule(self) -> Self:
        """What the rule's half at the site adds, as a change to zeros."""
        return replace(self, model=self.rule_change, share=self.rule_share)


def accept(
    answer: Answer[TrainReply], reference: Arrays, enrolled: Mapping[str, Enrolment], at_sites: bool = False
) -> Update:
    """Checks one site's reply to a training request, or the sum of several.

    Args:
        answer: The reply.
        reference: The global model that was sent: the keys, shapes and dtypes an update must have.
        enrolled: What each site counted before round 1.
        at_sites: Whether the study's rule has a half at the sites, which adds a number for each weight.

    Raises:
        ValueError: With the reason, if the update must not count.
    """
    assert answer.reply is not None
    reply, sites = answer.reply, answer.members or (answer.site,)
    counted = sum(enrolled[site].patients["train"] for site in sites)
    added = floating(reference) if at_sites else {}
    problem = _problem("update", reply.model, reference) or _problem("rule's change", reply.rule_change, added)
    if problem := problem or _weight_problem(reply.patients, counted):
        raise ValueError(problem)
    # who has what is added up, too
    by_modality = answer.patients_by_modality if answer.members else enrolled[answer.site].modalities
    return Update(sites, reply.model, reply.patients, by_modality, reply.loss, reply.rule_change)


def floating(model: Arrays) -> Arrays:
    """The weights that are fractions: those that gradients move."""
    return {name: array for name, array in model.items() if array.dtype.kind == "f"}


def sort_updates(
    answers: Sequence[Answer[TrainReply]], reference: Arrays, enrolled: Mapping[str, Enrolment], at_sites: bool = False
) -> tuple[list[Update], dict[str, str]]:
    """The updates that may count, and why the others may not, by site."""
    updates, rejected = [], {}
    for answer in answers:
        if answer.reply is not None:
            try:
                updates.append(accept(answer, reference, enrolled, at_sites))
            except ValueError as error:
                rejected[answer.site] = f"update rejected: {error}"
    return updates, rejected


def _problem(what: str, arrays: Mapping[str, NDArray[Any]], reference: Arrays) -> str:
    if extra := sorted(set(arrays) ^ set(reference)):
        return f"the {what}'s arrays are not the model's: {', '.join(extra[:3])} missing or unknown"
    for name, expected in reference.items():
        array = arrays[name]
        if array.shape != expected.shape or array.dtype != expected.dtype:
            return f"{name} is {array.dtype}{array.shape}, expected {expected.dtype}{expected.shape}"
    return ""


def _weight_problem(patients: int, counted: int) -> str:
    if not 0 < patients <= counted:
        return f"claims {patients} training patients, but counted {counted} before round 1"
    return ""
