"""Whole studies under differential privacy, in one process."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from opacus.accountants import RDPAccountant

from client.app import app
from client.privacy.ledger import Limit, charges, spent
from client.privacy.policy import ledger_of
from client.site import load_site
from server.app import run_study
from shared_models.run_config import parse_run_config
from simulation.__main__ import cohort_writer, main
from simulation.grid import InProcessGrid

POLICY = {"accountant": "rdp", "delta": 1e-3, "epsilon_ceiling": 50.0}


def allow(file, **policy):
    file.write_text(file.read_text() + yaml.safe_dump({"policy": {**POLICY, **policy}}))


def run(sites, settings):
    config = parse_run_config({"privacy": "patient", "min-sites": 2, **settings})
    return run_study(InProcessGrid(app, sites, config.to_flat()), config)


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


def test_a_site_whose_budget_is_spent_stops_and_the_study_goes_on(hospitals, small_study, caplog):
    sites = hospitals({"a": 80, "b": 90, "c": 80})
    for name, file in sites.items():
        allow(file, epsilon_ceiling=3.0 if name == "c" else 50.0)
    results = run(sites, {**small_study, "rounds": 4, "noise-multiplier": 1.0, "batch-size": 8})
    spent_by_c = charges(ledger_of(load_site(sites["c"])))
    assert 1 <= len(spent_by_c) < 4
    assert spent_by_c[-1]["epsilon"] <= 3.0
    assert len(charges(ledger_of(load_site(sites["a"])))) == 4
    assert "the site's privacy budget is spent" in caplog.text
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
def test_a_center_that_asks_for_more_than_a_site_allows_goes_on_without_it(
    hospitals, small_study, caplog, policy, settings
):
    sites = hospitals({"a": 80, "b": 90, "strict": 80})
    for name, file in sites.items():
        allow(file, **(policy if name == "strict" else {}))
    run(sites, {**small_study, "rounds": 1, **settings})
    assert "the site's own policy does not allow this study" in caplog.text
    assert charges(ledger_of(load_site(sites["strict"]))) == []
    strict = load_site(sites["strict"]).state_dir
    assert not (strict / "splits").exists()


def test_a_damaged_ledger_stops_its_site_before_it_trains(hospitals, small_study, caplog):
    sites = hospitals({"a": 80, "b": 90, "c": 80})
    for file in sites.values():
        allow(file)
    run(sites, {**small_study, "study": "first", "rounds": 2})
    ledger = ledger_of(load_site(sites["c"]))
    ledger.write_text("".join(ledger.read_text().splitlines(keepends=True)[:1]))
    before = ledger.read_bytes()
    run(sites, {**small_study, "study": "second", "rounds": 1})
    assert "a record that the site keeps is damaged" in caplog.text
    assert ledger.read_bytes() == before


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
    from server.checkpoint import LAST, load_checkpoint

    weights = load_checkpoint(tmp_path / "runs" / "private" / LAST).model
    assert all(np.isfinite(array).all() for array in weights.values())
