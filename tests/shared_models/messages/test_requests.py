from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from flwr.app.message_type import MessageType
from hypothesis import given
from hypothesis import strategies as st

from shared_models.features import FeatureStatistics
from shared_models.messages import (
    ConfirmRequest,
    DealReply,
    EvaluateTestReply,
    EvaluateTestRequest,
    JoinSum,
    MaskedReply,
    Payload,
    PrepareReply,
    Reply,
    TrainReply,
    TrainRequest,
    claimed_round,
)
from shared_models.messages.arrays import pack_arrays
from shared_models.messages.payload import fields_of
from shared_models.messages.requests import REQUESTS

MODEL = {"head.weight": np.arange(4, dtype=np.float32)}
TRAIN = TrainRequest(round=3, model=MODEL, statistics={"features.clinical.known": np.ones(2)})
PREPARED = PrepareReply(
    trains=True,
    patients={"train": 40, "validation": 5, "test": 6},
    modalities={"clinical": 40, "mri/left": 0},
    excluded=2,
    features={"clinical": FeatureStatistics.of(np.ones((40, 2)))},
    counts={"er": np.array([30.0, 10.0])},
)
TRAINED = TrainReply(model=MODEL, patients=40, loss=float("nan"), validation={"er.n": np.array(3.0)})
PAYLOADS: list[Payload] = [
    TRAIN,
    PREPARED,
    TRAINED,
    EvaluateTestRequest(round=3, model=MODEL, statistics={}, thresholds={"er": 0.5}),
    EvaluateTestReply(test={}, metrics={"er/pr": {"auc": 0.7, "f1": float("nan")}, "her2": {"auc": 0.5}}),
    ConfirmRequest(content=b"{}"),
    DealReply(content=b"{}", verified=False),
]


@pytest.mark.parametrize("sent", PAYLOADS, ids=lambda sent: type(sent).__name__)
def test_a_message_arrives_as_it_was_sent(sent: Payload) -> None:
    received = type(sent).unpack(sent.pack())
    for name in fields_of(type(sent)):
        np.testing.assert_equal(plain(getattr(received, name)), plain(getattr(sent, name)))


def plain(value: Any) -> Any:
    """Statistics within as dictionaries, tuples as lists: what `assert_equal` looks into."""
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


def put(sent: Payload, **values: Any) -> RecordDict:
    content = sent.pack()
    content["values"] = ConfigRecord({**content["values"], **values})
    return content


def with_model(**arrays: Any) -> RecordDict:
    return dataclasses.replace(TRAIN, model=arrays).pack()


def lacking(sent: Payload, name: str) -> RecordDict:
    return RecordDict({key: record for key, record in sent.pack().items() if key != name})


HOSTILE: dict[str, tuple[type[Payload], RecordDict, str]] = {
    "nothing": (TrainRequest, RecordDict(), "round is missing"),
    "a record left out": (TrainRequest, lacking(TRAIN, "model"), "model is missing"),
    "a record of another kind": (TrainRequest, RecordDict({**TRAIN.pack(), "model": MetricRecord()}), "'model'"),
    "a record too many": (
        TrainRequest,
        RecordDict({**TRAIN.pack(), "backdoor": ArrayRecord()}),
        "it holds what no such message has: 'backdoor'",
    ),
    "a value too many": (TrainRequest, put(TRAIN, sudo=1), "'sudo'"),
    "another record of values": (TrainRequest, RecordDict({**TRAIN.pack(), "agent": ConfigRecord()}), "'agent'"),
    "arrays beside the packed ones": (
        TrainRequest,
        RecordDict({**TRAIN.pack(), "model": ArrayRecord({"head.weight": Array(np.ones(4))})}),
        "not in safetensors",
    ),
    "NaN": (TrainRequest, with_model(w=np.array([1, np.nan])), "w of model holds NaN or infinity"),
    "infinity": (TrainRequest, with_model(w=np.array([1, np.inf])), "w of model holds NaN or infinity"),
    "weights that overflow": (TrainRequest, with_model(w=np.array([-1e38])), "w of model holds a number beyond 1e+06"),
    "a round before the first": (TrainRequest, put(TRAIN, round=-5), "round is -5, expected a whole number from 1"),
    "a round beyond all": (TrainRequest, put(TRAIN, round=10**9), "round is 1000000000"),
    "a round that is a fraction": (TrainRequest, put(TRAIN, round=1.0), "round is 1.0"),
    "a round that is true": (TrainRequest, put(TRAIN, round=True), "round is True"),
    "a round that is many": (TrainRequest, put(TRAIN, round=[1, 2]), "round is [1, 2]"),
    "a thousand megabytes of a name": (TrainRequest, with_model(**{"w" * 300: np.ones(1)}), "more than 200 letters"),
    "a threshold out of its range": (EvaluateTestRequest, put(PAYLOADS[3], **{"thresholds/er": 7.0}), "thresholds/er"),
    "a threshold that is none": (
        EvaluateTestRequest,
        put(PAYLOADS[3], **{"thresholds/er": float("nan")}),
        "thresholds/er is nan",
    ),
    "fewer than nobody": (PrepareReply, put(PREPARED, excluded=-1), "excluded is -1"),
    "more than a country": (PrepareReply, put(PREPARED, **{"patients/train": 10**9}), "patients/train is 1000000000"),
    "yes as a number": (PrepareReply, put(PREPARED, trains=1), "trains is 1, expected true or false"),
    "sums without their squares": (
        PrepareReply,
        RecordDict({**PREPARED.pack(), "features": TRAIN.pack()["statistics"]}),
        "is missing from the FeatureStatistics",
    ),
    "a loss beyond all": (TrainReply, put(TRAINED, loss=-1e70), "loss is -1e+70"),
    "a loss that is text": (TrainReply, put(TRAINED, loss="nan"), "loss is 'nan'"),
    "a protocol's message that is text": (ConfirmRequest, put(PAYLOADS[-2], content="x"), "content is no"),
    "verified, in words": (DealReply, put(PAYLOADS[-1], verified="yes"), "verified is 'yes', expected true or false"),
}


