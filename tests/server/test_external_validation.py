"""A finished network at a hospital that was not in its study, over the protocol and by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flwr.app import RecordDict

from client.admission import AdmittedStudy
from client.app import app as client_app
from client.config.site import load_site
from client.errors import SiteError
from client.external_validation import request_of, validate_by_hand, write_to_send
from client.gate import require_expected, require_validation
from server.__main__ import main as server_main
from server.app import run_study
from server.operations.center import Center
from server.operations.create import create_center
from server.study.exchange import StudyError
from server.study.results.results_file import read_results
from shared_models.external_validation import read_validation, validation_settings, write_validation
from shared_models.messages import EvaluateExternalReply, TrainRequest
from shared_models.messages.payload import fields_of
from shared_models.study_settings import StudySettings
from shared_models.trained_model import TrainedModel, read_model
from simulation.engines.in_process_grid import InProcessGrid

SITE = "elm"


@pytest.fixture
def model(finished_study: Any) -> TrainedModel:
    return read_model(finished_study.best)


def ask(finished_study: Any, config: StudySettings) -> Path:
    """Runs the validation over the protocol, and returns its folder."""
    config = config.model_copy(update={"results_dir": str(finished_study.folder.parent), "join_timeout_s": 1.0})
    run_study(InProcessGrid(client_app, finished_study.sites, config.to_flat()), config)
    return Path(config.results_dir) / config.study


def by_hand(finished_study: Any, model: TrainedModel, site: str = SITE) -> Path:
    file = finished_study.sites[site]
    validated = validate_by_hand(load_site(file), model, file)
    out = finished_study.folder / f"{site}.validation.json"
    write_to_send(load_site(file), model, validated, out)
    return out


def test_both_ways_give_the_same_numbers(finished_study: Any, model: TrainedModel, tmp_path: Path) -> None:
    folder = ask(finished_study, validation_settings(model, [SITE]))
    sent = by_hand(finished_study, model)
    assert (folder / "sites" / f"{SITE}.json").read_text() == sent.read_text()
    asked = read_results(folder.parent / "small" / "results.json").external_validation
    assert asked is not None
    assert asked.targets["recurrence"].external["patients"] == 150
    assert asked.sites[0].targets["recurrence"]["patients"] == 150
    assert all(not isinstance(v, float) or round(v, 2) == v for v in asked.sites[0].targets["recurrence"].values())

    center = tmp_path / "center"
    create_center(Center(center, "center.example.org:443", port=1))
    (center / "results").mkdir(exist_ok=True)
    finished_study.folder.rename(center / "results" / "small")
    words = ["validate", "small", "--file", str(center / "results" / "small" / sent.name), "--directory", str(center)]
    assert server_main(words) == 0
    added = read_results(center / "results" / "small" / "results.json").external_validation
    assert added is not None
    assert (added.targets, added.sites) == (asked.targets, asked.sites)


def test_a_file_reads_back_as_it_was_written_and_holds_no_small_cell(finished_study: Any, model: TrainedModel) -> None:
    sent = by_hand(finished_study, model)
    file = read_validation(sent)
    assert write_validation(file) == sent.read_text()
    assert set(fields_of(EvaluateExternalReply)) >= set(json.loads(sent.read_text())["arrays"])
    events = file.reply.external["recurrence.horizon.events"]
    assert events[events > 0].min() >= 10


def test_a_site_scores_no_other_network_and_not_one_that_it_trained(finished_study: Any, model: TrainedModel) -> None:
    def refusal(site: str, config: StudySettings) -> str:
        study = AdmittedStudy(
            config, load_site(finished_study.sites[site]), model.task, (Path(), None, None), RecordDict()
        )
        with pytest.raises(SiteError) as raised:
            require_validation(study, request_of(model))
        return raised.value.public

    settings = validation_settings(model, [SITE, "a"])
    other = settings.model_copy(update={"validates_sha256": "0" * 64})
    assert "not the one that the site approved" in refusal(SITE, other)
    assert "trained in that study" in refusal("a", settings)
    assert "would not score all" in refusal("b", settings)
    with pytest.raises(SiteError, match="trained on this site's patients"):
        by_hand(finished_study, model, "a")


def test_a_study_that_validates_trains_nothing(finished_study: Any, model: TrainedModel) -> None:
    config, asked = validation_settings(model, [SITE]), request_of(model)
    study = AdmittedStudy(config, load_site(finished_study.sites[SITE]), model.task, (Path(), None, None), RecordDict())
    train = TrainRequest(round=1, model=asked.model, statistics=asked.statistics)
    with pytest.raises(SiteError, match="an external validation and nothing else"):
        require_expected(study, train)
    with pytest.raises(StudyError, match="no site has scored"):
        ask(finished_study, validation_settings(model, ["a"]))


@pytest.mark.parametrize("spoil", ["sha256", "site", "arrays", "values"])
def test_a_file_that_is_not_of_this_network_is_not_added(
    finished_study: Any, model: TrainedModel, spoil: str, tmp_path: Path
) -> None:
    sent = by_hand(finished_study, model)
    content = json.loads(sent.read_text())
    content[spoil] = {"sha256": "0" * 64, "site": "a", "arrays": {}, "values": {"patients": "many"}}[spoil]
    sent.write_text(json.dumps(content))
    create_center(Center(tmp_path / "center", "center.example.org:443", port=1))
    finished_study.folder.rename(tmp_path / "center" / "results" / "small")
    moved = tmp_path / "center" / "results" / "small"
    words = ["validate", "small", "--file", str(moved / sent.name), "--directory", str(tmp_path / "center")]
    assert server_main(words) == 4
    assert read_results(moved / "results.json").external_validation is None
