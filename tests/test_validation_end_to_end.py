"""A real SuperLink: a canary, then a network trained on Rotterdam's patients, validated at GBSG by both ways."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from client.config.site import load_site
from client.governance.approval import approve
from server.operations.bundle import start_study
from server.operations.proxy import find_nginx
from shared_models.study_settings import parse_study_settings
from simulation.engines.rehearsal import Federation, rehearse
from simulation.splits import find_sites

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(find_nginx() is None, reason="nginx is not installed: apt-get install nginx-light"),
]
ROOT = Path(__file__).parents[1]
STUDY = "rotterdam"


def run(*words: str) -> str:
    done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def settings() -> dict[str, Any]:
    of_both = tomllib.loads((ROOT / "studies/rotterdam_gbsg.toml").read_text(encoding="utf-8"))
    return {**of_both, "study": STUDY, "sites": STUDY, "min-sites": 1}


def try_one_round(federation: Federation) -> None:
    """The canary of the study, before it: approved, trained for a round, and forgotten but for its verdict."""
    file, approved = federation.folder / "study.toml", federation.folder / "canary.toml"
    file.write_text(tomli_w.dumps(settings()), encoding="utf-8")
    words = ["server", "run", str(file), "--canary", "--directory", str(federation.center.directory)]
    run(*words, "--write", str(approved))
    page = run("client", "approve", str(approved), "--site", str(federation.sites[STUDY]), "--yes")
    assert "the center stores only whether each site works" in page
    assert f"{STUDY}: works" in run(*words, "--follow")
    folder = federation.center.results / f"{STUDY}-canary"
    assert sorted(path.name for path in folder.glob("[!.]*") if not path.name.startswith("audit")) == ["canary.json"]


def train_at_rotterdam(federation: Federation) -> None:
    config = parse_study_settings(settings())
    approve(load_site(federation.sites[STUDY]), config)
    federation.finish(start_study(federation.center, config)[0], config)


def validation_of(federation: Federation) -> dict[str, Any]:
    """The section of the study's results, without the time at which it was written."""
    results = json.loads((federation.center.results / STUDY / "results.json").read_text())
    return {key: value for key, value in results["external_validation"].items() if key != "finished"}


def test_both_ways_of_an_external_validation_give_the_same_figures(tmp_path: Path) -> None:
    data = Path(os.environ.get("FEDERATION_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not data.is_dir():
        pytest.skip(f"no real data: set FEDERATION_TEST_DATA (looked in {data})")
    files = [ROOT / f"site_configs/{name}.yaml" for name in (STUDY, "gbsg")]
    with rehearse(find_sites(files, data / "rotterdam_gbsg", tmp_path / "sites"), tmp_path) as federation:
        try_one_round(federation)
        train_at_rotterdam(federation)
        center, gbsg = ["--directory", str(federation.center.directory)], str(federation.sites["gbsg"])
        asked = tmp_path / "gbsg.toml"
        run("server", "validate", STUDY, "--sites", "gbsg", "--write", str(asked), *center)
        run("client", "approve", str(asked), "--site", gbsg, "--yes")
        run("server", "validate", STUDY, "--sites", "gbsg", "--follow", *center)
        over_the_protocol = validation_of(federation)
        received = federation.center.results / f"{STUDY}-validation" / "sites" / "gbsg.json"
        as_received = received.read_text()

        best, sent = federation.center.results / STUDY / "best.safetensors", tmp_path / "sent.json"
        printed = run("client", "validate", str(best), "--site", gbsg, "--out", str(sent))
        received.unlink()
        run("server", "validate", STUDY, "--file", str(sent), *center)
        by_hand = validation_of(federation)

    assert sent.read_text() == as_received
    assert by_hand == over_the_protocol
    (site,) = by_hand["sites"]
    figures = site["targets"]["recurrence"]
    assert figures["patients"] == 686
    assert 0.6 < figures["c_index_low"] < figures["c_index"] < figures["c_index_high"] < 0.8
    assert "686 patients" in printed or "patients 686" in printed
    report = (federation.center.results / STUDY / "report.html").read_text(encoding="utf-8")
    assert "gbsg" in report
