"""What left a site, and what it refused, as its own audit log says."""

from __future__ import annotations

import pytest
from flwr.app import ConfigRecord, RecordDict

from client.app import app
from client.config.site import load_site
from client.errors import SiteError
from client.governance.audit import audit_of, record_refused
from client.governance.chained_log import read
from client.governance.ledger import charges
from client.governance.policy_checks import ledger_of
from server.app import run_study
from shared_models.messages import claimed_round
from shared_models.study_settings import parse_study_settings
from simulation.engines.in_process_grid import InProcessGrid


def run(sites, settings):
    config = parse_study_settings(settings)
    return run_study(InProcessGrid(app, sites, config.to_flat()), config)


def test_every_reply_is_one_line_with_its_size_hash_and_epsilon(hospitals, small_study):
    sites = hospitals({"a": 80, "b": 90})
    run(sites, {**small_study, "rounds": 2, "privacy": "patient", "noise-multiplier": 4.0})
    site = load_site(sites["a"])
    lines = read(audit_of(site))
    assert [(line["message"], line["round"]) for line in lines] == [
        ("query.prepare", 0),
        ("train", 1),
        ("train", 2),
        ("evaluate.validation", 2),
        ("evaluate.test", lines[-1]["round"]),
    ]
    assert {line["event"] for line in lines} == {"sent"}
    assert len({line["sha256"] for line in lines}) == len(lines)
    trained = [line for line in lines if line["message"] == "train"]
    assert [line["epsilon"] for line in trained] == [line["epsilon"] for line in charges(ledger_of(site))]
    assert all(line["bytes"] > 100 and "model/safetensors" in line["parts"] for line in trained)
    assert lines[0]["epsilon"] == 0.0
    text = audit_of(site).read_text()
    assert not any(f"a-{number:04d}" in text for number in range(80))


def test_a_refusal_is_a_line_too(hospitals, small_study):
    sites = hospitals({"a": 80, "b": 90, "c": 70})
    with sites["c"].open("a") as file:
        file.write("policy: {tasks: [recurrence_mri]}\n")
    run(sites, {**small_study, "rounds": 1})
    lines = read(audit_of(load_site(sites["c"])))
    assert [line["event"] for line in lines] == ["refused"]
    assert lines[0]["why"] == "the site's own policy does not allow this study"


def test_a_refusal_is_noted_whatever_the_center_calls_its_study_and_its_round(hospitals):
    sites = hospitals({"a": 20})
    site = load_site(sites["a"])
    content = RecordDict({"values": ConfigRecord({"round": "first"})})
    record_refused(site, "\x1b[2J" + 100 * "x", "train", claimed_round(content), "why")
    (line,) = read(audit_of(site))
    assert (line["study"], line["round"], line["why"]) == (("[2J" + 100 * "x")[:64], 0, "why")


def test_what_cannot_be_noted_does_not_leave(hospitals, small_study, caplog):
    sites = hospitals({"a": 80, "b": 90, "c": 70})
    run(sites, {**small_study, "study": "first", "rounds": 1})
    log = audit_of(load_site(sites["c"]))
    log.write_text(log.read_text().replace('"round": 1', '"round": 9'))
    with pytest.raises(SiteError, match="line 2"):
        read(log)
    results = run(sites, {**small_study, "study": "second", "rounds": 1})
    assert "a record of the site is not as it was written" in caplog.text
    assert {site["site"] for site in results["sites"]} == {"a", "b"}


def test_a_refusal_because_of_the_ledger_itself_is_noted_and_the_results_say_why(hospitals, small_study):
    sites = hospitals({"a": 60, "b": 60, "c": 60})
    site = load_site(sites["c"])
    ledger_of(site).parent.mkdir(parents=True)
    ledger_of(site).write_text("not a ledger\n")
    results = run(sites, {**small_study, "rounds": 1, "privacy": "patient"})
    (line,) = [line for line in read(audit_of(site)) if line["message"] == "query.prepare"]
    assert (line["event"], line["epsilon"]) == ("refused", None)
    assert results["not_enrolled"] == {"c": line["why"]}
