"""What a center gets that asks for more than was approved, or sends what no center of ours sends."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client import admission, gate, session
from client.app import app
from client.config.site import load_site
from client.gate import UNEXPECTED
from client.governance import approval
from client.governance.audit import audit_of
from client.governance.chained_log import read
from shared_models.features import FeatureStatistics
from shared_models.messages import (
    ConfirmRequest,
    DealRequest,
    EnrolRequest,
    EvaluateTestReply,
    EvaluateTestRequest,
    EvaluateValidationRequest,
    ModelRequest,
    OpenRequest,
    PrepareReply,
    PrepareRequest,
    Request,
    StudyStatistics,
    TrainReply,
    TrainRequest,
    differ,
    from_release,
    release_of,
)
from shared_models.messages.arrays import pack_arrays, unpack_arrays
from shared_models.messages.parts import VALUES, Parts
from shared_models.study_settings import parse_study_settings
from shared_models.task import load_task
from simulation.engines.in_process_grid import InProcessGrid

Hospitals = Callable[..., dict[str, Path]]
Study = dict[str, Any]
Spoil = Callable[[RecordDict], RecordDict]


@dataclasses.dataclass
class Center:
    """A hand on the center of one hospital: sends what it likes, and looks at what comes back."""

    file: Path
    study: Study
    grid: InProcessGrid

    @classmethod
    def of(cls, file: Path, study: Study) -> Center:
        return cls(file, study, InProcessGrid(app, {"a": file}, parse_study_settings(study).to_flat()))

    def ask(self, kind: str, content: RecordDict) -> Message:
        (reply,) = self.grid.send_and_receive([Message(content, 1, kind)])
        return reply

    def audit(self) -> list[dict[str, Any]]:
        return read(audit_of(load_site(self.file)))

    def requests(self) -> dict[str, Request[Any]]:
        """A good request of each kind."""
        config = parse_study_settings(self.study)
        task = load_task(config)
        state = task.build_model(task, config).state_dict()
        model = {name: np.full_like(value.numpy(), 0.5) for name, value in state.items()}
        features = {name: FeatureStatistics.of(np.eye(len(table.columns))) for name, table in task.tables.items()}
        brings: dict[str, Any] = {"round": 1, "model": model, "statistics": StudyStatistics(features).pack()}
        asked: list[Request[Any]] = [
            PrepareRequest(),
            TrainRequest(**brings),
            EvaluateValidationRequest(**brings),
            EvaluateTestRequest(**brings, thresholds={"recurrence": 0.5}),
            EnrolRequest(content=b"{}"),
            DealRequest(content=b"{}"),
            ConfirmRequest(content=b"{}"),
            OpenRequest(content=b"{}"),
        ]
        return {request.KIND: request for request in asked}


@pytest.fixture
def center(hospitals: Hospitals, small_study: Study) -> Center:
    return Center.of(hospitals({"a": 60})["a"], small_study)


KINDS = [
    "query.prepare",
    "train",
    "evaluate.validation",
    "evaluate.test",
    "query.enrol",
    "query.deal",
    "query.confirm",
    "query.open",
]


def drop(name: str) -> Spoil:
    return lambda content: RecordDict({key: record for key, record in content.items() if key != name})


def add(name: str, record: Any) -> Spoil:
    return lambda content: RecordDict({**content, name: record})


def value(name: str, replacement: Any) -> Spoil:
    return lambda content: RecordDict({**content, VALUES: ConfigRecord({**content[VALUES], name: replacement})})


def arrays(record: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Spoil:
    def spoil(content: RecordDict) -> RecordDict:
        return RecordDict({**content, record: pack_arrays(change(unpack_arrays(content[record])))})

    return spoil


def each(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda arrays_sent: {name: change(np.asarray(array)) for name, array in arrays_sent.items()}


# What is wrong with any message, and with one that brings a network.
ANYWHERE: list[Spoil] = [
    add("backdoor", ArrayRecord()),
    add("a-0007", ConfigRecord({"text": "go"})),
    add("metrics", MetricRecord({"auc": 1.0})),
    add(VALUES, MetricRecord({"round": 1})),
    value("sudo", True),
    value("x" * 300, 1),
]
NEVER = [-5, 0, 10**9, 2.0, float("nan"), "1", b"1", True, [1, 2]]
WITH_A_NETWORK: list[Spoil] = [
    drop(VALUES),
    drop("model"),
    drop("statistics"),
    *(value("round", never) for never in NEVER),
    *(add(name, record) for name in ("model", "statistics") for record in (ConfigRecord({"a": 1}), ArrayRecord())),
    add("model", ArrayRecord({"weight": Array(np.ones(3))})),
    add("model", ArrayRecord({"safetensors": Array("uint8", (4,), "safetensors", b"\x80\x04N.")})),
    *(arrays("model", each(lambda array, by=by: array + by)) for by in (np.nan, np.inf, 1e38, 2e6)),
    arrays("model", each(lambda array: array.astype(np.float64))),
    arrays("model", each(lambda array: np.append(array.ravel(), array.ravel()[:1]))),
    arrays("model", lambda found: {**found, "extra": np.ones(3, np.float32)}),
    arrays("model", lambda found: dict(list(found.items())[1:])),
    *(arrays("statistics", each(lambda array, by=by: np.full_like(array, by))) for by in (np.nan, 1e300)),
    arrays("statistics", each(lambda array: array[..., None])),
    arrays(
        "statistics", lambda found: {**found, "features.clinical.squares": -1 - abs(found["features.clinical.squares"])}
    ),
    arrays("statistics", lambda found: {**found, "class-weights.recurrence": np.ones(2)}),
    arrays("statistics", lambda found: dict(list(found.items())[1:])),
    add("rule_state", pack_arrays({"control/weight": np.ones(3, np.float32)})),  # of a rule without a half at the sites
]
ANY_VALUE = st.integers(-(2**62), 2**62) | st.floats() | st.text(max_size=20) | st.binary(max_size=20) | st.booleans()


@st.composite
def spoilt(draw: st.DrawFn, kind: str) -> Spoil:
    """One thing wrong with a request of a kind, or several, or a value that may be anything."""
    known = ANYWHERE + (WITH_A_NETWORK if kind.startswith(("train", "evaluate")) else [])
    anything = st.builds(value, st.text(min_size=1, max_size=20).map(lambda name: f"{name}?"), ANY_VALUE)
    first, *others = draw(st.lists(st.sampled_from(known) | anything, min_size=1, max_size=2))

    def spoil(content: RecordDict) -> RecordDict:
        content = first(content)
        for other in others:
            try:
                content = other(content)
            except (KeyError, ValueError):  # what it would spoil is spoilt already
                continue
        return content

    return spoil


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows whenever a message comes so far that patients are read; a handler runs only after it."""
    opened_paths: list[str] = []

    def open_session(*arguments: Any) -> Any:
        opened_paths.append("opened")
        return session.open_session(*arguments)

    monkeypatch.setattr(gate, "open_session", open_session)
    return opened_paths


