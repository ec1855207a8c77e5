"""Whole studies with secure aggregation, in one process: what the center sees, sites that drop out or cheat."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from client.__main__ import main as check_site
from client.app import app as client_app
from client.config.site import load_site
from client.errors import ExitCode
from client.governance.ledger import charges
from client.governance.partners import node_key
from client.governance.policy_checks import ledger_of
from client.governance.secure_aggregation import dealing
from client.governance.secure_aggregation.sum_session import Session
from server.app import run_study
from server.study.exchange import StudyError
from server.study.secure_aggregation import secure_exchange
from server.study.secure_aggregation.secure_exchange import StudySums
from server.study.secure_aggregation.summing import Opened
from server.study.weights.checkpoint import LAST, Checkpoint, load_checkpoint
from shared_models.fingerprint import fingerprint
from shared_models.messages import EvaluateTestRequest, MaskedReply, PrepareReply, Reply, TrainReply, TrainRequest
from shared_models.messages.arrays import pack_arrays, unpack_arrays
from shared_models.messages.requests import REQUESTS
from shared_models.secure_aggregation import wire
from shared_models.settings import SettingsError
from shared_models.study_settings import parse_study_settings
from simulation.engines.budgets import begin_budgets
from simulation.engines.in_process import run_in_process
from simulation.engines.in_process_grid import InProcessGrid

Hospitals = Callable[..., dict[str, Path]]
Study = dict[str, Any]
BEFORE, AFTER = ["query.enrol", "query.deal"], ["query.confirm", "query.open"]
REPLIES: dict[str, type[Reply]] = {
    request.KIND: request.REPLY
    for request in REQUESTS
    if request.KIND != "query.weights"  # of studies with a file
}
SECURE = {"secure-aggregation": "on", "min-sites": 3}


class WatchedApp(ClientApp):
    """The real ClientApp; `meddle(node, kind, message)` may change a message or fail, `replies` keeps the answers."""

    def __init__(self, meddle: Callable[[int, str, Message], Message] = lambda node, kind, message: message) -> None:
        super().__init__()
        self.meddle = meddle
        self.replies: list[tuple[int, str, Message]] = []

    def __call__(self, message: Message, context: Context) -> Message:
        kind = message.metadata.message_type
        reply = client_app(self.meddle(context.node_id, kind, message), context)
        self.replies.append((context.node_id, kind, reply))
        return reply


def drop_out(node: int, kind: str, after: int = 0) -> Callable[[int, str, Message], Message]:
    """One node dies at its `after`-th message of one kind, and only then."""
    seen = iter(range(10_000))

    def meddle(at: int, what: str, message: Message) -> Message:
        if (at, what) == (node, kind) and next(seen) == after:
            msg = "the site's process died"
            raise RuntimeError(msg)
        return message

    return meddle


def run(sites: dict[str, Path], study: Study, app: ClientApp = client_app) -> tuple[dict[str, Any], Checkpoint]:
    config = parse_study_settings(study)
    results = run_study(InProcessGrid(app, sites, config.to_flat()), config)
    return results, load_checkpoint(Path(config.results_dir) / config.study / LAST)


def distance(one: Checkpoint, other: Checkpoint) -> float:
    """Norm of the difference of two models over the norm of the first."""
    names = sorted(one.model)
    flat = [np.concatenate([state.model[name].ravel() for name in names]) for state in (one, other)]
    return float(np.linalg.norm(flat[0] - flat[1]) / np.linalg.norm(flat[0]))


def with_genes(file: Path) -> None:
    """Gives a hospital a second modality."""
    genes = "modalities:\n  genomic: {reader: table, features: {ESR1: size}}"
    file.write_text(file.read_text().replace("modalities:", genes))


KI67_SITE = """
site: {name}
data_root: .
state_dir: state
tables: {{clinical: {{file: clinical.csv, patient_id: id}}}}
modalities: {{radiomics: {{reader: table, features: {{age: age, size: size}}}}}}
targets:
  er: {{label: {{column: er, codes: {{"-": 0, "+": 1}}}}}}
{more}
"""


def test_of_a_target_that_too_few_hospitals_know_no_sum_is_opened(
    hospitals: Hospitals, small_study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others would add zeros, and the sum would be those hospitals' own numbers."""
    sums: list[Opened] = []
    plain = secure_exchange.reply_of

    def seen(opened: Opened, request: Any) -> Any:
        sums.append(opened)
        return plain(opened, request)

    monkeypatch.setattr(secure_exchange, "reply_of", seen)
    sites = hospitals({"a": 60, "b": 60, "c": 60, "d": 60})
    for name, file in sites.items():
        more = "  ki67_percent: {label: {column: days}}" if name in "ab" else ""
        file.write_text(KI67_SITE.format(name=name, more=more))
    chosen = {"modalities": "radiomics", "features": "radiomics: age, size", "targets": "er, ki67_percent"}
    common = {key: small_study[key] for key in ("test-fraction", "join-timeout-s", "results-dir")}
    study = {**common, **SECURE, **chosen, "study": "known", "task": "receptors_dce_mri", "rounds": 1}
    results, _ = run(sites, study)
    shown = {name for one in sums for group in one.blocks for name in one.layout.statistics.get(group, {})}
    assert {"validation.er.within_site.cases", "test.er.within_site.cases", "counts.er"} <= shown
    assert not any("ki67" in name for name in shown)
    (trained,) = (one for one in sums if one.view.message == "train")
    updates, _ = trained.layout.named("train", trained.blocks["train"])
    moved = {name: float(np.abs(array).max()) for name, array in updates.items() if name.startswith("heads.")}
    assert moved["heads.er.weight"] > 0
    assert moved["heads.ki67_percent.weight"] == 0, "its head would be these hospitals' alone"
    assert results["targets"]["ki67_percent"]["internal"]["patients"] == 0


