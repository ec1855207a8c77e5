"""The whole study in one process, with sites that misbehave as real ones do."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from safetensors.numpy import save

from client.app import app as client_app
from client.config.site import load_site
from client.governance.budget import renew
from server.app import run_study
from server.report.study import Study as ReportedStudy
from server.report.verdict import verdict
from server.study import joining
from server.study.exchange import StudyError
from server.study.results.results_file import read_results
from server.study.results.table import print_table
from server.study.weights.checkpoint import load_checkpoint, save_checkpoint
from shared_models.messages import EvaluateTestReply, TrainReply, TrainRequest
from shared_models.report_answers import parse_answers
from shared_models.settings import SettingsError
from shared_models.study_settings import parse_study_settings
from simulation.engines.budgets import begin_budgets
from simulation.engines.in_process_grid import InProcessGrid

Study = dict[str, Any]
Hospitals = Callable[..., dict[str, Path]]
Change = Callable[[Message], Message]
Model = dict[str, np.ndarray]


class MeddledApp(ClientApp):
    """The real ClientApp, whose replies to one kind of message from one node are changed."""

    def __init__(self, node: int, kind: str, change: Change) -> None:
        super().__init__()
        self.node, self.kind, self.change = node, kind, change

    def __call__(self, message: Message, context: Context) -> Message:
        reply = client_app(message, context)
        meddle = context.node_id == self.node and message.metadata.message_type == self.kind
        return self.change(reply) if meddle else reply


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "POLL_S", 0.005)


def run(sites: dict[str, Path], study: Study, app: ClientApp = client_app) -> dict[str, Any]:
    config = parse_study_settings(study)
    return run_study(InProcessGrid(app, sites, config.to_flat()), config)


def set_patients(count: float) -> Change:
    def change(reply: Message) -> Message:
        reply.content["values"]["patients"] = count
        return reply

    return change


def set_model(edit: Callable[[Model], Model]) -> Change:
    def change(reply: Message) -> Message:
        sent = TrainReply.unpack(reply.content)
        reply.content = replace(sent, model=edit(dict(sent.model))).pack()
        return reply

    return change


def set_content(edit: Callable[[RecordDict], object]) -> Change:
    def change(reply: Message) -> Message:
        edit(reply.content)
        return reply

    return change


def crash(reply: Message) -> Message:
    msg = "the site's process died"
    raise RuntimeError(msg)


FAULTS: list[tuple[str, Change]] = [
    ("NaN or infinity", set_model(lambda model: {name: array * np.nan for name, array in model.items()})),
    ("expected float32", set_model(lambda model: {name: np.tile(array, 2) for name, array in model.items()})),
    ("missing or unknown", set_model(lambda model: {**model, "extra": np.ones(1)})),
    ("claims 9000000 training patients", set_patients(9_000_000)),
    ("patients is -3, expected a whole number", set_patients(-3)),
    ("patients is 1000000000000.0, expected a whole number", set_patients(1e12)),
    ("the reply cannot be read: model is missing", set_content(lambda content: content.pop("model"))),
    (
        "the reply cannot be read: it holds what no such",
        set_content(lambda content: content.update(rows=ArrayRecord())),
    ),
    ("the site's process died", crash),
]


@pytest.mark.parametrize(("reason", "change"), FAULTS, ids=[reason for reason, _ in FAULTS])
def test_one_bad_site_is_named_and_the_study_goes_on_with_the_rest(
    hospitals: Hospitals, small_study: Study, reason: str, change: Change
) -> None:
    sites = hospitals({"a": 160, "b": 120, "c": 140})
    results = run(sites, {**small_study, "validation-fraction": 0.3}, MeddledApp(2, "train", change))
    assert results["rounds_completed"] == 3
    for record in results["rounds"]:
        assert record["asked"] == ["a", "b", "c"]
        assert record["counted"] == ["a", "c"]
        assert reason in record["problems"]["b"]
    best = load_checkpoint(Path(small_study["results-dir"]) / "small" / "best.safetensors")
    assert all(np.isfinite(array).all() for array in best.model.values())


@pytest.mark.report
def test_a_round_below_min_sites_does_not_count_and_the_study_fails_loudly(
    hospitals: Hospitals, small_study: Study
) -> None:
    sites = hospitals({"a": 60, "b": 60})
    study = {**small_study, "round-attempts": 2}
    with pytest.raises(StudyError, match="round 1 failed 2 times; the study stops after round 0"):
        run(sites, study, MeddledApp(1, "train", crash))
    folder = Path(small_study["results-dir"]) / "small"
    assert not (folder / "results.json").exists()
    stopped = load_checkpoint(folder / "last.safetensors")
    assert stopped.round == 0
    assert [record["attempt"] for record in stopped.history] == [1, 2]
    assert stopped.history[0]["problems"] == {"a": "the site's process died"}
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "round 1 failed 2 times; the study stops after round 0" in page
    assert "a did not count in 1 of 1 rounds" in page


def test_a_blip_in_a_round_is_tried_again(hospitals: Hospitals, small_study: Study) -> None:
    calls = iter(range(100))
    blip = MeddledApp(1, "train", lambda reply: crash(reply) if next(calls) == 1 else reply)
    results = run(hospitals({"a": 60, "b": 60}), small_study, blip)
    assert results["rounds_completed"] == 3
    assert [(record["round"], record["attempt"]) for record in results["rounds"]] == [(1, 1), (2, 1), (2, 2), (3, 1)]


@pytest.mark.parametrize("kind", ["evaluate.validation", "evaluate.test"])
def test_a_blip_in_an_evaluation_is_asked_again_at_that_site_alone(
    hospitals: Hospitals, small_study: Study, kind: str
) -> None:
    asked = list[int]()

    def blip(reply: Message) -> Message:
        asked.append(1)
        return crash(reply) if len(asked) == 1 else reply

    results = run(hospitals({"a": 60, "b": 60}), {**small_study, "rounds": 1}, MeddledApp(1, kind, blip))
    assert (len(asked), results["problems"]) == (2, {})
    assert all(site["targets"]["recurrence"]["patients"] for site in results["sites"])
    assert results["validation"][-1][0] == 1


def test_a_test_at_some_of_the_sites_says_so_before_any_figure(
    hospitals: Hospitals, small_study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    def empty_scores(reply: Message) -> Message:
        sent = EvaluateTestReply.unpack(reply.content)
        reply.content = replace(sent, test={"recurrence.events": np.ones(3)}).pack()
        return reply

    sites = hospitals({"a": 60, "b": 60, "c": 60})
    results = run(sites, {**small_study, "rounds": 1}, MeddledApp(2, "evaluate.test", empty_scores))
    assert "the reply cannot be read" in results["problems"]["b"]
    written = read_results(Path(small_study["results-dir"]) / "small" / "results.json")
    print_table(written)
    assert capsys.readouterr().out.startswith("PARTIAL TEST: 2 of 3 sites gave test scores; the figures lack")
    sentence = verdict(ReportedStudy(written, parse_answers(""))).says[0]
    assert sentence == "Only 2 of three hospitals gave test scores: the figures lack test patients of b."


def test_a_test_at_too_few_sites_fails_and_is_asked_again_by_resuming(hospitals: Hospitals, small_study: Study) -> None:
    sites = hospitals({"a": 60, "b": 60})
    study = {**small_study, "rounds": 1, "round-attempts": 2}
    away = MeddledApp(2, "evaluate.test", crash)
    with pytest.raises(
        StudyError, match=r"the test failed: 1 of 2 sites that train gave .* b: the site's process died"
    ):
        run(sites, study, away)
    assert not (Path(small_study["results-dir"]) / "small" / "results.json").exists()
    renew(load_site(sites["b"]), parse_study_settings(study))
    results = run(sites, {**study, "resume": True})
    assert (results["rounds_completed"], results["problems"]) == (1, {})


def test_too_few_sites_at_the_start_is_an_error_that_says_who_and_why(hospitals: Hospitals, small_study: Study) -> None:
    sites = hospitals({"a": 60, "b": 60})
    (sites["b"].parent / "clinical.csv").unlink()
    with pytest.raises(StudyError, match="1 sites can train, but the study needs min-sites = 2") as error:
        run(sites, small_study)
    assert "b: " in str(error.value)
    assert str(sites["b"].parent) not in str(error.value)


def test_sites_that_never_come_are_named(hospitals: Hospitals, small_study: Study) -> None:
    study = {**small_study, "sites": "a,b,duke", "min-sites": 3, "join-timeout-s": 0.1}
    with pytest.raises(StudyError, match=r"only 2 of at least 3 sites came .* missing: duke"):
        run(hospitals({"a": 60, "b": 60}), study)


def test_no_error_text_of_a_site_reaches_the_center_but_its_public_sentence(
    hospitals: Hospitals, small_study: Study
) -> None:
    sites = hospitals({"a": 60, "b": 60, "c": 60})
    table = sites["b"].parent / "clinical.csv"
    table.write_text(table.read_text().replace("b-0007,", "b-0008,"))
    results = run(sites, small_study)
    text = json.dumps(results)
    assert "b-0008" not in text
    assert "clinical.csv" not in text
    assert [site["site"] for site in results["sites"]] == ["a", "c"]


def test_a_site_that_only_validates_is_scored_and_never_asked_to_train(
    hospitals: Hospitals, small_study: Study
) -> None:
    sites = hospitals({"a": 80, "b": 80, "outside": 50}, evaluate_only=("outside",))
    results = run(sites, small_study)
    assert all(record["asked"] == ["a", "b"] for record in results["rounds"])
    outside = results["sites"][2]
    assert (outside["site"], outside["role"]) == ("outside", "evaluate")
    assert outside["patients"] == {"train": 0, "validation": 0, "test": 50}
    assert outside["targets"]["recurrence"]["patients"] == 50
    assert 0 < outside["targets"]["recurrence"]["c_index"] <= 1
    # the coordinator may say the same of a site that would train
    again = run(sites, {**small_study, "study": "again", "evaluation-only-sites": "b", "min-sites": 1})
    assert {site["site"]: site["role"] for site in again["sites"]} == {
        "a": "train",
        "b": "evaluate",
        "outside": "evaluate",
    }


@pytest.mark.parametrize("strategy", ["scaffold", "fedyogi"])
def test_a_resumed_study_gives_the_numbers_of_one_that_never_stopped(
    hospitals: Hospitals, small_study: Study, tmp_path: Path, strategy: str
) -> None:
    sites = hospitals({"a": 160, "b": 120})
    study = {**small_study, "strategy": strategy, "rounds": 6, "validation-fraction": 0.3}
    whole = run(sites, {**study, "results-dir": str(tmp_path / "whole")})

    stops = {**study, "results-dir": str(tmp_path / "stops")}
    calls = iter(range(100))
    dies_in_round_4 = MeddledApp(1, "train", lambda reply: crash(reply) if next(calls) >= 3 else reply)
    with pytest.raises(StudyError, match="stops after round 3"):
        run(sites, {**stops, "round-attempts": 1}, dies_in_round_4)
    for file in sites.values():
        renew(load_site(file), parse_study_settings(study))  # of the whole study, whose settings are the same
    resumed = run(sites, {**stops, "resume": True})

    for part in ("validation", "sites", "targets", "best_round"):
        assert resumed[part] == whole[part]
    for name in ("best", "last"):
        one = load_checkpoint(tmp_path / "whole" / "small" / f"{name}.safetensors")
        other = load_checkpoint(tmp_path / "stops" / "small" / f"{name}.safetensors")
        assert one.round == other.round
        for key, array in one.model.items():
            np.testing.assert_array_equal(array, other.model[key])


def test_resuming_another_study_is_refused_and_one_with_more_rounds_says_who_must_approve_it(
    hospitals: Hospitals, small_study: Study, caplog: pytest.LogCaptureFixture
) -> None:
    sites = hospitals({"a": 60, "b": 60})
    run(sites, small_study)
    with pytest.raises(StudyError, match="cannot resume 'small': learning-rate differ"):
        run(sites, {**small_study, "learning-rate": 0.5, "resume": True})
    longer = run(sites, {**small_study, "rounds": 4, "resume": True})
    assert longer["rounds_completed"] == 4
    assert "rounds is 4, was 3: hospitals approved the study as it was" in caplog.text
    caplog.clear()
    run(sites, {**small_study, "rounds": 4, "resume": True})
    assert "hospitals approved" not in caplog.text, "the checkpoint has the rounds that it was resumed with"


@pytest.mark.report
def test_results_stay_until_a_round_of_the_run_that_replaces_them_counts(
    hospitals: Hospitals, small_study: Study
) -> None:
    sites, folder = hospitals({"a": 60, "b": 60}), Path(small_study["results-dir"]) / "small"
    run(sites, {**small_study, "rounds": 1})

    def result() -> dict[str, bytes]:
        names = ("results.json", "best.safetensors", "last.safetensors", "report.html")
        return {name: (folder / name).read_bytes() for name in names}

    def stopped(message: Message, context: Context) -> Message:
        if message.metadata.message_type == "train":
            raise KeyboardInterrupt
        return client_app(message, context)

    before, anew = result(), {**small_study, "rounds": 1, "seed": 1, "overwrite": True}
    with pytest.raises(StudyError, match="sites came"):
        run({}, {**anew, "join-timeout-s": 0.1})
    assert result() == before
    with pytest.raises(KeyboardInterrupt):
        run(sites, anew, stopped)  # type: ignore[arg-type]
    assert result() == before
    run(sites, {**anew, "seed": 2})
    assert all(result()[name] != before[name] for name in before)


def test_a_checkpoint_of_another_version_of_the_program_is_not_resumed(
    hospitals: Hospitals, small_study: Study
) -> None:
    sites, folder = hospitals({"a": 60, "b": 60}), Path(small_study["results-dir"]) / "small"
    run(sites, {**small_study, "rounds": 1})
    last = load_checkpoint(folder / "last.safetensors")
    save_checkpoint(replace(last, package_version="0.0.9"), folder / "last.safetensors")
    with pytest.raises(StudyError, match=r"cannot resume 'small': version 0\.0\.9 trained it, this is"):
        run(sites, {**small_study, "rounds": 2, "resume": True})


@pytest.mark.parametrize("name", ["results.json", "best.safetensors"])
def test_nothing_that_an_earlier_release_left_in_the_folder_is_overwritten(
    hospitals: Hospitals, small_study: Study, name: str
) -> None:
    file = Path(small_study["results-dir"]) / "small" / name
    file.parent.mkdir(parents=True)
    file.write_bytes(b"{}" if name == "results.json" else save({"model:w": np.ones(2)}, metadata={"study": "{}"}))
    before = file.read_bytes()
    with pytest.raises(StudyError, match="run the study under another `study` name"):
        run(hospitals({"a": 60, "b": 60}), small_study)
    assert file.read_bytes() == before


def test_a_rule_that_needs_single_updates_is_refused_before_any_site_is_asked(
    hospitals: Hospitals, small_study: Study
) -> None:
    secure = {"secure-aggregation": True, "min-sites": 3, "strategy": "fedmedian"}
    with pytest.raises(SettingsError, match="fedmedian compares the sites' single updates"):
        run({}, {**small_study, **secure})


@pytest.mark.parametrize("strategy", ["fedavg", "fedmedian", "trimmed-mean", "krum"])
def test_one_hostile_site_of_five_does_not_spoil_the_study_at_any_scale(
    hospitals: Hospitals, small_study: Study, strategy: str
) -> None:
    """It pulls towards a network that ranks everybody the wrong way round, with all weights within the guard."""
    sites = hospitals(dict.fromkeys("abcde", 150))
    settings = {"rounds": 6, "strategy": strategy, "wire": "float32", "overwrite": True}
    config = parse_study_settings({**small_study, **settings})

    def pooled(scale: float) -> tuple[float, dict[str, Any]]:
        def hostile(message: Message, context: Context) -> Message:
            reply = client_app(message, context)
            if scale and message.metadata.message_type == "train" and context.node_id == 5:
                sent, own = TrainRequest.unpack(message.content).model, TrainReply.unpack(reply.content)
                far = {name: sent[name] - scale * (own.model[name] + sent[name]) for name in sent}
                reply.content = replace(own, model={n: a.astype(np.float32) for n, a in far.items()}).pack()
            return reply

        begin_budgets(sites, config)  # of the same settings again
        results = run_study(InProcessGrid(hostile, sites, config.to_flat()), config)
        return results["targets"]["recurrence"]["pooled"]["c_index_within_sites"], results

    honest, _ = pooled(0)
    for scale in (1.0, 1e4) if strategy == "fedavg" else (1e4,):
        c_index, results = pooled(scale)
        assert c_index > honest - 0.02
        assert results["aggregation"]["clipped"] == {"e": 6}
        assert min(record["updates"]["e"]["cosine"] for record in results["rounds"]) < 0


def test_the_study_learns_what_was_planted(hospitals: Hospitals, small_study: Study) -> None:
    results = run(hospitals({"a": 300, "b": 200, "c": 200}), {**small_study, "rounds": 8})
    pooled = results["targets"]["recurrence"]["pooled"]
    assert pooled["c_index"] > 0.7
    assert pooled["c_index_low"] < pooled["c_index"] < pooled["c_index_high"]
    assert results["best_round"] > 0