@pytest.mark.parametrize(("kind", "content", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_what_a_message_may_not_be_is_refused_in_one_sentence(
    kind: type[Payload], content: RecordDict, reason: str
) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the reasons differ
        kind.unpack(content)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


@given(
    st.integers(-20_000, 20_000)
    | st.floats()
    | st.text()
    | st.binary()
    | st.booleans()
    | st.lists(st.integers(), max_size=3)
)
def test_a_round_is_a_whole_number_that_a_study_can_have_or_is_refused(value: Any) -> None:
    content = put(TRAIN, round=value)
    if type(value) is int and 1 <= value <= 10_000:
        assert TrainRequest.unpack(content).round == value
    else:
        with pytest.raises(ValueError, match=r"round is .*, expected a whole number from 1 to 10000"):
            TrainRequest.unpack(content)


def test_a_log_reads_the_round_of_whatever_comes() -> None:
    assert claimed_round(TRAIN.pack()) == 3
    for odd in (RecordDict(), put(TRAIN, round="first"), RecordDict({"values": MetricRecord({"round": 2})})):
        assert claimed_round(odd) == 0


def test_with_secure_aggregation_a_site_shows_what_it_says_it_shows_and_no_more() -> None:
    shown = PREPARED.without_sums()
    assert (shown.trains, shown.patients, shown.excluded) == (True, PREPARED.patients, 2)
    assert shown.modalities == {"clinical": 1, "mri/left": 0}
    assert (shown.features, shown.counts) == ({}, {})
    trained = TRAINED.without_sums()
    assert (trained.model, trained.patients, trained.validation) == ({}, 0, {})
    assert np.isnan(trained.loss)


@pytest.mark.parametrize("reply", [PREPARED, TRAINED], ids=["prepare", "train"])
def test_a_reply_comes_back_from_what_is_summed_of_it(reply: Reply) -> None:
    again = type(reply).of_sum(reply.to_sum())
    for name, facts in fields_of(type(reply)).items():
        summed_arrays = facts["in_sums"] == "summed" and name in reply.to_sum()
        expected = getattr(reply, name) if summed_arrays else facts["kind"].empty
        np.testing.assert_equal(plain(getattr(again, name)), plain(expected))
    with pytest.raises(ValueError, match="is missing"):
        type(reply).of_sum({})


def test_a_masked_reply_and_a_request_that_joins_a_sum_hold_both_halves() -> None:
    sent = MaskedReply(TRAINED.without_sums(), {"control": b"{}", "block/train": b"12345678", "block/mri": b""})
    received = MaskedReply.unpack(sent.pack(), TrainReply)
    assert (received.shown.patients, received.message) == (0, sent.message)
    with pytest.raises(ValueError, match="content is missing"):
        MaskedReply.unpack(TRAINED.pack(), TrainReply)
    with pytest.raises(ValueError, match="no such message has"):
        TrainRequest.unpack(JoinSum(content=b"{}", attempt=1).pack_with(TRAIN.pack()))
    question = TRAIN.pack()
    joined = JoinSum(content=b"{}", attempt=1).pack_with(question)
    assert joined["model"] is question["model"]  # in memory once for all sites
    wrong = sent.pack()
    wrong["masked"] = pack_arrays({"train": np.ones(8)})
    with pytest.raises(ValueError, match="expected bytes"):
        MaskedReply.unpack(wrong, TrainReply)


def test_the_same_question_has_the_same_hash_whatever_its_round() -> None:
    later = dataclasses.replace(TRAIN, round=9)
    assert (later.question, later.frozen_hash) == (TRAIN.question, TRAIN.frozen_hash)
    other = dataclasses.replace(TRAIN, model={"head.weight": np.nextafter(MODEL["head.weight"], 9, dtype=np.float32)})
    assert other.question != TRAIN.question
    test = EvaluateTestRequest(round=3, model=MODEL, statistics={}, thresholds={"er": 0.5})
    assert test.question != dataclasses.replace(test, thresholds={"er": 0.25}).question


def test_a_number_that_may_be_undefined_is_nan_where_it_is_infinite_and_a_counter_of_batches_may_be_large() -> None:
    assert np.isnan(TrainReply.unpack(put(TRAINED, loss=float("inf"))).loss)
    counter = {"norm.num_batches_tracked": np.array(5 * 10**6)}
    assert TrainReply.unpack(dataclasses.replace(TRAINED, model=counter).pack()).model == counter


def test_message_types_are_flowers() -> None:
    flowers = {MessageType.TRAIN, MessageType.EVALUATE, MessageType.QUERY}
    assert {request.KIND.partition(".")[0] for request in REQUESTS} <= flowers