@pytest.mark.parametrize("strategy", ["fedavg", pytest.param("fedprox", marks=pytest.mark.slow)])
def test_a_secure_study_is_the_plain_one(
    hospitals: Hospitals, small_study: Study, tmp_path: Path, strategy: str
) -> None:
    """Of hospitals so large that a plain study has no small cell of outcomes to merge, only of scores."""
    sites = hospitals({"a": 900, "b": 800, "c": 850, "d": 500}, evaluate_only=("d",))
    study = {**small_study, "min-sites": 3, "batch-size": 64, "strategy": strategy, "proximal-mu": 0.1}
    study["rounds"] = 2
    first: dict[str, np.ndarray] = {}

    def keep_first(node: int, kind: str, message: Message) -> Message:
        if kind == TrainRequest.KIND and not first:
            first.update(unpack_arrays(message.content.array_records["model"]))
        return message

    plain, before = run(sites, {**study, "results-dir": str(tmp_path / "plain")}, WatchedApp(keep_first))
    app = WatchedApp()
    secure, after = run(sites, {**study, "results-dir": str(tmp_path / "secure"), **SECURE}, app)
    steps = [kind for index, (_, kind, _) in enumerate(app.replies) if not index or app.replies[index - 1][1] != kind]
    rounds = [*BEFORE, "query.prepare", *AFTER, "train", *AFTER, "train", *AFTER, "evaluate.validation", *AFTER]
    assert steps == [*rounds, *BEFORE, "evaluate.test", *AFTER], "five exchanges, then three; d is new in the last sum"
    assert distance(before, after) < 1e-6
    update = replace(before, model={name: array - first[name] for name, array in before.model.items()})
    error = {name: array - after.model[name] for name, array in before.model.items()}
    assert distance(update, replace(update, model={n: u - error[n] for n, u in update.model.items()})) < 1e-5
    for name, array in before.statistics.items():
        np.testing.assert_allclose(after.statistics[name], array, rtol=1e-14, err_msg=name)
    fine, merged = (results["targets"]["recurrence"]["pooled"] for results in (secure, plain))
    assert [fine[name] for name in ("patients", "events")] == [merged[name] for name in ("patients", "events")]
    if secure["best_round"] == plain["best_round"]:
        assert abs(fine["c_index"] - merged["c_index"]) <= fine["c_index_bound"] + merged["c_index_bound"]
    assert [record["counted"] for record in secure["rounds"]] == [["a", "b", "c"]] * 2
    assert [site["patients"] for site in secure["sites"]] == [site["patients"] for site in plain["sites"]]


