"""Whole studies under differential privacy, in one process."""

from __future__ import annotations

import json
import resource
import signal
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import yaml
from opacus.accountants import RDPAccountant

from client.app import app
from client.config.policy import Limit
from client.config.site import load_site
from client.governance.audit import audit_of
from client.governance.chained_log import read
from client.governance.ledger import charges, spent
from client.governance.policy_checks import ledger_of
from server.app import run_study
from shared_models.study_settings import parse_study_settings
from simulation.__main__ import main
from simulation.cohort_options import cohort_writer
from simulation.engines.in_process_grid import InProcessGrid

POLICY = {"accountant": "rdp", "delta": 1e-3, "epsilon_ceiling": 50.0}


def allow(file, **policy):
    file.write_text(file.read_text() + yaml.safe_dump({"policy": {**POLICY, **policy}}))


def run(sites, settings, client_app=app):
    config = parse_study_settings({"privacy": "patient", "min-sites": 2, **settings})
    return run_study(InProcessGrid(client_app, sites, config.to_flat()), config)


def problems_of(results, site):
    """What a study's results say of a site, by the rounds in which it has one."""
    return {one["round"]: one["problems"][site] for one in results["rounds"] if site in one["problems"]}


def epsilon_of(history):
    accountant = RDPAccountant()
    accountant.history = history
    return accountant.get_epsilon(delta=1e-3)


def test_every_round_is_charged_and_later_studies_add_up(hospitals, small_study):
    sites = hospitals({"a": 80, "b": 90})
    for file in sites.values():
        allow(file)
    run(sites, {**small_study, "study": "first", "rounds": 3, "noise-multiplier": 2.0, "batch-size": 8})
    site = load_site(sites["a"])
    written = charges(ledger_of(site))
    assert [(line["study"], line["round"], line["steps"]) for line in written] == [("first", n, 6) for n in (1, 2, 3)]
    rate = written[0]["sample_rate"]
    assert written[-1]["epsilon"] == pytest.approx(epsilon_of([(2.0, rate, 18)]))
    run(sites, {**small_study, "study": "second", "rounds": 1, "noise-multiplier": 1.0, "batch-size": 8})
    limit = Limit(50.0, 1e-3, "rdp")
    both = spent(ledger_of(site), limit)
    assert both == pytest.approx(epsilon_of([(2.0, rate, 18), (1.0, rate, 6)]))
    assert both > epsilon_of([(1.0, rate, 6)]) + 0.3, "an accountant made anew for a study forgets the first"


def test_a_site_whose_budget_is_spent_stops_and_the_study_goes_on(hospitals, small_study):
    sites = hospitals({"a": 80, "b": 90, "c": 80})
    for name, file in sites.items():
        allow(file, epsilon_ceiling=3.0 if name == "c" else 50.0)
    results = run(sites, {**small_study, "rounds": 4, "noise-multiplier": 1.0, "batch-size": 8})
    spent_by_c = charges(ledger_of(load_site(sites["c"])))
    assert 1 <= len(spent_by_c) < 4
    assert spent_by_c[-1]["epsilon"] <= 3.0
    assert len(charges(ledger_of(load_site(sites["a"])))) == 4
    stopped = range(len(spent_by_c) + 1, 5)
    assert problems_of(results, "c") == dict.fromkeys(stopped, "the site's privacy budget is spent")
    assert all(one["counted"] == ["a", "b"] for one in results["rounds"] if one["round"] in stopped)
    assert json.dumps(results)


@pytest.mark.parametrize(
    ("policy", "settings"),
    [
        ({"differential_privacy": "required"}, {"privacy": "none"}),
        ({"minimum_noise": 2.0}, {"noise-multiplier": 1.0}),
        ({"maximum_rounds": 2}, {"rounds": 3}),
        ({"tasks": ["recurrence_mri"]}, {}),
        ({"modalities": ["mri"]}, {}),
    ],
)
def test_a_center_that_asks_for_more_than_a_site_allows_goes_on_without_it(hospitals, small_study, policy, settings):
    sites = hospitals({"a": 80, "b": 90, "strict": 80})
    for name, file in sites.items():
        allow(file, **(policy if name == "strict" else {}))
    results = run(sites, {**small_study, "rounds": 1, **settings})
    assert {site["site"] for site in results["sites"]} == {"a", "b"}
    strict = load_site(sites["strict"])
    (refused,) = read(audit_of(strict))
    assert (refused["event"], refused["why"]) == ("refused", "the site's own policy does not allow this study")
    assert charges(ledger_of(strict)) == []
    assert not (strict.state_dir / "splits").exists()


