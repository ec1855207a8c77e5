"""The check of every update before it counts: keys, shapes, dtypes, finite numbers, a plausible weight.

Flower's stock strategies average whatever comes: one NaN ruins the global model for good, a wrong shape ends the
run, and a claimed 1e12 examples drowns every other site.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from server.study.enrolment import Enrolment
from server.study.exchange import Answer
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
    """

    sites: tuple[str, ...]
    model: Arrays
    patients: float
    patients_by_modality: Mapping[str, float]
    loss: float

    def weight(self, modality: str) -> float:
        """Training patients behind an encoder's parameters, or behind those that all sites share (`""`)."""
        return self.patients_by_modality.get(modality, 0.0) if modality else self.patients


def accept(answer: Answer[TrainReply], reference: Arrays, enrolled: Mapping[str, Enrolment]) -> Update:
    """Checks one site's reply to a training request, or the sum of several.

    Args:
        answer: The reply.
        reference: The global model that was sent: the keys, shapes and dtypes an update must have.
        enrolled: What each site counted before round 1.

    Raises:
        ValueError: With the reason, if the update must not count.
    """
    assert answer.reply is not None
    reply, sites = answer.reply, answer.members or (answer.site,)
    counted = sum(enrolled[site].patients["train"] for site in sites)
    if problem := _model_problem(reply.model, reference) or _weight_problem(reply.patients, counted):
        raise ValueError(problem)
    # who has what is added up, too
    by_modality = answer.patients_by_modality if answer.members else enrolled[answer.site].modalities
    return Update(sites, reply.model, reply.patients, by_modality, reply.loss)


def sort_updates(
    answers: Sequence[Answer[TrainReply]], reference: Arrays, enrolled: Mapping[str, Enrolment]
) -> tuple[list[Update], dict[str, str]]:
    """The updates that may count, and why the others may not, by site."""
    updates, rejected = [], {}
    for answer in answers:
        if answer.reply is not None:
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
    return ""


def _weight_problem(patients: int, counted: int) -> str:
    if not 0 < patients <= counted:
        return f"claims {patients} training patients, but counted {counted} before round 1"
    return ""