def test_nothing_of_one_site_reaches_the_center(hospitals: Hospitals, small_study: Study) -> None:
    sites = hospitals({"a": 80, "b": 60, "c": 70})
    app = WatchedApp()
    run(sites, {**small_study, **SECURE, "rounds": 1}, app)
    masked = []
    for node, kind, reply in app.replies:
        arrays = {name: unpack_arrays(record) for name, record in reply.content.array_records.items()}
        assert {name for name, values in arrays.items() if values} <= {"masked"}, (node, kind)
        if kind in REPLIES:
            sent = MaskedReply.unpack(reply.content, REPLIES[kind])
            assert repr(sent.shown) == repr(sent.shown.without_sums()), "what is summed is empty"
            if isinstance(sent.shown, PrepareReply):
                assert sent.shown.modalities == {"clinical": 1}, "yes or no"
            if isinstance(sent.shown, TrainReply):
                masked.append(sent.message)
                assert (sent.shown.model, sent.shown.patients, sent.shown.validation) == ({}, 0, {})
                assert np.isnan(sent.shown.loss)
    assert len(masked) == 3
    for message in masked:
        groups = ("train", "train.recurrence", "clinical", "validation", "validation.recurrence")
        assert set(message) == {"control", *(f"block/{group}" for group in groups)}
        blocks = {name for name in set(message) - {"control"} if message[name]}
        assert blocks == {"block/train", "block/clinical", "block/validation.recurrence"}
        for name in blocks:
            bits = np.unpackbits(np.frombuffer(message[name], np.uint8))
            assert abs(bits.mean() - 0.5) < 5 * 0.5 / np.sqrt(len(bits)), "it looks like chance"


@pytest.mark.parametrize("kind", ["query.enrol", "query.deal", "train"])
def test_a_sum_survives_a_site_that_drops_out(hospitals: Hospitals, small_study: Study, kind: str) -> None:
    sites = hospitals({"a": 50, "b": 45, "c": 60, "d": 55})
    results, after = run(sites, {**small_study, **SECURE, "rounds": 1}, WatchedApp(drop_out(3, kind)))
    assert [(record["attempt"], record["counted"]) for record in results["rounds"]] == [(1, ["a", "b", "d"])]
    assert "the site's process died" in {**results["not_enrolled"], **results["rounds"][0]["problems"]}["c"]
    assert all(np.isfinite(array).all() and np.abs(array).max() < 100 for array in after.model.values())


def test_a_site_that_drops_out_after_it_has_answered_is_in_the_sum(
    hospitals: Hospitals, small_study: Study, tmp_path: Path
) -> None:
    sites = hospitals({"a": 50, "b": 45, "c": 60, "d": 55})
    study = {**small_study, **SECURE, "rounds": 1}
    ends = []
    for kind in ("", "query.confirm", "query.open"):
        config = {**study, "results-dir": str(tmp_path / f"without {kind}")}
        begin_budgets(sites, parse_study_settings(config))
        results, after = run(sites, config, WatchedApp(drop_out(3, kind, 1)))  # of round 1
        assert [(record["attempt"], record["counted"]) for record in results["rounds"]] == [(1, ["a", "b", "c", "d"])]
        assert not {**results["not_enrolled"], **results["rounds"][0]["problems"]}
        ends.append(after)
    assert distance(ends[0], ends[1]) < 1e-9
    assert distance(ends[0], ends[2]) < 1e-9


