"""The files that a study leaves at a site and at the center, against the lists in docs/architecture.md."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.__main__ import main
from client.app import app
from client.config.site import load_site
from server.app import run_study
from shared_models.study_settings import StudySettings, parse_study_settings
from simulation.engines.in_process_grid import InProcessGrid

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"
STUDIES: list[dict[str, Any]] = [
    {"study": "private", "privacy": "patient", "noise-multiplier": 4.0},
    {"study": "adapted", "harmonisation": "combat", "harmonised": "clinical"},
]


def listed(table: str) -> set[str]:
    """First parts of the paths in the first column of a table of the page."""
    text = PAGE.read_text(encoding="utf-8").partition(f"<!-- {table} -->\n")[2].partition("\n\n")[0]
    cells = "".join(line.split("|")[1] for line in text.splitlines()[2:])
    return {path.partition("/")[0] for path in re.findall(r"`([^`]+)`", cells)}


def left(folder: Path) -> set[str]:
    """Names in a folder, without the `.head` and `.lock` beside a hash-chained file."""
    return {re.sub(r"(?<=\.jsonl)\.(head|lock)$", "", path.name) for path in folder.iterdir()}


@pytest.fixture
def run_studies(hospitals: Callable[..., dict[str, Path]], small_study: dict[str, Any]) -> dict[str, Path]:
    sites = hospitals({"a": 80, "b": 90})
    for chosen in STUDIES:
        config = parse_study_settings({**small_study, **chosen, "rounds": 1})
        run_study(InProcessGrid(app, sites, config.to_flat()), config)
    return sites


def test_the_files_of_a_site_and_of_a_study_are_those_of_the_page(
    run_studies: dict[str, Path], own_layers: tuple[dict[str, Path], StudySettings], small_study: dict[str, Any]
) -> None:
    main(["check", "--site", str(run_studies["a"])])
    state = load_site(run_studies["a"]).state_dir
    paths = left(state) | left(load_site(own_layers[0]["site_1"]).state_dir)
    assert paths <= listed("state_dir")
    assert {"splits", "cache", "harmonisation", "normalisation", "audit.jsonl", "readiness.html"} <= paths
    assert left(state.parent) == {"a", "ledger"}
    assert left(state.parent / "ledger") == {"a.jsonl"}
    paths = left(Path(small_study["results-dir"]) / "private")
    assert {"results.json", "last.safetensors", "audit.jsonl"} <= paths <= listed("results_dir")