@pytest.mark.parametrize("kind", KINDS)
def test_a_hostile_request_gets_one_sentence_a_line_in_the_audit_log_and_no_patient_is_read(
    center: Center, opened: list[str], kind: str
) -> None:
    good = center.requests()[kind].pack()
    lines = [0]

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(spoilt(kind))
    def hold(spoil: Spoil) -> None:
        reply = center.ask(kind, spoil(good))
        assert reply.has_error()
        reason = reply.error.reason
        assert "\n" not in reason
        assert UNEXPECTED not in reason
        assert len(reason) < 400
        assert "clinical.csv" not in reason
        assert str(center.file.parent) not in reason
        lines[0] += 1

    hold()
    assert opened == []
    audit = center.audit()
    assert [(line["event"], line["message"]) for line in audit] == [("refused", kind)] * lines[0]
    assert all("\n" not in line["why"] for line in audit)


@pytest.mark.parametrize("spoil", WITH_A_NETWORK, ids=range(len(WITH_A_NETWORK)))
def test_a_network_or_statistics_that_a_site_cannot_have_are_refused_before_a_patient_is_read(
    center: Center, opened: list[str], spoil: Spoil
) -> None:
    good = center.requests()["train"].pack()
    assert center.ask("train", spoil(good)).has_error()
    assert opened == []
    (line,) = center.audit()
    assert line["event"] == "refused"


def test_a_message_without_content_is_refused_like_any_other(center: Center) -> None:
    reply = center.ask("train", RecordDict())
    assert "the request cannot be read: round is missing" in reply.error.reason


def test_rounds_after_the_last_are_refused_and_the_others_are_answered(center: Center, opened: list[str]) -> None:
    asked = center.requests()["train"]
    assert isinstance(asked, TrainRequest)
    rounds = [1, 2, 3, 4, 59]
    replies = [center.ask("train", dataclasses.replace(asked, round=number).pack()) for number in rounds]
    assert [reply.has_error() for reply in replies] == [False, False, False, True, True]
    assert "the study has no such round" in replies[-1].error.reason
    assert len(opened) == 3


def counted(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, calls: Counter[str]) -> None:
    real = getattr(owner, name)

    def count(*arguments: Any, **keywords: Any) -> Any:
        calls[name] += 1
        return real(*arguments, **keywords)

    monkeypatch.setattr(owner, name, count)


