"""Guarded aggregation: looks at every update before it counts, then averages with Flower's own strategies.

Flower's stock strategies average whatever comes: one NaN ruins the global model for good, a wrong shape ends the
run, and a claimed 1e12 examples drowns every other site.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flwr.app import Array, ArrayRecord, Message, Metadata, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAdam, FedAvg, FedYogi
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

from server.study.enrolment import Enrolment
from server.study.exchange import Answer
from shared_models.messages import Arrays, TrainReply, TrainRequest
from shared_models.secure_aggregation.groups import modality_of
from shared_models.study_settings import StudySettings

# The records of the single reply that Flower's strategy is given, named as its stock strategies name them.
ARRAYS, METRICS, WEIGHT = "arrays", "metrics", "num-examples"


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


def average(updates: Sequence[Update], reference: Arrays) -> Arrays:
    """Patient-weighted mean of the updates (FedAvg; McMahan 2017, arXiv:1602.05629).

    An encoder is averaged only over the sites that own its modality, weighted by their patients who have it, so
    that a site without MRI never drags the MRI encoder. Where nobody owns it, it stays as it was.
    """
    groups: dict[str, list[str]] = {}
    for name in reference:
        groups.setdefault(modality_of(name), []).append(name)
    averaged: Arrays = {}
    for modality, names in groups.items():
        weights = [
            update.patients_by_modality.get(modality, 0.0) if modality else update.patients for update in updates
        ]
        records = [
            RecordDict({ARRAYS: _record({n: update.model[n] for n in names}), METRICS: MetricRecord({WEIGHT: weight})})
            for update, weight in zip(updates, weights, strict=True)
            if weight > 0
        ]
        if records:
            mean = aggregate_arrayrecords(records, WEIGHT)
            averaged |= {name: mean[name].numpy().astype(reference[name].dtype) for name in names}
    return {name: averaged.get(name, array) for name, array in reference.items()}


def make_strategy(config: StudySettings, memory: Arrays) -> FedAvg:
    """Flower's strategy of that name, with the moments it had gathered by the last checkpoint."""
    if config.strategy in ("fedavg", "fedprox"):
        return FedAvg()
    kind = {"fedadam": FedAdam, "fedyogi": FedYogi}[config.strategy]
    strategy = kind(eta=config.server_learning_rate, tau=config.server_tau)
    for moment in ("m_t", "v_t"):
        held = {name.partition("/")[2]: array for name, array in memory.items() if name.startswith(f"{moment}/")}
        setattr(strategy, moment, held or None)
    return strategy


def step(strategy: FedAvg, server_round: int, updates: Sequence[Update], reference: Arrays) -> tuple[Arrays, Arrays]:
    """One server step: the next global model, and the moments to keep for a restart.

    The strategy sees the guarded average as a single reply, so that its own averaging has nothing left to do and
    an adaptive one takes its step (Reddi 2021, arXiv:2003.00295).
    """
    mean = _record(average(updates, reference))
    if hasattr(strategy, "current_arrays"):
        strategy.current_arrays = reference
    aggregated, _ = strategy.aggregate_train(server_round, [_single_reply(mean)])
    model = {name: array.numpy().astype(reference[name].dtype) for name, array in aggregated.items()}
    memory: Arrays = {}
    for moment in ("m_t", "v_t"):
        memory |= {f"{moment}/{name}": array for name, array in (getattr(strategy, moment, None) or {}).items()}
    return model, memory


def _record(arrays: Arrays) -> ArrayRecord:
    return ArrayRecord({name: Array(array) for name, array in arrays.items()})


def _single_reply(model: ArrayRecord) -> Message:
    content = RecordDict({ARRAYS: model, METRICS: MetricRecord({WEIGHT: 1.0})})
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
    return Message(content=content, metadata=metadata)
