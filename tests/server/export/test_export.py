"""Exported networks, computed by other programs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from client.__main__ import main as client_main
from server.__main__ import main
from server.export.export_folder import export
from server.export.onnx_file import runner, write_onnx
from server.export.predictor import Predictor, Standardisation, each_subset, example_inputs
from server.operations.center import Center
from server.operations.create import create_center
from shared_models.features import FeatureStatistics
from shared_models.messages import StudyStatistics
from shared_models.study_settings import StudySettings
from shared_models.task import load_task, task_names
from shared_models.trained_model import RESEARCH_ONLY, TrainedModel, read_model
from shared_models.trained_parts import build_network

QUICK = "recurrence_clinical"
SLOW = [name for name in task_names() if name != QUICK]


def trained(task: str) -> TrainedModel:
    """A network of a task with weights that are none at their start, and tables of gaps."""
    config = StudySettings(task=task)
    kind = load_task(config)
    network = build_network(kind, config)
    with torch.no_grad():
        rng = torch.Generator().manual_seed(0)
        for weight in network.parameters():
            weight.add_(torch.randn(weight.shape, generator=rng) * 0.1)
    rows = np.random.default_rng(0)
    tables = {name: rows.normal(50, 9, (40, len(table.columns))) for name, table in kind.tables.items()}
    for columns in tables.values():
        columns[:5, ::2] = np.nan
    statistics = StudyStatistics({name: FeatureStatistics.of(columns) for name, columns in tables.items()})
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    return TrainedModel(config, kind, 1, weights, statistics, {}, {}, (), "0.1.0", {})


def largest_difference(model: TrainedModel, file: Path) -> float:
    """Between onnxruntime and the network over all subsets of modalities, of patients whom the export has not seen."""
    predictor, run = Predictor(model), runner(file)
    worst = 0.0
    for inputs in each_subset(example_inputs(model, 5, seed=7)):
        wanted = [value.numpy() for value in predictor(*inputs)]
        worst = max(worst, *(float(np.abs(a - b).max()) for a, b in zip(run(inputs), wanted, strict=True)))
    return worst


@pytest.mark.parametrize("task", [QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_onnxruntime_predicts_as_the_network_on_every_subset_of_modalities(task: str, tmp_path: Path) -> None:
    model = trained(task)
    write_onnx(model, tmp_path)
    assert largest_difference(model, tmp_path / "model.onnx") < 1e-4


def test_the_network_standardises_tables_as_training_does() -> None:
    columns = np.array([[1.0, np.nan, 900.0], [np.nan, 2.0, 4.0], [3.0, 5.0, 6.0]], dtype=np.float32)
    statistics = FeatureStatistics.of(np.array([[1.0, 2.0, 3.0], [2.0, np.nan, 5.0], [4.0, 1.0, 8.0]]))
    standardised = Standardisation(statistics)(torch.from_numpy(columns)).numpy()
    np.testing.assert_allclose(standardised, statistics.standardise(columns), rtol=1e-6, atol=1e-6)


def test_what_a_center_exports_predicts_at_a_hospital(finished_study: Any, tmp_path: Path) -> None:
    center = tmp_path / "center"
    create_center(Center(center, "center.example.org:443", port=1))
    finished_study.folder.rename(center / "results" / "small")
    words = ["export", "small", "--format", "safetensors", "--out", str(tmp_path / "out"), "--directory", str(center)]
    assert main(words) == 0
    assert main(words) == 2  # the folder is there
    exported = read_model(tmp_path / "out" / "model.safetensors")
    assert exported.sha256 == read_model(center / "results" / "small" / "best.safetensors").sha256
    assert b"enrolled" not in (tmp_path / "out" / "model.safetensors").read_bytes()
    card = (tmp_path / "out" / "MODEL_CARD.md").read_text()
    assert RESEARCH_ONLY[1:] in card
    assert "| recurrence within 5 years |" in card
    assert "Apache License" in (tmp_path / "out" / "LICENSE").read_text()
    assert (
        json.loads((tmp_path / "out" / "inputs.json").read_text())["modalities"]["clinical"]["columns"][0]
        == "age_years"
    )
    site, out = str(finished_study.sites["elm"]), str(tmp_path / "p.csv")
    assert client_main(["predict", str(tmp_path / "out" / "model.safetensors"), "--site", site, "--out", out]) == 0


FILES = {"config_file": "configs/inference.json", "meta_file": "configs/metadata.json", "bundle_root": "."}
BY_FUNCTION = f"""
import sys
from monai.bundle import run
run(**{FILES!r})
assert not {{"client", "server", "shared_models"}} & sys.modules.keys()
"""
RUNS = {
    "function": ["-c", BY_FUNCTION],
    "command line": [
        "-m",
        "monai.bundle",
        "run",
        *(word for key, value in FILES.items() for word in (f"--{key}", value)),
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("how", RUNS.values(), ids=RUNS)
def test_a_monai_bundle_runs_in_a_process_without_this_package(how: list[str], tmp_path: Path) -> None:
    model = trained(QUICK)
    export(model, None, "monai-bundle", tmp_path / "bundle")
    expected = [value.numpy() for value in Predictor(model)(*example_inputs(model, 2))]
    command = [sys.executable, "-P", *how]
    completed = subprocess.run(command, cwd=tmp_path / "bundle", capture_output=True, text=True, env={}, check=True)
    (line,) = [line for line in completed.stdout.splitlines() if line.startswith("{")]
    for got, wanted in zip(json.loads(line).values(), expected, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-6)