def test_a_round_of_fewer_than_three_does_not_count_and_is_tried_again(
    hospitals: Hospitals, small_study: Study
) -> None:
    sites = hospitals({"a": 60, "b": 60, "c": 60})
    results, _ = run(sites, {**small_study, **SECURE, "rounds": 2}, WatchedApp(drop_out(2, "train", 1)))
    rounds = [(record["round"], record["attempt"], record["counted"]) for record in results["rounds"]]
    assert rounds == [(1, 1, ["a", "b", "c"]), (2, 1, []), (2, 2, ["a", "b", "c"])]
    assert "the site's process died" in results["rounds"][1]["problems"]["b"]


def test_a_blip_in_the_last_sum_does_not_cost_the_study_its_figures(hospitals: Hospitals, small_study: Study) -> None:
    sites = hospitals({"a": 60, "b": 60, "c": 60})
    results, _ = run(sites, {**small_study, **SECURE, "rounds": 1}, WatchedApp(drop_out(2, "evaluate.test")))
    tested = sum(site["patients"]["test"] for site in results["sites"])
    assert results["targets"]["recurrence"]["pooled"]["patients"] == tested > 0
    assert not results["problems"]


def test_weights_that_are_not_finite_count_as_no_change_and_a_study_of_such_sites_alone_says_so(
    hospitals: Hospitals, small_study: Study
) -> None:
    """A refusal would tell the center something of one site's patients; that no weight changed, it sees in the sum."""
    sites = hospitals({"a": 40, "b": 40, "c": 40})
    study = {**small_study, **SECURE, "rounds": 1, "optimizer": "sgd", "learning-rate": 1e30, "local-epochs": 5}
    with pytest.raises(StudyError, match="diverged in round 1: no site has weights that are finite"):
        run(sites, study)
    assert not any(refused_by(site) for site in sites.values())
    assert max(step["altered"] for step in steps_of(sites["a"]) if step["exchange"] == "answer") > 0


def steps_of(site: Path) -> list[dict[str, Any]]:
    """What a site's audit log says of secure aggregation."""
    lines = map(json.loads, (site.parent / "state" / site.stem / "audit.jsonl").read_text().splitlines())
    return [line["secure_aggregation"] for line in lines if line["event"] == "sum"]


def refused_by(site: Path) -> list[str]:
    """Why a site refused messages."""
    lines = map(json.loads, (site.parent / "state" / site.stem / "audit.jsonl").read_text().splitlines())
    return [line["why"] for line in lines if line["event"] == "refused"]


def test_two_sites_are_too_few(hospitals: Hospitals, small_study: Study) -> None:
    with pytest.raises(SettingsError, match="needs min_sites of 3 or more"):
        parse_study_settings({**small_study, "secure-aggregation": "on"})
    sites = hospitals({"a": 60, "b": 60})
    with pytest.raises(StudyError, match="only 2 of at least 3 sites"):
        run(sites, {**small_study, **SECURE})


def test_a_site_that_tests_alone_shows_its_own_metrics_and_no_more(hospitals: Hospitals, small_study: Study) -> None:
    """One site hides no other's statistics, and is asked for its part of no sum."""
    sites, app = hospitals({"a": 60, "b": 60, "c": 60, "d": 120}, evaluate_only=("d",)), WatchedApp()
    results, _ = run(sites, {**small_study, **SECURE, "rounds": 1, "test-fraction": 0.0}, app)
    of_d = next(site for site in results["sites"] if site["site"] == "d")
    assert 0 < of_d["targets"]["recurrence"]["c_index"] <= 1
    assert results["targets"]["recurrence"]["external"]["patients"] == 0
    tested = [reply for _, kind, reply in app.replies if kind == "evaluate.test"]
    assert [REPLIES["evaluate.test"].unpack(reply.content).external for reply in tested] == [{}] * len(tested)


def test_a_study_that_resumes_with_more_rounds_still_tests_a_site_that_does_not_train(
    hospitals: Hospitals, small_study: Study
) -> None:
    """Its settings are others to the sites, which then hold no roster of the run before."""
    sites = hospitals({"a": 60, "b": 60, "c": 60, "d": 120}, evaluate_only=("d",))
    study = {**small_study, **SECURE, "test-fraction": 0.0}
    run(sites, {**study, "rounds": 1})
    results, _ = run(sites, {**study, "rounds": 2, "resume": True})
    assert [entry["round"] for entry in results["rounds"]][-1] == 2
    assert next(site for site in results["sites"] if site["site"] == "d")["targets"]["recurrence"]["c_index"] > 0


