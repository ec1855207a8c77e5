"""Joining of a study: who is late is waited for, and costs nobody else an answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Context, Message
from flwr.app.error import Error
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode

from client.app import app as client_app
from client.config.site import load_site
from client.governance.approval import approve
from client.governance.budget import budget_of
from client.governance.chained_log import read
from server.app import run_study
from server.study import joining
from server.study.exchange import StudyError
from server.study.weights.checkpoint import load_checkpoint
from shared_models.study_settings import StudySettings, parse_study_settings
from simulation.engines.in_process_grid import InProcessGrid

Hospitals = Callable[..., dict[str, Path]]
Study = dict[str, Any]
PLAIN = {"sites": "a,b,c,d", "min-sites": 2, "rounds": 1, "secure-aggregation": "off"}
SECURE = {"sites": "a,b,c,d", "min-sites": 3, "rounds": 1, "secure-aggregation": "on"}


class LateApp(ClientApp):
    """The real ClientApp; before the message of a number something happens, as a person does it at a hospital."""

    def __init__(self, when: int, what: Callable[[], object]) -> None:
        super().__init__()
        self.when, self.what, self.messages = when, what, list[tuple[int, str]]()

    def __call__(self, message: Message, context: Context) -> Message:
        self.messages.append((context.node_id, message.metadata.message_type))
        if len(self.messages) == self.when:
            self.what()
        return client_app(message, context)


class ApprovedInRoundOne(LateApp):
    """The same, where it happens as soon as the first site trains."""

    def __init__(self, what: Callable[[], object]) -> None:
        super().__init__(-1, what)

    def __call__(self, message: Message, context: Context) -> Message:
        if message.metadata.message_type == "train" and self.when:
            self.when = 0
            self.what()
        return super().__call__(message, context)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "POLL_S", 0.005)


@pytest.fixture
def deployed(hospitals: Hospitals) -> dict[str, Path]:
    """Four hospitals that a center reaches; none takes part in what it has not approved."""
    files = hospitals(dict.fromkeys("abcd", 60))
    for name, file in files.items():
        center = {"address": "center.example.org", "ca_certificate": "ca.crt", "private_key": f"{name}.key"}
        file.write_text(file.read_text() + yaml.safe_dump({"center": center}))
        form = serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        key = ec.generate_private_key(ec.SECP384R1()).private_bytes(serialization.Encoding.PEM, *form)
        (file.parent / f"{name}.key").write_bytes(key)
    return files


def approving(sites: dict[str, Path], config: StudySettings, *names: str) -> None:
    for name in names:
        approve(load_site(sites[name]), config)


def prepared(sites: dict[str, Path], config: StudySettings) -> dict[str, int]:
    """How many `prepare` each hospital has counted."""
    budgets = {name: budget_of(load_site(file), config) for name, file in sites.items()}
    return {
        name: sum(line.get("message") == "query.prepare" for line in read(budget)) if budget.exists() else 0
        for name, budget in budgets.items()
    }


@pytest.mark.parametrize("settings", [PLAIN, SECURE], ids=["plain", "secure"])
def test_a_hospital_that_approves_late_is_waited_for_and_nobody_else_answers_twice(
    deployed: dict[str, Path], small_study: Study, settings: Study
) -> None:
    config = parse_study_settings({**small_study, **settings, "join-timeout-s": 60.0})
    approving(deployed, config, "a", "b", "c")
    app = LateApp(6, lambda: approving(deployed, config, "d"))
    results = run_study(InProcessGrid(app, deployed, config.to_flat()), config)
    assert results["rounds"][0]["counted"] == ["a", "b", "c", "d"]
    assert prepared(deployed, config) == dict.fromkeys("abcd", 1)
    first = app.messages[0][1]
    assert [node for node, kind in app.messages if kind == first][:6] == [1, 2, 3, 4, 4, 4]


@pytest.mark.parametrize("settings", [PLAIN, SECURE], ids=["plain", "secure"])
def test_at_the_time_out_a_study_goes_on_without_those_that_have_not_approved(
    deployed: dict[str, Path], small_study: Study, settings: Study
) -> None:
    config = parse_study_settings({**small_study, **settings, "join-timeout-s": 0.2})
    approving(deployed, config, "a", "b", "c")
    results = run_study(InProcessGrid(client_app, deployed, config.to_flat()), config)
    assert results["rounds"][0]["counted"] == ["a", "b", "c"]
    assert list(results["not_enrolled"]) == ["d"]
    assert "the site has not approved this study" in results["not_enrolled"]["d"]
    assert prepared(deployed, config) == {"a": 1, "b": 1, "c": 1, "d": 0}


def test_a_hospital_that_approves_while_the_study_runs_is_asked_again_and_trains(
    deployed: dict[str, Path], small_study: Study
) -> None:
    config = parse_study_settings({**small_study, **PLAIN, "rounds": 2, "join-timeout-s": 0.01})
    approving(deployed, config, "a", "b", "c")
    app = ApprovedInRoundOne(lambda: approving(deployed, config, "d"))
    results = run_study(InProcessGrid(app, deployed, config.to_flat()), config)
    assert [record["counted"] for record in results["rounds"]] == [["a", "b", "c"], ["a", "b", "c", "d"]]
    assert prepared(deployed, config) == dict.fromkeys("abcd", 1)


def test_too_few_approvals_spend_one_answer_of_those_that_have_approved(
    deployed: dict[str, Path], small_study: Study
) -> None:
    config = parse_study_settings({**small_study, **PLAIN, "min-sites": 4, "join-timeout-s": 0.2})
    approving(deployed, config, "a", "b", "c")
    with pytest.raises(StudyError, match=r"3 sites can train, .* d: the site has not approved this study"):
        run_study(InProcessGrid(client_app, deployed, config.to_flat()), config)
    assert prepared(deployed, config) == {"a": 1, "b": 1, "c": 1, "d": 0}


def test_a_hospital_whose_files_cannot_be_used_is_asked_as_often_as_an_attempt_and_holds_nobody_up(
    deployed: dict[str, Path], small_study: Study
) -> None:
    config = parse_study_settings({**small_study, **PLAIN, "join-timeout-s": 60.0})
    approving(deployed, config, *"abcd")
    (deployed["d"].parent / "clinical.csv").unlink()
    results = run_study(InProcessGrid(client_app, deployed, config.to_flat()), config)
    assert results["rounds"][0]["counted"] == ["a", "b", "c"]
    assert prepared(deployed, config) == {"a": 1, "b": 1, "c": 1, "d": 3}


class LosingGrid(InProcessGrid):
    """A grid where the first message to node 3 ends with its SuperNode."""

    lost = False

    def _handle(self, message: Message) -> Message:
        if message.metadata.dst_node_id != 3 or self.lost:
            return super()._handle(message)
        self.lost = True
        return Message(Error(ErrorCode.NODE_UNAVAILABLE, "the site's SuperNode ended"), reply_to=message)


def test_a_question_that_was_lost_on_its_way_is_asked_again_though_enough_sites_have_answered(
    deployed: dict[str, Path], small_study: Study
) -> None:
    config = parse_study_settings({**small_study, **PLAIN, "rounds": 1, "join-timeout-s": 60.0, "sites": ""})
    approving(deployed, config, *"abcd")
    results = run_study(LosingGrid(client_app, deployed, config.to_flat()), config)
    assert results["rounds"][0]["counted"] == ["a", "b", "c", "d"]
    assert prepared(deployed, config) == dict.fromkeys("abcd", 1)
    last = load_checkpoint(Path(config.results_dir) / config.study / "last.safetensors")
    trained = sum(counted.patients["train"] for counted in last.enrolled.values())
    assert last.statistics["features.clinical.patients"] == trained  # none of them is late
