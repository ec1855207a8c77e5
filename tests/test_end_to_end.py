"""A real center and real hospitals over TLS: a study with processes killed on the way, and a secure one."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from client.config.site import load_site
from client.governance.approval import approvals
from server.operations.bundle import recorded_runs
from server.operations.proxy import find_nginx
from server.study.weights.checkpoint import describe
from shared_models.study_settings import parse_study_settings
from simulation.engines.in_process import run_in_process
from simulation.engines.rehearsal import Federation, rehearse

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(find_nginx() is None, reason="nginx is not installed: apt-get install nginx-light"),
]

Hospitals = Callable[..., dict[str, Path]]


def descendants(pid: int) -> dict[int, str]:
    """Process number and command line of every process below `pid`."""
    parents: dict[int, int] = {}
    commands: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "stat").read_text().rpartition(")")[2].split()
            commands[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            parents[int(folder.name)] = int(status[1])
        except OSError:
            continue
    processes, frontier = {}, {pid}
    while frontier:
        frontier = {child for child, parent in parents.items() if parent in frontier}
        processes |= {child: commands[child] for child in frontier}
    return processes


def kill(federation: Federation, name: str, program: str) -> None:
    """kill -9 of a program under one of the federation's commands."""
    victims = [pid for pid, line in descendants(federation.processes[name].pid).items() if program in line]
    assert victims, f"{program} does not run under {name}"
    for pid in victims:
        os.kill(pid, signal.SIGKILL)


def wait_for_round(federation: Federation, study: str, number: int) -> None:
    deadline = time.monotonic() + 300
    while (describe(federation.center.results, study) or {"round": -1})["round"] < number:
        assert time.monotonic() < deadline, f"round {number} did not come"
        time.sleep(0.2)


def without_time(results: dict[str, Any]) -> str:
    timeless = {key: results[key] for key in ("targets", "validation", "best_round", "rounds_completed")}
    own = ("fingerprint", "scorings")  # of a state folder: its key of fingerprints, its count of scorings
    timeless["sites"] = [{key: value for key, value in site.items() if key not in own} for site in results["sites"]]
    return json.dumps(timeless, sort_keys=True)


def test_a_study_survives_a_killed_supernode_and_a_killed_superlink_and_a_secure_one_equals_its_simulation(
    hospitals: Hospitals, small_study: dict[str, Any], tmp_path: Path
) -> None:
    sites = hospitals({"a": 90, "b": 60, "c": 70, "outside": 50}, evaluate_only=("outside",))
    study = {**small_study, "rounds": 4, "sites": "a,b,c,outside", "min-sites": 2, "join-timeout-s": 120.0}
    study |= {"secure-aggregation": False}  # of three sites none may be lost in a sum
    config = parse_study_settings(study)
    secure = {**study, "study": "secure", "rounds": 1, "secure-aggregation": True, "min-sites": 3}
    quiet = parse_study_settings(secure)
    simulated = run_in_process(sites, parse_study_settings({**secure, "results-dir": str(tmp_path / "runs")}))
    folder = tmp_path / "rehearsal"
    folder.mkdir()
    for name, file in sites.items():  # from here on, each adds up with the owners of these keys alone
        partners = {other: str(folder / "keys" / f"{other}.pub") for other in sites if other != name}
        file.write_text(file.read_text() + yaml.safe_dump({"policy": {"partners": partners}}))
    with rehearse(sites, folder) as federation:
        run_id = federation.begin(config)
        wait_for_round(federation, config.study, 1)
        kill(federation, "b", "supernode_process")
        wait_for_round(federation, config.study, 2)
        kill(federation, "center", "flower-superlink")
        results = federation.finish(run_id, config)

        assert results["rounds_completed"] == 4
        assert {site["site"]: site["role"] for site in results["sites"]} == {
            **dict.fromkeys("abc", "train"),
            "outside": "evaluate",
        }
        missed = Counter(site for record in results["rounds"] for site in record["problems"])
        # A site whose reply was on its way when the SuperLink was killed misses that one round.
        assert all(times == 1 for site, times in missed.items() if site != "b"), missed

        undisturbed = federation.finish(federation.begin(quiet), quiet)

    assert undisturbed["rounds"][0]["counted"] == ["a", "b", "c"]
    assert without_time(undisturbed) == without_time(simulated)


@pytest.mark.slow
def test_a_study_whose_process_dies_is_resumed_by_itself_and_equals_its_simulation(
    hospitals: Hospitals, small_study: dict[str, Any], tmp_path: Path
) -> None:
    sites = hospitals({"a": 60, "b": 60})
    study = {**small_study, "sites": "a,b", "rounds": 3, "join-timeout-s": 120.0}
    config = parse_study_settings(study)
    simulated = run_in_process(sites, parse_study_settings({**study, "results-dir": str(tmp_path / "runs")}))
    folder = tmp_path / "rehearsal"
    folder.mkdir()
    with rehearse(sites, folder) as federation:
        run_id = federation.begin(config)
        wait_for_round(federation, config.study, 1)
        kill(federation, "center", "flwr-serverapp")
        results = federation.finish(run_id, config)
        runs = recorded_runs(federation.center)
    assert [record.get("resumes") for record in runs.values()] == [None, str(run_id)]
    assert without_time(results) == without_time(simulated)


@pytest.mark.slow
@pytest.mark.parametrize("several", [{"folds": 2}, {"leave-out": "each"}])
def test_folds_are_one_run_of_one_approved_study_and_equal_their_simulation(
    hospitals: Hospitals, small_study: dict[str, Any], tmp_path: Path, several: dict[str, Any]
) -> None:
    sites = hospitals({"a": 120, "b": 100, "c": 110})
    study = {**small_study, **several, "rounds": 1, "sites": "a,b,c", "min-sites": 2, "join-timeout-s": 120.0}
    config = parse_study_settings(study)
    simulated = run_in_process(sites, config.model_copy(update={"results_dir": str(tmp_path / "runs")}))
    folder = tmp_path / "rehearsal"
    folder.mkdir()
    with rehearse(sites, folder) as federation:
        results = federation.finish(federation.begin(config), config)
        approved = {name: approvals(load_site(file)) for name, file in federation.sites.items()}
    assert without_time(results) == without_time(simulated)
    assert [fold["targets"] for fold in results["folds"]] == [fold["targets"] for fold in simulated["folds"]]
    assert {name: [*lines] for name, lines in approved.items()} == {name: ["small"] for name in "abc"}