def test_a_damaged_ledger_stops_its_site_before_it_trains(hospitals, small_study):
    sites = hospitals({"a": 80, "b": 90, "c": 80})
    for file in sites.values():
        allow(file)
    run(sites, {**small_study, "study": "first", "rounds": 2})
    site = load_site(sites["c"])
    ledger = ledger_of(site)
    ledger.write_text("".join(ledger.read_text().splitlines(keepends=True)[:1]))
    before = ledger.read_bytes()
    results = run(sites, {**small_study, "study": "second", "rounds": 1})
    assert {row["site"] for row in results["sites"]} == {"a", "b"}
    of_second = [line for line in read(audit_of(site)) if line["study"] == "second"]
    assert [line["event"] for line in of_second] == ["refused"]  # and nothing of it left
    assert ledger.read_bytes() == before


@contextmanager
def truncated(ledger):
    ledger.write_text("")
    yield


@contextmanager
def edited(ledger):
    ledger.write_text(ledger.read_text().replace('"noise_multiplier": 2.0', '"noise_multiplier": 9.0'))
    yield


@contextmanager
def read_only(ledger):
    """No lock can be taken to write, whatever the rights: an administrator has them all."""
    lock = ledger.with_name(f"{ledger.name}.lock")
    lock.unlink()
    lock.mkdir()
    yield


@contextmanager
def full_disk(ledger):
    """No file grows beyond the ledger and half a line."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ledger.stat().st_size + 20, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


@contextmanager
def clock_set_back(ledger):
    now = time.time()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: now - 3 * 86_400)
        yield


DAMAGED = "a record that the site keeps is damaged: it takes no part until that is mended"
UNWRITABLE = "the site cannot write its records: it takes no part until that is mended"


@pytest.mark.parametrize(
    ("spoilt", "text"),
    [
        (truncated, DAMAGED),
        (edited, DAMAGED),
        (read_only, UNWRITABLE),
        (full_disk, UNWRITABLE),
        (clock_set_back, "the site's clock is wrong"),
    ],
)
def test_a_ledger_that_fails_in_mid_study_stops_its_site_and_the_study_goes_on(hospitals, small_study, spoilt, text):
    sites = hospitals({"a": 80, "b": 90, "c": 80})
    for file in sites.values():
        allow(file)
    site, as_it_was = load_site(sites["c"]), []
    ledger = ledger_of(site)

    def spoilt_at_c(message, context):
        where = Path(context.node_config["site-config"]), message.metadata.message_type, message.metadata.group_id
        if where != (sites["c"], "train", "2"):
            return app(message, context)
        with spoilt(ledger):
            as_it_was.append(ledger.read_bytes())
            return app(message, context)

    results = run(sites, {**small_study, "rounds": 2, "noise-multiplier": 2.0}, spoilt_at_c)
    assert problems_of(results, "c") == {2: text}
    assert [one["counted"] for one in results["rounds"]] == [["a", "b", "c"], ["a", "b"]]
    content = ledger.read_bytes()
    assert content.startswith(as_it_was[0]), "something of the ledger is lost"
    assert b"\n" not in content.removeprefix(as_it_was[0]), "a second charge, for a round that was not trained"
    trained = [line["round"] for line in read(audit_of(site)) if (line["event"], line["message"]) == ("sent", "train")]
    assert trained == [1]
    assert len(charges(ledger_of(load_site(sites["a"])))) == 2


TASKS = {
    "recurrence_mri": "mri: 8x16x16 at 8x4x4 mm",
    "subtype_histology": "",
    "receptors_dce_mri": "dce_mri: 12x24x24 at 4x4x4 mm",
    "relapse_mammogram": "",
    "receptors_brain_metastasis": "brain_mri: 8x8x8 at 4x4x4 mm",
}


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_all_five_tasks_train_privately(tmp_path, task):
    settings = [f"task={task}", "rounds=1", "privacy=patient", "noise-multiplier=1.0", "batch-size=4", "study=private"]
    settings += [f"results-dir={tmp_path / 'runs'}", f"grids={TASKS[task]}" if TASKS[task] else "min-sites=2"]
    cohort_writer(task)(tmp_path / "cohort", scale=0.15)
    assert main(["--synthetic", str(tmp_path / "cohort"), "--set", *settings]) == 0
    (ledger,) = (tmp_path / "cohort").glob("A/**/ledger/A.jsonl")
    assert [line["task"] for line in charges(ledger)] == [task]
    from server.study.weights.checkpoint import LAST, load_checkpoint

    weights = load_checkpoint(tmp_path / "runs" / "private" / LAST).model
    assert all(np.isfinite(array).all() for array in weights.values())