def test_a_center_that_nobody_has_enrolled_at_tries_again_and_takes_no_test_for_one_without_a_sum(
    small_study: Study, tmp_path: Path
) -> None:
    """As one that was started again, whose sites are back a moment later."""
    config = parse_study_settings({**small_study, **SECURE, "results-dir": str(tmp_path), "round-attempts": 2})
    (tmp_path / config.study).mkdir(exist_ok=True)
    sums = StudySums(InProcessGrid(client_app, {}, config.to_flat()), config)
    request = EvaluateTestRequest(round=1, model={}, statistics={}, thresholds={})
    answers, total = sums.exchange(["a", "b", "c"], request, "")
    assert not total
    assert sums._attempts[request.KIND, 1] == 2
    assert all("there is no sum" in answer.problem or "not connected" in answer.problem for answer in answers)


def test_a_modality_that_two_sites_have_is_named_before_round_1(hospitals: Hospitals, small_study: Study) -> None:
    sites = hospitals({"a": 60, "b": 60, "c": 60, "d": 60})
    with_genes(sites["a"])
    with_genes(sites["b"])
    features = small_study["features"] + "\ngenomic: ESR1"
    with pytest.raises(StudyError, match="fewer have genomic"):
        run(sites, {**small_study, **SECURE, "features": features})


def test_an_encoder_stays_as_it_was_while_fewer_than_three_have_its_modality(
    hospitals: Hospitals, small_study: Study
) -> None:
    sites = hospitals({"a": 60, "b": 60, "c": 60, "d": 60})
    for name in "abc":
        with_genes(sites[name])
    study = {**small_study, **SECURE, "features": small_study["features"] + "\ngenomic: ESR1", "rounds": 2}
    study |= {"wire": "float32"}
    drops = drop_out(1, "train", 1)  # in round 2
    sent: dict[int, dict[str, np.ndarray]] = {}

    def record(node: int, kind: str, message: Message) -> Message:
        if kind == TrainRequest.KIND:
            sent[int(message.content["values"]["round"])] = unpack_arrays(message.content.array_records["model"])
        return drops(node, kind, message)

    results, last = run(sites, study, WatchedApp(record))
    assert [record["counted"] for record in results["rounds"]] == [["a", "b", "c", "d"], ["b", "c", "d"]]
    for name in last.model:
        assert np.array_equal(sent[2][name], last.model[name]) == ("genomic" in name), name
        assert not np.array_equal(sent[1][name], sent[2][name]) or "absent" in name, name


def test_a_site_may_require_secure_aggregation(hospitals: Hospitals, small_study: Study) -> None:
    sites = hospitals({"a": 60, "b": 60, "c": 60})
    sites["c"].write_text(sites["c"].read_text() + "policy: {secure_aggregation: required}\n")
    results, _ = run(sites, {**small_study, "rounds": 1})
    assert [site["site"] for site in results["sites"]] == ["a", "b"]
    results, _ = run(sites, {**small_study, **SECURE, "rounds": 1, "study": "secure"})
    assert [site["site"] for site in results["sites"]] == ["a", "b", "c"]


def test_privacy_is_charged_in_a_secure_study_too(hospitals: Hospitals, small_study: Study) -> None:
    sites = hospitals({"a": 80, "b": 80, "c": 80})
    for file in sites.values():
        file.write_text(file.read_text() + "policy: {accountant: rdp}\n")  # the faster one
    study = {**small_study, **SECURE, "rounds": 2, "privacy": "patient", "noise-multiplier": 2.0}
    results, _ = run(sites, study)
    assert results["rounds_completed"] == 2
    assert [line["round"] for line in charges(ledger_of(load_site(sites["a"])))] == [1, 2]


