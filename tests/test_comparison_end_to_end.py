"""Comparison of two networks, SHAP and permutation importance over a real SuperLink: as the same in this process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.app import app as client_app
from server.app import run_study
from server.operations.proxy import find_nginx
from server.study.results.results_file import read_results
from shared_models.comparison import comparison_settings
from shared_models.study_settings import StudySettings, parse_study_settings
from shared_models.trained_model import read_model
from simulation.engines.in_process import run_in_process
from simulation.engines.in_process_grid import InProcessGrid
from simulation.engines.rehearsal import rehearse

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(find_nginx() is None, reason="nginx is not installed: apt-get install nginx-light"),
]
STUDIES = {"first": {"importance": "shap"}, "second": {"features": "clinical: er{negative|positive}"}}


def run(*words: str) -> str:
    done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def compare_in_process(runs: Path, sites: dict[str, Path], **changed: Any) -> None:
    first, second = (read_model(runs / study / "best.safetensors") for study in STUDIES)
    own = {"results_dir": str(runs), **changed}
    config = comparison_settings(first, second, sorted(sites)).model_copy(update=own)
    run_study(InProcessGrid(client_app, sites, config.to_flat()), config)


@pytest.mark.parametrize("secure", ["off", "on"])
def test_a_comparison_and_shapley_values_are_those_of_the_simulation(
    hospitals: Callable[..., dict[str, Path]], small_study: dict[str, Any], tmp_path: Path, secure: str
) -> None:
    sites, runs = hospitals({"a": 150, "b": 140, "c": 130}), tmp_path / "runs"
    shared = {"outcome": "binary", "rounds": 2, "sites": "a,b,c", "secure-aggregation": secure, "min-sites": 3}
    studies: dict[str, StudySettings] = {}
    for study, own in STUDIES.items():
        values = {**small_study, **shared, **own, "study": study, "join-timeout-s": 120.0}
        studies[study] = parse_study_settings({key: value for key, value in values.items() if key != "results-dir"})
        run_in_process(sites, studies[study].model_copy(update={"results_dir": str(runs)}))
    compare_in_process(runs, sites, join_timeout_s=1.0)

    folder = tmp_path / "rehearsal"
    folder.mkdir()
    with rehearse(sites, folder) as federation:
        for config in studies.values():
            federation.finish(federation.begin(config), config)
        center, asked = ["--directory", str(federation.center.directory)], folder / "compare.toml"
        run("server", "compare", *STUDIES, "--write", str(asked), *center)
        for file in federation.sites.values():
            page = run("client", "approve", str(asked), "--site", str(file), "--yes")
            assert "no weights leave: nothing is trained here" in page
        run("server", "compare", *STUDIES, "--follow", *center)
        deployed = read_results(federation.center.results / "first" / "results.json")

    simulated = read_results(runs / "first" / "results.json")
    (row,) = deployed.comparisons
    assert deployed.comparisons == simulated.comparisons
    assert row.p is not None
    assert row.by_site.keys() == ({"the sum of a, b, c"} if secure == "on" else {"a", "b", "c"})
    used = deployed.targets["recurrence"].importance["internal"]
    assert used == simulated.targets["recurrence"].importance["internal"]
    explained = {one.feature: one.explained for one in used if one.mean_shap is not None}
    if secure == "on":  # without, a site with few test patients of an outcome withholds them
        assert explained.keys() == {"age_years", "size_mm", "er"}
        assert min(explained.values()) > 50
    sent = "\n".join(path.read_text() for path in (federation.center.results / "first").glob("*.json*"))
    assert not any(f"{site}-0" in sent for site in sites), "no identifier reaches the center"
