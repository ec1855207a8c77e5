"""One real round of a study at all of its sites, of which a verdict for each stays."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.admission import AdmittedStudy
from client.app import app as client_app
from client.config.site import load_site
from client.gate import require_expected
from server.app import run_study
from server.study.canary import canary_settings, verdicts
from server.study.enrolment import Enrolment
from server.study.exchange import StudyError
from server.study.progress import begin_progress
from server.study.weights.checkpoint import Checkpoint
from shared_models.messages import EvaluateValidationRequest, TrainRequest
from shared_models.study_settings import StudySettings, parse_study_settings
from simulation.engines.in_process_grid import InProcessGrid

Hospitals = Callable[..., dict[str, Path]]


def canary_of(study: dict[str, Any], sites: str) -> StudySettings:
    return canary_settings(parse_study_settings({**study, "sites": sites, "secure-aggregation": "off"}))


def run(sites: dict[str, Path], config: StudySettings) -> tuple[Path, dict[str, Any]]:
    """The canary's folder, and what it stores."""
    folder = Path(config.results_dir) / config.study
    with contextlib.suppress(StudyError):
        run_study(InProcessGrid(client_app, sites, config.to_flat()), config)
    return folder, json.loads((folder / "canary.json").read_text())


def test_a_canary_trains_one_round_everywhere_and_stores_verdicts_alone(
    hospitals: Hospitals, small_study: dict[str, Any]
) -> None:
    sites = hospitals({"a": 60, "b": 60, "outside": 40}, evaluate_only=("outside",))
    config = canary_of(small_study, "a,b,outside")
    folder, stored = run(sites, config)
    assert stored["works"]
    assert [(one["site"], one["works"], one["why"]) for one in stored["sites"]] == [
        ("a", True, ""),
        ("b", True, ""),
        ("outside", True, ""),
    ]
    assert {path.name.split(".")[0] for path in folder.iterdir() if not path.name.startswith(".")} == {
        "audit",
        "canary",
    }
    asked = [json.loads(line) for line in (folder / "audit.jsonl").read_text().splitlines()]
    assert {(line["site"], line["message"], line["round"]) for line in asked if line["event"] == "received"} == {
        *((name, "query.prepare", 0) for name in sites),
        ("a", "train", 1),
        ("b", "train", 1),
    }


def test_a_canary_of_which_a_site_is_away_or_breaks_fails_and_says_whose_fault_it_is(
    hospitals: Hospitals, small_study: dict[str, Any]
) -> None:
    sites = hospitals({"a": 60, "b": 60, "c": 60})
    table = sites["b"].parent / "clinical.csv"
    table.write_text(table.read_text().replace(",+,", ",odd,"))
    canary = canary_of({**small_study, "join-timeout-s": 0.5}, "a,b,c")
    for there, faults in (
        ("ab", {"a": "not asked", "b": "not asked", "c": "not connected"}),
        ("abc", {"b": "holds a value that cannot be read"}),
    ):
        _, stored = run({name: sites[name] for name in there}, canary)
        assert not stored["works"]
        failed = {one["site"]: one["why"] for one in stored["sites"] if not one["works"]}
        assert failed.keys() == faults.keys()
        assert all(faults[site] in why for site, why in failed.items())


def test_a_site_answers_nothing_in_a_canary_beyond_its_first_round(
    finished_study: Any, small_study: dict[str, Any]
) -> None:
    from shared_models.trained_model import read_model

    model = read_model(finished_study.best)
    site = load_site(finished_study.sites["a"])
    study = AdmittedStudy(canary_of(small_study, "a,b"), site, model.task, (Path(), None, None), None)
    parts = {"model": model.weights, "statistics": model.statistics.pack()}
    require_expected(study, TrainRequest(round=1, **parts))
    for request in (TrainRequest(round=2, **parts), EvaluateValidationRequest(round=1, **parts)):
        with pytest.raises(Exception, match="what comes before round 1") as raised:
            require_expected(study, request)
        assert "a canary has one round and no test" in raised.value.public


def test_a_problem_that_was_over_before_the_round_counted_is_no_verdict(small_study: dict[str, Any]) -> None:
    config = canary_of(small_study, "late,bad,away")
    progress = begin_progress(config)
    progress.here({"late", "bad"}, config.expected_sites)
    progress.asked(["late", "bad"], "query.prepare")
    progress.failed({"late": "it has not approved these settings"})
    site = Enrolment(True, {"train": 50, "validation": 0, "test": 0}, {"clinical": 50}, 0)
    record = {"counted": ["late"], "problems": {"bad": "its weights are not finite"}}
    state = Checkpoint(config.to_flat(), 1, {}, {}, {"late": site, "bad": site}, history=(record,))
    by_site = {one.site: (one.works, one.why) for one in verdicts(config, state, progress.state)}
    assert by_site == {
        "late": (True, ""),
        "bad": (False, "its weights are not finite"),
        "away": (False, "not connected"),
    }
    before = {one.site: one.why for one in verdicts(config, None, progress.state)}
    assert before == {"late": "it has not approved these settings", "bad": "", "away": "not connected"}
    progress.heard("late", 0.0, 1.0)
    assert [one.why for one in verdicts(config, None, progress.state)] == ["", "", "not connected"]


def test_a_canary_deletes_nothing_of_a_study(hospitals: Hospitals, small_study: dict[str, Any]) -> None:
    """As where a study's own settings say `canary = true` and `resume = true`."""
    config = parse_study_settings({**small_study, "sites": "a", "canary": True, "resume": True})
    weights = Path(config.results_dir) / config.study / "best.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    with pytest.raises(StudyError):
        run_study(InProcessGrid(client_app, hospitals({"a": 20}), config.to_flat()), config)
    assert weights.read_bytes() == b"weights"


def test_the_canary_of_a_canary_is_itself_and_a_long_name_has_one_too(small_study: dict[str, Any]) -> None:
    config = canary_of(small_study, "a,b")
    assert canary_settings(config) == config
    named = canary_of({**small_study, "study": "s" * 64}, "a,b").study
    assert named.endswith("-canary")
    assert len(named) == 64


def test_a_canary_needs_the_names_of_its_sites(small_study: dict[str, Any]) -> None:
    with pytest.raises(StudyError, match="no site is named"):
        canary_settings(parse_study_settings(small_study))
    with pytest.raises(StudyError, match="none trains"):
        canary_settings(parse_study_settings({**small_study, "sites": "a", "compares": "one, two"}))