def of_node(node: int, kind: str, change: Callable[[Message], None]) -> Callable[[int, str, Message], Message]:
    """A center that changes one kind of message to one site."""

    def meddle(at: int, what: str, message: Message) -> Message:
        if (at, what) == (node, kind):
            changed = deepcopy(message.content)  # the others' may be the same object
            message.content = changed
            change(message)
        return message

    return meddle


def nudge_model(message: Message) -> None:
    """The next float in one weight."""
    model = unpack_arrays(message.content.array_records["model"])
    name = max(model, key=lambda name: model[name].size)
    model[name] = np.nextafter(model[name], np.float32(9), dtype=np.float32)
    message.content["model"] = pack_arrays(model)


def take_sum_away(message: Message) -> None:
    """Asks outside of the sum."""
    for name in ("content", "attempt"):
        del message.content["values"][name]


def other_number(message: Message) -> None:
    values = message.content["values"]
    control = wire.parse(values["content"])
    values["content"] = wire.canonical({**control, "sum": control["sum"] + 1})


@pytest.mark.parametrize(
    ("kind", "change", "reason"),
    [
        ("train", nudge_model, "it saw something else than the others"),
        ("train", take_sum_away, "outside of secure aggregation"),
        ("train", other_number, "secure aggregation refused"),
    ],
)
def test_a_site_that_is_asked_something_else_than_the_others_is_left_out_by_name(
    hospitals: Hospitals, small_study: Study, kind: str, change: Callable[[Message], None], reason: str
) -> None:
    sites = hospitals({"a": 40, "b": 40, "c": 40, "d": 40})
    results, _ = run(sites, {**small_study, **SECURE, "rounds": 1}, WatchedApp(of_node(2, kind, change)))
    assert [record["counted"] for record in results["rounds"]] == [["a", "c", "d"]]
    assert reason in results["rounds"][0]["problems"]["b"]


def test_the_secrets_of_a_sum_are_in_no_file_of_a_site(hospitals: Hospitals, small_study: Study) -> None:
    sites = hospitals({"a": 40, "b": 40, "c": 40})
    secrets: set[bytes] = set()

    class Looking(WatchedApp):
        def __call__(self, message: Message, context: Context) -> Message:
            reply = super().__call__(message, context)
            for record in context.state.config_records.values():
                for packed in record.values() if "session" in record else ():
                    known = Session.unpack(packed).sums.values()
                    secrets.update(secret for one in known for secret in (one.mask_key, *one.seeds.values()))
            return reply

    run(sites, {**small_study, **SECURE, "rounds": 1}, Looking())
    assert len(secrets) > 20
    files = [file.read_bytes() for file in (sites["a"].parent / "state").rglob("*") if file.is_file()]
    assert len(files) > 3
    assert not [s for s in secrets for text in files if s in text or s.hex().encode() in text]


class Asking(WatchedApp):
    """A center that asks node 1 everything twice."""

    def __init__(self) -> None:
        super().__init__()
        self.both: list[tuple[str, dict[str, Any], dict[str, Any]]] = []

    def __call__(self, message: Message, context: Context) -> Message:
        reply = super().__call__(message, context)
        if context.node_id == 1:
            again = client_app(message, context)
            self.both.append((message.metadata.message_type, fingerprint(reply.content), fingerprint(again.content)))
        return reply


def test_the_same_message_gets_the_same_answer(hospitals: Hospitals, small_study: Study) -> None:
    """Two answers under one mask would show their difference."""
    app = Asking()
    run(hospitals({"a": 40, "b": 40, "c": 40}), {**small_study, **SECURE, "rounds": 1}, app)
    assert {kind for kind, *_ in app.both} == {*BEFORE, *REPLIES, *AFTER}
    assert [kind for kind, first, second in app.both if first != second] == []