@pytest.mark.parametrize("kind", ["query.prepare", "train", "evaluate.test"])
def test_a_message_opens_its_study_once(center: Center, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    calls: Counter[str] = Counter()
    for name in ("parse_study_settings", "check_approval", "check_policy", "load_task"):
        counted(monkeypatch, admission, name, calls)
    counted(monkeypatch, Parts, "of", calls)
    counted(monkeypatch, StudyStatistics, "unpack", calls)
    session.forget_cohorts()
    for _ in range(2):
        assert not center.ask(kind, center.requests()[kind].pack()).has_error()
    brings = int(issubclass(type(center.requests()[kind]), ModelRequest))
    per_message = {name: calls[name] / 2 for name in calls}
    assert per_message == {
        **dict.fromkeys(("parse_study_settings", "check_approval", "check_policy", "load_task", "of"), 1),
        **({"unpack": brings} if brings else {}),
    }


def test_approvals_are_verified_when_they_change_and_not_for_every_message(
    hospitals: Hospitals, small_study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = hospitals({"a": 60})["a"]
    reached = {"address": "center.example.org", "ca_certificate": "ca.crt", "private_key": "a"}
    file.write_text(file.read_text() + yaml.safe_dump({"center": reached}))
    center, calls = Center.of(file, small_study), Counter[str]()
    train = center.requests()["train"].pack()
    approval.approve(load_site(file), parse_study_settings(small_study))
    counted(monkeypatch, approval, "read", calls)
    assert [center.ask("train", train).has_error() for _ in range(3)] == [False] * 3
    assert calls["read"] == 1
    approval.revoke(load_site(file), small_study["study"])
    calls.clear()
    assert [center.ask("train", train).has_error() for _ in range(2)] == [True] * 2
    assert calls["read"] == 1
    approval.approve(load_site(file), parse_study_settings(small_study))
    record = approval.approvals_of(load_site(file))
    record.write_text(record.read_text().replace("approved", "Approved", 1))
    assert "damaged" in center.ask("train", train).error.reason


def test_what_leaves_a_site_is_coarse_whatever_its_handler_says(center: Center) -> None:
    reply = center.ask("evaluate.test", center.requests()["evaluate.test"].pack())
    metrics = EvaluateTestReply.unpack(reply.content).metrics["recurrence"]
    assert metrics["patients"] == 18
    values = [number for name, number in metrics.items() if name.startswith("c_index")]
    assert all(np.isnan(number) or round(number, 2) == number for number in values)


def test_what_is_answered_is_the_line_of_the_audit_log(center: Center) -> None:
    reply = center.ask("train", center.requests()["train"].pack())
    TrainReply.unpack(reply.content)
    (line,) = center.audit()
    assert (line["event"], line["message"], line["round"]) == ("sent", "train", 1)
    assert {"model/safetensors", "validation/safetensors", "values"} == set(line["parts"])
    json.dumps(line)


def test_a_center_of_another_release_is_refused_in_a_sentence_that_names_both(
    center: Center, caplog: pytest.LogCaptureFixture
) -> None:
    config = parse_study_settings(center.study)
    own = release_of(config)
    stamped = from_release(PrepareRequest().pack(), config)
    assert center.ask(PrepareRequest.KIND, stamped).has_content()
    for centers in (own.replace("task ", "task f"), "breast-federation 99.0, messages 0, task 0"):
        values = ConfigRecord({**stamped[VALUES], "release": centers, "unheard-of": 1})
        reply = center.ask(PrepareRequest.KIND, RecordDict({VALUES: values}))
        assert own in reply.error.reason
        assert centers[-40:] in reply.error.reason
        assert "install the same release at both" in reply.error.reason
    with caplog.at_level("WARNING", logger="client"):
        other = ConfigRecord({**stamped[VALUES], "release": own.replace("federation ", "federation 99")})
        assert center.ask(PrepareRequest.KIND, RecordDict({VALUES: other})).has_content()
    assert "the center runs another version" in caplog.text
    features = config.model_copy(update={"features": "clinical: age_years"})
    assert differ(own, release_of(features))


def test_no_difference_of_two_answers_is_a_patient_who_came_between_them(center: Center) -> None:
    """Asked before and after a table has one more row, exact sums would give that row."""
    table = center.file.parent / "clinical.csv"
    before = table.read_text()
    content = PrepareRequest().pack()
    assert not center.ask("query.prepare", content).has_error()
    table.write_text(before + "new-1,91,77.7,+,no,500\n")
    session.forget_cohorts()
    reply = center.ask("query.prepare", content)
    assert reply.has_error()
    assert "data have changed since the study's first question" in reply.error.reason
    head, *rows = before.splitlines()
    table.write_text("\n".join([head, *reversed(rows)]) + "\n")  # sorted otherwise they are the same
    session.forget_cohorts()
    assert not center.ask("query.prepare", content).has_error()
    table.write_text(before + "new-1,91,77.7,+,no,500\n")
    session.forget_cohorts()
    approval.approve(load_site(center.file), parse_study_settings(center.study))
    assert not center.ask("query.prepare", content).has_error(), "a person's new approval is of the data as they are"


def test_a_number_that_all_but_a_few_share_is_in_no_sum_that_one_site_tells(center: Center) -> None:
    """Of zeros and one patient's number the sum is that number."""
    table = center.file.parent / "clinical.csv"
    head, *rows = table.read_text().splitlines()
    for place, row in enumerate(rows):
        patient, age, _, *others = row.split(",")
        rows[place] = ",".join([patient, age, "77.7" if place < 9 else "0", *others])
    table.write_text("\n".join([head, *rows]) + "\n")
    sums = PrepareReply.unpack(center.ask("query.prepare", PrepareRequest().pack()).content).features["clinical"]
    assert sums.known[0] > 10
    assert sums.total[0] > 0
    assert sums.known[1] == sums.total[1] == sums.squares[1] == 0
