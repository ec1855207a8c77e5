"""Whole studies with secure sums, in one process: what the center sees, sites that drop out, a center that cheats."""

from __future__ import annotations

import json
from collections.abc import Callable
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
from client.governance.policy import ledger_of
from server.app import run_study
from server.study.checkpoint import LAST, Checkpoint, load_checkpoint
from server.study.exchange import StudyError
from shared_models.features import FeatureStatistics
from shared_models.messages import MaskedReply, PrepareReply, Reply, TrainReply, TrainRequest
from shared_models.messages.arrays import unpack_arrays
from shared_models.messages.study import REQUESTS
from shared_models.metrics.arrays import total
from shared_models.secure_sum import Vector, pack_members, unpack_members
from shared_models.settings import SettingsError
from shared_models.study_settings import parse_study_settings
from simulation.engines.in_process_grid import InProcessGrid

Hospitals = Callable[..., dict[str, Path]]
Study = dict[str, Any]
REPLIES: dict[str, type[Reply]] = {request.KIND: request.REPLY for request in REQUESTS}
SECURE = {"secure-aggregation": True, "min-sites": 3}


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


@pytest.mark.parametrize("strategy", ["fedavg", pytest.param("fedprox", marks=pytest.mark.slow)])
def test_a_secure_study_is_the_plain_one(
    hospitals: Hospitals, small_study: Study, tmp_path: Path, strategy: str
) -> None:
    """Of hospitals so large that a plain study has no small cell of outcomes to merge, only of scores."""
    sites = hospitals({"a": 900, "b": 800, "c": 850, "d": 500}, evaluate_only=("d",))
    study = {**small_study, "min-sites": 3, "batch-size": 64, "strategy": strategy, "proximal-mu": 0.1}
    first: dict[str, np.ndarray] = {}

    def keep_first(node: int, kind: str, message: Message) -> Message:
        if kind == TrainRequest.KIND and not first:
            first.update(unpack_arrays(message.content.array_records["model"]))
        return message

    plain, before = run(sites, {**study, "results-dir": str(tmp_path / "plain")}, WatchedApp(keep_first))
    secure, after = run(sites, {**study, "results-dir": str(tmp_path / "secure"), **SECURE})
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
    assert [record["counted"] for record in secure["rounds"]] == [["a", "b", "c"]] * 3
    assert [site["patients"] for site in secure["sites"]] == [site["patients"] for site in plain["sites"]]


def test_nothing_of_one_site_reaches_the_center(hospitals: Hospitals, small_study: Study) -> None:
    sites = hospitals({"a": 80, "b": 60, "c": 70})
    app = WatchedApp()
    _, state = run(sites, {**small_study, **SECURE, "rounds": 1}, app)
    masked = []
    for node, kind, reply in app.replies:
        arrays = {name: unpack_arrays(record) for name, record in reply.content.array_records.items()}
        assert {name for name, found in arrays.items() if found} <= {"masked"}, (node, kind)
        if kind in REPLIES:
            sent = MaskedReply.unpack(reply.content, REPLIES[kind])
            assert repr(sent.shown) == repr(sent.shown.without_sums()), "what is summed is empty"
            if isinstance(sent.shown, PrepareReply):
                assert sent.shown.modalities == {"clinical": 1}, "yes or no"
            if isinstance(sent.shown, TrainReply):
                masked.append(Vector.unpack(sent.masked))
                assert (sent.shown.model, sent.shown.patients, sent.shown.validation) == ({}, 0, {})
                assert np.isnan(sent.shown.loss)
    assert len(masked) == 3
    for one in masked:
        bits = np.unpackbits(one.statistics.view(np.uint8))
        assert abs(bits.mean() - 0.5) < 5 * 0.5 / np.sqrt(len(bits)), "statistics look like chance"
    two = masked[0].plus(masked[1]).real()[0]  # neither does the sum of two sites open without the third
    names = sorted(state.model)
    true = np.concatenate([state.model[name].ravel() for name in names])
    assert abs(np.corrcoef(two[: len(true)], true)[0, 1]) < 0.9
    assert np.abs(two).max() > 1e6