def public_keys(sites: dict[str, Path], *names: str) -> dict[str, str]:
    """Writes some sites' public keys as files beside the sites; their names."""
    form = (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    for name in names:
        line = node_key(load_site(sites[name])).public_key().public_bytes(*form)
        for site in sites.values():
            (site.parent / f"{name}.pub").write_bytes(line)
    return {name: f"{name}.pub" for name in names}


def with_policy(site: Path, **policy: Any) -> None:
    site.write_text(site.read_text() + yaml.safe_dump({"policy": policy}))


def test_keys_that_came_from_the_partners_themselves_are_verified(hospitals: Hospitals, small_study: Study) -> None:
    sites = hospitals({"a": 40, "b": 40, "c": 40})
    for name, site in sites.items():
        with_policy(site, partners=public_keys(sites, *(set(sites) - {name})), secure_aggregation="required")
    results, _ = run(sites, {**small_study, **SECURE, "rounds": 1})
    assert [record["counted"] for record in results["rounds"]] == [["a", "b", "c"]]
    assert results["privacy"]["sites_with_unverified_keys"] == []
    assert {step["verified"] for step in steps_of(sites["a"]) if step["exchange"] == "open"} == {True}
    sites["c"].write_text(sites["c"].read_text().partition("policy:")[0])
    results, _ = run(sites, {**small_study, **SECURE, "rounds": 1, "study": "unverified"})
    assert results["privacy"]["sites_with_unverified_keys"] == ["c"]
    assert "c took other sites' public keys from the center" in results["privacy"]["said"]


def test_a_site_takes_no_other_members_than_its_partners(hospitals: Hospitals, small_study: Study) -> None:
    sites = hospitals({"a": 40, "b": 40, "c": 40, "d": 40})
    with_policy(sites["a"], partners=public_keys(sites, "b", "c"))
    results, _ = run(sites, {**small_study, **SECURE, "rounds": 1})
    assert [site["site"] for site in results["sites"]] == ["b", "c", "d"]
    assert "is not one of policy.partners" in refused_by(sites["a"])[0]


def test_a_hostile_site_is_named_and_the_study_ends_well(hospitals: Hospitals, small_study: Study) -> None:
    sites = hospitals({"a": 40, "b": 40, "c": 40, "d": 40})

    class Hostile(WatchedApp):
        """Node 4 sends envelopes that do not open."""

        def __call__(self, message: Message, context: Context) -> Message:
            if (context.node_id, message.metadata.message_type) != (4, "query.deal"):
                return super().__call__(message, context)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(dealing, "seal", lambda *_: os.urandom(400))
                return super().__call__(message, context)

    results, _ = run(sites, {**small_study, **SECURE, "rounds": 1}, Hostile())
    assert [record["counted"] for record in results["rounds"]] == [["a", "b", "c"]]
    assert "the shares that it dealt do not reach the others" in {**results["not_enrolled"]}["d"]


def test_a_simulation_may_be_run_again_and_a_center_may_not(hospitals: Hospitals, small_study: Study) -> None:
    sites = hospitals({"a": 40, "b": 40, "c": 40, "d": 40})
    study = {**small_study, **SECURE, "rounds": 1, "round-attempts": 1}
    run(sites, study)
    with pytest.raises(StudyError, match="more than the site has approved"):
        run({name: sites[name] for name in "abc"}, {**study, "overwrite": True})
    results = run_in_process({name: sites[name] for name in "abc"}, parse_study_settings({**study, "overwrite": True}))
    assert [site["site"] for site in results["sites"]] == ["a", "b", "c"]


def test_the_check_finds_a_partners_key_that_cannot_be_used(
    hospitals: Hospitals, capsys: pytest.CaptureFixture[str]
) -> None:
    site = hospitals({"a": 40})["a"]
    site.write_text(site.read_text() + "policy: {partners: {b: keys/b.pub}}\n")
    words = ["check", "--site", str(site)]
    assert check_site(words) == ExitCode.CREDENTIALS
    assert "a partner's public key cannot be used" in capsys.readouterr().out
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    (site.parent / "keys").mkdir()
    line = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    (site.parent / "keys" / "b.pub").write_bytes(line)
    assert check_site(words) == ExitCode.OK
    assert "in secure aggregation with b, and no other site" in capsys.readouterr().out
