"""First weights from a file, and weights that stay as they are: whole studies, over real files."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from client.app import app as client_app
from client.config.site import load_site
from server.app import run_study
from server.study.exchange import StudyError
from server.study.weights.checkpoint import LAST, load_checkpoint
from server.study.weights.initial_weights import from_file
from shared_models.messages import InitialWeightsRequest, TrainReply, TrainRequest
from shared_models.messages.arrays import hash_arrays
from shared_models.settings import SettingsError
from shared_models.study_settings import parse_study_settings
from shared_models.task import load_task
from simulation.engines.in_process_grid import InProcessGrid

Study = dict[str, Any]
Hospitals = Callable[..., dict[str, Path]]
TRAINED = "hazards.*, *.linear.*"  # the hidden layers of the tables stay
THREE = {"a": 30, "b": 30, "c": 30}


class Listener(ClientApp):
    """The real ClientApp; notes what it is asked and what it answers, and may be meddled with on the way."""

    def __init__(self, meddle: Callable[[Message], Message] = lambda message: message) -> None:
        super().__init__()
        self.seen: list[tuple[int, Message, Message]] = []
        self.meddle = meddle

    def __call__(self, message: Message, context: Context) -> Message:
        message = self.meddle(message)
        reply = client_app(message, context)
        self.seen.append((context.node_id, message, reply))
        return reply


def run(sites: dict[str, Path], study: Study, app: ClientApp = client_app) -> dict[str, Any]:
    config = parse_study_settings(study)
    return run_study(InProcessGrid(app, sites, config.to_flat()), config)


def last(study: Study) -> dict[str, np.ndarray]:
    return load_checkpoint(Path(study["results-dir"]) / study["study"] / LAST).model


@pytest.fixture
def study(small_study: Study) -> Study:
    return {**small_study, "rounds": 2, "hidden-units": 4, "local-epochs": 1}


@pytest.fixture
def earlier(hospitals: Hospitals, study: Study) -> tuple[dict[str, Path], Study]:
    """Three hospitals, and a study that starts from the checkpoint of one that they have finished."""
    sites, first = hospitals(THREE), {**study, "study": "first", "secure-aggregation": "off"}
    run(sites, first)
    file = str(Path(study["results-dir"]) / "first" / LAST)
    return sites, {**study, "study": "second", "initial-weights": "file", "initial-weights-file": file}


@pytest.mark.parametrize(
    "ways",
    [{"secure-aggregation": "on", "min-sites": 3}, {"secure-aggregation": "off", "strategy": "scaffold"}],
    ids=["secure aggregation", "scaffold"],
)
def test_what_is_not_trained_travels_once_and_never_changes(hospitals: Hospitals, study: Study, ways: Study) -> None:
    frozen = {**study, **ways, "trained": TRAINED}
    app = Listener()
    results = run(hospitals(THREE), frozen, app)
    (first, *again) = [m for _, m, _ in app.seen if m.metadata.message_type == InitialWeightsRequest.KIND]
    start, end = InitialWeightsRequest.unpack(first.content).model, last(frozen)
    assert len(again) == 2  # one for each site, and none later
    moved = {name for name in start if not np.array_equal(start[name], end[name])}
    still = {name for name in start if ".deep." in name or "absent" in name}
    assert len(still) > 1
    assert moved == set(start) - still
    for _, message, _ in app.seen:
        if message.metadata.message_type == TrainRequest.KIND and ways["secure-aggregation"] == "off":
            assert set(TrainRequest.unpack(message.content).model) == set(start) - still
    assert results["start"]["frozen"] == sum(start[name].size for name in still)
    assert "stayed as they started" in results["start"]["said"]


def test_private_training_of_a_part_moves_that_part_alone(hospitals: Hospitals, study: Study) -> None:
    ways = {"privacy": "patient", "trained": TRAINED, "secure-aggregation": "off", "noise-multiplier": 2.0}
    app = Listener()
    run(hospitals({"a": 30, "b": 30}), {**study, **ways, "rounds": 1}, app)
    replies = [TrainReply.unpack(r.content) for _, m, r in app.seen if m.metadata.message_type == TrainRequest.KIND]
    assert len(replies) == 2
    assert all(not any(".deep." in name for name in reply.model) for reply in replies)


def test_a_study_goes_on_from_the_weights_of_another(earlier: tuple[dict[str, Path], Study]) -> None:
    sites, second = earlier
    with pytest.raises(SettingsError) as error:
        run(sites, second)
    digest = re.search(r"[0-9a-f]{64}", str(error.value))
    assert digest
    assert "hospitals approve" in str(error.value)
    own = from_file(load_task(parse_study_settings(second)), parse_study_settings(second)).arrays
    assert digest[0] == hash_arrays(own)
    app = Listener()
    results = run(sites, {**second, "initial-weights-sha256": digest[0]}, app)
    before = last({**second, "study": "first"})
    first = next(TrainRequest.unpack(m.content) for _, m, _ in app.seen if m.metadata.message_type == TrainRequest.KIND)
    assert {name for name in before if not np.array_equal(before[name], first.model[name])} <= {"hazards.bias"}
    assert results["start"] | {"said": "", "numbers": 0} == {
        "source": "file",
        "format": "study",
        "sha256": digest[0],
        "arrays": len(before) - 1,
        "expected": len(before) - 1,
        "share": 1.0,
        "numbers": 0,
        "frozen": 0,
        "said": "",
    }


@pytest.mark.parametrize("kind", [InitialWeightsRequest, TrainRequest])
def test_a_site_refuses_first_weights_that_it_has_not_approved(
    earlier: tuple[dict[str, Path], Study], kind: Any
) -> None:
    """A center that says it starts from a file, and sends other weights; in either message that brings them."""
    sites, second = earlier
    with pytest.raises(SettingsError) as error:
        run(sites, second)
    digest = re.findall(r"[0-9a-f]{64}", str(error.value))[0]

    def meddle(message: Message) -> Message:
        if message.metadata.message_type == kind.KIND:
            request = kind.unpack(message.content)
            name = "tokens.encoders.clinical.linear.weight"
            request.model[name] = request.model[name] + np.float32(1e-6)
            message.content = request.pack()
        return message

    with pytest.raises(StudyError, match=r"not those that the site approved|lacks the study's first weights"):
        run(sites, {**second, "initial-weights-sha256": digest, "round-attempts": 1}, Listener(meddle))


def test_a_site_that_has_lost_frozen_weights_gets_them_again(hospitals: Hospitals, study: Study) -> None:
    sites = hospitals(THREE)
    frozen = {**study, "trained": TRAINED, "secure-aggregation": "off", "min-sites": 3}
    file = load_site(sites["b"]).state_dir / "initial_weights" / "small.safetensors"

    def lose(message: Message) -> Message:
        if message.metadata.message_type == TrainRequest.KIND and TrainRequest.unpack(message.content).round == 2:
            lost.append(file.unlink()) if not lost else None
        return message

    lost: list[None] = []
    results = run(sites, frozen, Listener(lose))
    assert len(lost) == 1
    assert [(r["round"], r["attempt"], len(r["counted"])) for r in results["rounds"]] == [
        (1, 1, 3),
        (2, 1, 2),
        (2, 2, 3),
    ]
    assert "lacks the study's first weights" in results["rounds"][1]["problems"]["b"]


class Swapping(ClientApp):
    """A center that gives node 2 other weights to keep, right before it trains in one of the rounds.

    Its message means those; with `lies` the ones that the others keep.
    """

    def __init__(self, server_round: int, lies: bool) -> None:
        super().__init__()
        self.round, self.lies = server_round, lies
        self.first: InitialWeightsRequest | None = None

    def __call__(self, message: Message, context: Context) -> Message:
        if message.metadata.message_type == InitialWeightsRequest.KIND:
            self.first = InitialWeightsRequest.unpack(message.content)
        values = message.content.config_records["values"]
        if message.metadata.message_type == TrainRequest.KIND and (context.node_id, values["round"]) == (2, self.round):
            assert self.first
            first_weights = {
                name: array for name, array in self.first.model.items() if ".deep." in name or "absent" in name
            }
            other = {name: np.zeros_like(array) for name, array in first_weights.items()}
            swapped = replace(self.first, model={**self.first.model, **other})
            client_app(Message(swapped.pack(), 2, swapped.KIND), context)
            if not self.lies:
                message = deepcopy(message)  # in one process all sites are sent the same
                message.content.config_records["values"]["frozen"] = hash_arrays(other)
        return client_app(message, context)


@pytest.mark.parametrize(
    ("ways", "server_round", "lies", "message"),
    [
        ({"secure-aggregation": "on"}, 1, False, "it saw something else than the others"),
        ({"secure-aggregation": "off"}, 2, False, "not those of the study's first question"),
        ({"secure-aggregation": "off"}, 1, True, "lacks the study's first weights"),
    ],
    ids=["other weights for one site of a sum", "other weights later", "other weights than the message means"],
)
def test_weights_that_stay_are_those_of_the_first_question_and_of_all_sites(
    hospitals: Hospitals, study: Study, ways: Study, server_round: int, lies: bool, message: str
) -> None:
    """Else the center chooses the network anew: zeros at all sites but one leave that one's update in the sum."""
    asked = {**study, **ways, "trained": TRAINED, "min-sites": 3, "round-attempts": 1}
    results = run(hospitals({**THREE, "d": 30}), asked, Swapping(server_round, lies))
    record = results["rounds"][server_round - 1]
    assert record["counted"] == ["a", "c", "d"]
    assert message in record["problems"]["b"]


def test_a_network_of_which_a_pattern_names_nothing_is_refused_before_anybody_is_asked(study: Study) -> None:
    with pytest.raises(SettingsError, match=r"no weight of recurrence_clinical is called 'hazard'; did you mean"):
        run({}, {**study, "trained": "hazard"})
    with pytest.raises(SettingsError, match="has no backbone in this study"):
        run({}, {**study, "trained": "heads"})