@pytest.mark.parametrize(
    ("kind", "counted"),
    [
        ("query.keys", ["a", "b", "d", "e"]),
        ("query.shares", ["a", "b", "d", "e"]),
        ("train", ["a", "b", "d", "e"]),
        ("query.unmask", ["a", "b", "c", "d", "e"]),  # its part is in the sum already
    ],
)
def test_a_sum_survives_a_site_that_drops_out(
    hospitals: Hospitals, small_study: Study, tmp_path: Path, kind: str, counted: list[str]
) -> None:
    sites = hospitals({"a": 1000, "b": 1050, "c": 1100, "d": 1000, "e": 1020})
    small_study = {**small_study, "batch-size": 64}
    study = {**small_study, **SECURE, "rounds": 1}
    when = 0 if kind == "train" else 1  # the first of the others is before round 1
    results, after = run(sites, study, WatchedApp(drop_out(3, kind, when)))
    assert [record["counted"] for record in results["rounds"]] == [counted]
    others = {name: sites[name] for name in counted}
    plain = {**small_study, "rounds": 1, "min-sites": 3, "results-dir": str(tmp_path / "others")}
    # without c the plain study has other statistics; with the secure one's it would be the same
    if counted == sorted(sites):
        assert distance(run(others, plain)[1], after) < 1e-6
    else:
        assert {"c": "the site's process died"}.items() <= results["rounds"][0]["problems"].items()
        assert all(np.isfinite(array).all() and np.abs(array).max() < 100 for array in after.model.values())


def test_a_round_of_fewer_than_three_does_not_count_and_is_tried_again(
    hospitals: Hospitals, small_study: Study
) -> None:
    sites = hospitals({"a": 60, "b": 60, "c": 60})
    results, _ = run(sites, {**small_study, **SECURE, "rounds": 2}, WatchedApp(drop_out(2, "train", 1)))
    rounds = [(record["round"], record["attempt"], record["counted"]) for record in results["rounds"]]
    assert rounds == [(1, 1, ["a", "b", "c"]), (2, 1, []), (2, 2, ["a", "b", "c"])]
    assert results["rounds"][1]["problems"]["b"] == "the site's process died"


def test_a_blip_in_the_last_sum_does_not_cost_the_study_its_figures(hospitals: Hospitals, small_study: Study) -> None:
    sites = hospitals({"a": 60, "b": 60, "c": 60})
    results, _ = run(sites, {**small_study, **SECURE, "rounds": 1}, WatchedApp(drop_out(2, "evaluate.test")))
    tested = sum(site["patients"]["test"] for site in results["sites"])
    assert results["targets"]["recurrence"]["pooled"]["patients"] == tested > 0
    assert not results["problems"]


def test_weights_that_are_not_finite_leave_no_site(hospitals: Hospitals, small_study: Study) -> None:
    sites = hospitals({"a": 40, "b": 40, "c": 40})
    study = {**small_study, **SECURE, "rounds": 1, "round-attempts": 1, "optimizer": "sgd", "learning-rate": 1e30}
    with pytest.raises(StudyError, match="round 1 failed"):
        run(sites, {**study, "local-epochs": 5})
    lines = (sites["a"].parent / "state/a/audit.jsonl").read_text().splitlines()
    assert "not finite, or too large for a sum" in json.loads(lines[-1])["why"]


def test_two_sites_are_too_few(hospitals: Hospitals, small_study: Study) -> None:
    with pytest.raises(SettingsError, match="needs min_sites of 3 or more"):
        parse_study_settings({**small_study, "secure-aggregation": True})
    sites = hospitals({"a": 60, "b": 60})
    with pytest.raises(StudyError, match="only 2 of at least 3 sites"):
        run(sites, {**small_study, **SECURE})


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
    app = WatchedApp(drop_out(1, "query.keys", 2))  # of round 2
    results, last = run(sites, study, app)
    assert [record["counted"] for record in results["rounds"]] == [["a", "b", "c", "d"], ["b", "c", "d"]]
    sent = [m for _, kind, m in app.replies if kind == TrainRequest.KIND]
    assert len(sent) == 7
    first, _ = run(sites, {**study, "rounds": 1, "study": "small", "results-dir": study["results-dir"] + "-1"})
    assert first["rounds"][0]["counted"] == ["a", "b", "c", "d"]
    one = load_checkpoint(Path(study["results-dir"] + "-1") / "small" / LAST)
    for name in last.model:
        same = np.allclose(one.model[name], last.model[name], atol=1e-6)
        assert same == ("genomic" in name), name


