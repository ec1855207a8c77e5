"""A site's own result: exact figures and predictions of its patients, in files that stay and that only it may read."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from client.app import app
from client.config.site import load_site
from client.governance.small_cells import suppress_small_cells
from client.site_result.files import METRICS, NETWORK, PAGE, PREDICTIONS, folder_of
from server.app import run_study
from server.study.weights.checkpoint import load_checkpoint
from shared_models.metrics.summary import site_metrics
from shared_models.study_settings import parse_study_settings
from shared_models.task import load_task
from simulation.engines.in_process_grid import InProcessGrid


@pytest.mark.report
def test_a_site_keeps_exact_figures_predictions_and_the_network_that_was_tested(
    hospitals: Callable[..., dict[str, Path]], small_study: dict[str, Any]
) -> None:
    config = parse_study_settings({**small_study, "rounds": 1})
    sites = hospitals({"a": 150, "b": 150})
    text = sites["b"].read_text(encoding="utf-8").replace("size_mm: size", "size_mm: {column: size, scale: 0.1}")
    sites["b"].write_text(text, encoding="utf-8")
    results = run_study(InProcessGrid(app, sites, config.to_flat()), config)
    site = load_site(sites["a"])
    folder = folder_of(site.state_dir, "small")

    rows = list(csv.DictReader((folder / PREDICTIONS).read_text().splitlines()))
    own = next(one for one in results["sites"] if one["site"] == "a")
    assert len(rows) == own["patients"]["test"]
    table = {row["id"]: row for row in csv.DictReader((sites["a"].parent / "clinical.csv").read_text().splitlines())}
    assert all(float(table[row["patient"]]["days"]) == float(row["recurrence, days"]) for row in rows)
    target = load_task(config).targets["recurrence"]
    risk = np.array([float(row["recurrence, risk within 1826.25 days"]) for row in rows])
    truth = np.array([[float(row[f"recurrence, {one}"]) for one in ("days", "event")] for row in rows])
    exact = site_metrics(target, risk, truth, results["targets"]["recurrence"]["threshold"], config.seed)
    page = (folder / PAGE).read_text()
    figures = dict(re.findall(r'<th scope="row">([^<]+)</th><td class="number">([^<]+)</td>', page))
    assert float(figures["C-index"]) == pytest.approx(exact["c_index"], abs=1e-12)
    assert len(figures["C-index"]) > 6
    assert own["targets"]["recurrence"]["c_index"] == suppress_small_cells(exact, 10)["c_index"] != exact["c_index"]
    curves = json.loads((folder / METRICS).read_text())["recurrence"]
    had_it = (truth[:, 0] <= target.horizon_days) & (truth[:, 1] == 1)
    assert set(np.flatnonzero(curves["risk_with_outcome"])) == set((risk[had_it] * 50).astype(int))
    assert curves["c_index"] == exact["c_index"]
    shown = set(re.findall(r'<figure id="figure-([^"]+)"', page))
    assert {f"{name}_recurrence" for name in ("curves", "calibration", "net_benefit", "risk_groups")} < shown
    assert "Unlike the other hospitals" in page  # b measures in cm
    sent = dict(re.findall(r'<th scope="row">([\w.]+)</th><td class="number">(\d+)</td>', page))
    assert sent["train"] == "1"

    with safe_open(folder / NETWORK, framework="numpy") as file:
        facts = json.loads(file.metadata()["model"])
        weights = {name.removeprefix("model:"): file.get_tensor(name) for name in file.keys() if "model:" in name}  # noqa: SIM118
    best = load_checkpoint(Path(config.results_dir) / "small" / "best.safetensors")
    assert facts["round"] == best.round
    assert all(np.array_equal(weights[name], array) for name, array in best.model.items())
    assert all((folder / name).stat().st_mode & 0o077 == 0 for name in (PAGE, METRICS, PREDICTIONS, NETWORK))
    assert not any(patient in json.dumps(results) for patient in table)
    assert not any(patient in page for patient in table)


def test_a_result_that_cannot_be_written_takes_nothing_from_the_study(
    hospitals: Callable[..., dict[str, Path]], small_study: dict[str, Any]
) -> None:
    config = parse_study_settings({**small_study, "rounds": 1})
    sites = hospitals({"a": 60, "b": 60})
    state = load_site(sites["a"]).state_dir
    state.mkdir(parents=True, exist_ok=True)
    (state / "studies").write_text("in the way")
    results = run_study(InProcessGrid(app, sites, config.to_flat()), config)
    assert results["problems"] == {}
