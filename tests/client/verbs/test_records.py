"""The verbs `ledger`, `audit` and `accept-clock`, as a data manager runs them."""

from __future__ import annotations

import json
import logging
import time
from datetime import UTC, datetime, timedelta

import pytest

from client.__main__ import main
from client.app import app
from client.config.site import load_site
from client.connection.supervisor import claim
from client.errors import ExitCode
from client.governance import chained_log
from client.governance.audit import audit_of
from client.governance.chained_log import read
from client.governance.policy_checks import ledger_of
from client.verbs.status import _connection
from server.app import run_study
from server.study.exchange import StudyError
from shared_models.log_files import log_file
from shared_models.study_settings import parse_study_settings
from simulation.engines.in_process_grid import InProcessGrid


@pytest.fixture
def site_file(hospitals, small_study):
    sites = hospitals({"a": 80, "b": 90})
    settings = {**small_study, "rounds": 2, "privacy": "patient", "noise-multiplier": 4.0}
    config = parse_study_settings(settings)
    run_study(InProcessGrid(app, sites, config.to_flat()), config)
    return sites["a"]


def test_the_ledger_shows_what_was_spent_and_the_ceiling(site_file, capsys):
    assert main(["ledger", "--site", str(site_file)]) == 0
    output = capsys.readouterr().out
    last = read(ledger_of(load_site(site_file)))[-1]
    assert f"epsilon {last['epsilon']:.2f} of 8 spent at delta 0.0001" in output
    assert "small" in output
    assert "2 charges, unbroken" in output


def test_the_audit_shows_every_message_and_that_the_chain_is_whole(site_file, capsys):
    assert main(["audit", "--site", str(site_file)]) == 0
    output = capsys.readouterr().out
    lines = read(audit_of(load_site(site_file)))
    assert f"{len(lines)} lines, unbroken" in output
    assert lines[1]["sha256"][:8] in output


def test_a_line_that_was_removed_is_found(site_file, capsys):
    log = audit_of(load_site(site_file))
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[:1] + lines[2:]))
    assert main(["audit", "--site", str(site_file)]) == ExitCode.DATA
    assert "line 2" in capsys.readouterr().err


def test_before_the_first_study_there_is_nothing(hospitals, capsys):
    file = hospitals({"a": 80})["a"]
    assert main(["ledger", "--site", str(file)]) == 0
    assert main(["audit", "--site", str(file)]) == 0
    output = capsys.readouterr().out
    assert "epsilon 0.00 of 8" in output
    assert "0 lines, unbroken" in output


def test_a_person_may_say_that_the_clock_is_right(site_file, monkeypatch, capsys):
    ledger = ledger_of(load_site(site_file))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 10 * 86_400)
    assert main(["accept-clock", "--site", str(site_file)]) == 0
    assert read(ledger)[-1]["event"] == chained_log.CLOCK_SET
    assert main(["ledger", "--site", str(site_file)]) == 0
    assert "2 charges" in capsys.readouterr().out


def test_a_check_verifies_the_records_and_holds_the_study_against_the_policy(site_file, small_study, tmp_path, capsys):
    import tomli_w

    study = tmp_path / "study.toml"
    study.write_text(tomli_w.dumps({**small_study, "rounds": 3}))
    main(["check", "--site", str(site_file), "--study", str(study)])
    output = capsys.readouterr().out
    assert "5 lines of what left, unbroken" in output
    assert "policy  allows small: recurrence_clinical, 3 rounds, without noise" in output
    site_file.write_text(site_file.read_text() + "policy: {maximum_rounds: 2}\n")
    assert main(["check", "--site", str(site_file), "--study", str(study)]) == ExitCode.STUDY
    assert "3 rounds, at most 2" in capsys.readouterr().out


def test_a_new_key_of_another_hospital_is_accepted_once_a_person_says_so(hospitals, small_study, capsys):
    sites = hospitals({"a": 40, "b": 40, "c": 40})
    secure = {**small_study, "rounds": 1, "secure-aggregation": "on", "min-sites": 3}

    def run(study):
        config = parse_study_settings({**secure, "study": study})
        return run_study(InProcessGrid(app, sites, config.to_flat()), config)

    run("first")
    (load_site(sites["c"]).state_dir / "simulated_node_key").unlink()
    with pytest.raises(StudyError, match="came with another key than before"):
        run("second")
    for name in "ab":
        assert main(["accept-key", "c", "--site", str(sites[name])]) == 0
    assert "c: key SHA256:" in capsys.readouterr().out
    assert run("third")["rounds"][0]["counted"] == ["a", "b", "c"]
    assert main(["accept-key", "d", "--site", str(sites["a"])]) == ExitCode.USAGE
    assert "there is no key of d to forget" in capsys.readouterr().err


def test_the_status_tells_the_last_message_what_left_today_and_what_is_left(site_file, capsys):
    site = load_site(site_file)
    assert main(["status", "--site", str(site_file)]) == 0
    output = capsys.readouterr().out
    last = read(ledger_of(site))[-1]
    assert "it does not run: python -m client --site a" in output
    assert f"epsilon {last['epsilon']:.2f} of 8 spent, {8 - last['epsilon']:.2f} left" in output
    assert "small: evaluate.test of round" in output
    with claim(site.state_dir):
        (site.state_dir / "logs").mkdir(exist_ok=True)
        lines = ["08:00:00,123 * joined the center as node 7; waiting for work", "08:01:00,001 Flower says this"]
        lines += ["08:02:00,001 * round 1: asked to train"]
        (site.state_dir / "logs" / "supernode.log").write_text("".join(f"2026-11-28 {line}\n" for line in lines))
        assert main(["status", "--json", "--site", str(site_file)]) == 0
    output = json.loads(capsys.readouterr().out)
    assert output["connected_since"] == "2026-11-28 08:00:00"
    sent = [line for line in read(audit_of(site)) if line["event"] == "sent"]
    assert (output["sent_today"], output["bytes_today"]) == (len(sent), sum(line["bytes"] for line in sent))
    assert output["state_bytes"] > output["cache_bytes"] > 0


def test_the_status_reads_a_log_of_json_lines_too(tmp_path):
    path = tmp_path / "supernode.log"
    handler = log_file(path, logging.Formatter(), as_json=True)
    before = datetime.now(UTC).replace(microsecond=0)
    for text in ("* joined the center as node 7", "INFO :      * of Flower", "* round 1:\nasked to train"):
        handler.emit(logging.LogRecord("supernode", logging.INFO, "", 0, text, None, None))
    handler.close()
    with path.open("a") as file:
        file.write('{"time": "2026-')  # the disk was full
    since, message = _connection(path)
    assert timedelta() <= datetime.fromisoformat(since).astimezone() - before < timedelta(seconds=60)
    assert message == "round 1:\nasked to train"