def test_a_site_may_require_secure_sums(hospitals: Hospitals, small_study: Study) -> None:
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


def cheated(change: Callable[[dict[str, Any]], None], kind: str) -> Callable[[int, str, Message], Message]:
    """A center that changes what it asks of one kind, from the first training round on."""
    training = []

    def meddle(node: int, what: str, message: Message) -> Message:
        del node
        training.append(what == "query.keys" and message.content["values"]["purpose"] == "train")
        if what == kind and any(training):
            change(message.content["values"])
        return message

    return meddle


def lose_members(request: dict[str, Any]) -> None:
    request["members"] = pack_members(unpack_members(request["members"])[:2])


def put_own_keys(request: dict[str, Any]) -> None:
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    first, *others = unpack_members(request["members"])
    request["members"] = pack_members([replace(first, mask_key=pem), *others])


def open_one(request: dict[str, Any]) -> None:
    request["survivors"] = request["survivors"][:1]


def another_session(request: dict[str, Any]) -> None:
    request["session"] = "0" * 32


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("query.shares", lose_members),
        ("query.shares", put_own_keys),
        ("query.shares", another_session),
        ("train", another_session),
        ("query.unmask", open_one),
        ("query.unmask", another_session),
    ],
)
def test_a_center_that_cheats_gets_no_sum(
    hospitals: Hospitals, small_study: Study, kind: str, change: Callable[[dict[str, Any]], None]
) -> None:
    sites = hospitals({"a": 40, "b": 40, "c": 40})
    with pytest.raises(StudyError, match="round 1 failed 1 times"):
        run(sites, {**small_study, **SECURE, "round-attempts": 1}, WatchedApp(cheated(change, kind)))
    refused = [json.loads(line) for line in (sites["a"].parent / "state/a/audit.jsonl").read_text().splitlines()]
    assert any("secure sum was refused" in line.get("why", "") for line in refused)


class Asking(WatchedApp):
    """A center that asks node 1 the same thing twice."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.second: list[str] = []

    def __call__(self, message: Message, context: Context) -> Message:
        reply = super().__call__(message, context)
        if context.node_id == 1 and message.metadata.message_type == self.kind:
            try:
                client_app(message, context)
                self.second.append("answered")
            except RuntimeError as error:
                self.second.append(str(error))
        return reply


@pytest.mark.parametrize("kind", ["query.shares", "train", "query.unmask"])
def test_each_step_of_a_sum_is_answered_once(hospitals: Hospitals, small_study: Study, kind: str) -> None:
    """Two answers under one mask would show their difference."""
    app = Asking(kind)
    run(hospitals({"a": 40, "b": 40, "c": 40}), {**small_study, **SECURE, "rounds": 1}, app)
    assert app.second
    assert all("secure sum was refused" in said for said in app.second)


def test_a_site_takes_no_other_members_than_its_partners(
    hospitals: Hospitals, small_study: Study, tmp_path: Path
) -> None:
    """A simulated site signs nothing, so it is nobody's partner."""
    sites = hospitals({"a": 40, "b": 40, "c": 40, "d": 40})
    sites["a"].write_text(
        sites["a"].read_text() + yaml.safe_dump({"policy": {"partners": {"b": "b.pub", "c": "c.pub"}}})
    )
    for name in "bc":
        key = ec.generate_private_key(ec.SECP384R1()).public_key()
        form = (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        (sites["a"].parent / f"{name}.pub").write_bytes(key.public_bytes(*form))
    results, _ = run(sites, {**small_study, **SECURE, "rounds": 1})
    assert [site["site"] for site in results["sites"]] == ["b", "c", "d"]


def test_the_counts_behind_a_sum_are_exact() -> None:
    chance = np.random.default_rng(0)
    parts = [FeatureStatistics.of(chance.normal(1e6, 1.0, (50, 4))) for _ in range(5)]
    summed = [Vector.of(np.zeros(0), np.concatenate([p.known, p.total, p.squares])) for p in parts]
    together = summed[0]
    for one in summed[1:]:
        together = together.plus(one)
    expected = total(parts)
    found = FeatureStatistics(250.0, *np.split(together.real()[1], 3))
    np.testing.assert_allclose(found.variance, expected.variance, rtol=1e-3)


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
