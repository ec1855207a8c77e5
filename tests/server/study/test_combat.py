"""A whole study whose sites are harmonised, on real files: one scanner measures in another unit than the others."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from client.cohort.load import load_cohort
from client.config.site import load_site
from client.governance.small_cells import suppress_small_cells
from server.study.weights.checkpoint import load_checkpoint
from shared_models.study_settings import parse_study_settings
from shared_models.task import load_task
from simulation.baselines.pooled_and_local import from_checkpoint, harmonised, measure
from simulation.engines.in_process import run_in_process

Study = dict[str, Any]
Hospitals = Callable[..., dict[str, Path]]
PATIENTS = {"a": 160, "b": 140, "outside": 120}


@pytest.fixture
def study(small_study: Study) -> Study:
    return {**small_study, "harmonisation": "combat", "harmonised": "clinical", "rounds": 5, "optimizer-state": "fresh"}


def run(sites: dict[str, Path], study: Study) -> dict[str, Any]:
    return run_in_process(sites, parse_study_settings(study))


def distort(sites: dict[str, Path], *names: str) -> None:
    """A gain of 2.5 and an offset on the tumours' size at some hospitals."""
    for name in names:
        file = sites[name].parent / "clinical.csv"
        table = pd.read_csv(file)
        table["size"] = 2.5 * table["size"] + 30
        table.to_csv(file, index=False)


def c_index(results: dict[str, Any], site: str) -> float:
    return next(row for row in results["sites"] if row["site"] == site)["targets"]["recurrence"]["c_index"]


def checkpoint(study: Study, name: str = "last") -> Any:
    return load_checkpoint(Path(study["results-dir"]) / "small" / f"{name}.safetensors")


def test_a_distorted_site_and_one_that_never_trains_are_brought_back(
    hospitals: Hospitals, study: Study, tmp_path: Path
) -> None:
    sites = hospitals(PATIENTS, evaluate_only=("outside",))
    runs = {name: {**study, "results-dir": str(tmp_path / name)} for name in ("clean", "harmonised", "distorted")}
    clean = run(sites, runs["clean"])
    distort(sites, "b", "outside")
    harmonised = run(sites, runs["harmonised"])
    distorted = run(sites, {**runs["distorted"], "harmonisation": "none"})
    pooled = {
        name: results["targets"]["recurrence"]["pooled"]["c_index"]
        for name, results in (("clean", clean), ("harmonised", harmonised), ("distorted", distorted))
    }
    assert pooled["harmonised"] == pytest.approx(pooled["clean"], abs=0.02)
    assert pooled["distorted"] < pooled["clean"] - 0.02
    for site in PATIENTS:
        assert c_index(harmonised, site) == pytest.approx(c_index(clean, site), abs=0.05)
    # up to rounding and shrinkage the network has learned the same of both
    one, other = (checkpoint(runs[name]).model for name in ("clean", "harmonised"))
    assert all(np.abs(one[name] - other[name]).max() < 0.05 for name in one)


def test_a_restarted_center_and_a_site_that_lost_its_disk_give_the_same_numbers(
    hospitals: Hospitals, study: Study, tmp_path: Path
) -> None:
    sites = hospitals({"a": 80, "b": 60})
    distort(sites, "b")
    whole = run(sites, {**study, "results-dir": str(tmp_path / "whole")})
    run(sites, {**study, "rounds": 2})
    before = checkpoint(study)
    folder = sites["b"].parent / "state" / "b"
    assert list((folder / "harmonisation").iterdir()) == [folder / "harmonisation" / "small.safetensors"]
    shutil.rmtree(folder / "harmonisation")
    shutil.rmtree(folder / "cache")
    resumed = run(sites, {**study, "resume": True})
    for part in ("validation", "targets", "best_round"):
        assert resumed[part] == whole[part]
    for one, other in zip(resumed["sites"], whole["sites"], strict=True):
        assert one | {"scorings": 1} == other | {"scorings": 1}  # the same numbers of two networks' files
    after = checkpoint(study)
    names = {name for name in after.statistics if name.startswith("harmonisation.")}
    assert names == {"harmonisation.clinical.mean", "harmonisation.clinical.variance"}
    for name, array in before.statistics.items():
        np.testing.assert_array_equal(array, after.statistics[name])
    # age and size; the receptor's two columns are categories
    assert (after.statistics["harmonisation.clinical.variance"] > 0).tolist() == [True, True, False, False]


def test_a_comparison_scores_the_network_on_what_the_sites_made_of_their_tables(
    hospitals: Hospitals, study: Study
) -> None:
    sites = hospitals({"a": 300, "b": 260, "outside": 200}, evaluate_only=("outside",))
    distort(sites, "b", "outside")
    results, config = run(sites, study), parse_study_settings(study)
    task = load_task(config)
    cohorts = [load_cohort(load_site(file), task, config) for file in sites.values()]
    trained = from_checkpoint(checkpoint(study, "best"), task, config)
    metrics = measure(trained, harmonised(cohorts, task, config), task)
    for site, file in sites.items():  # a site tells its exact value in steps
        sent = suppress_small_cells(metrics[site], load_site(file).policy.minimum_count)
        assert c_index(results, site) == pytest.approx(sent["c_index"], abs=1e-6)
