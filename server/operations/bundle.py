"""Flower bundle (FAB) of a study: its settings, and no code.

A Flower App Bundle is put first on a hospital's `sys.path`, so a bundle with code would run the center's code on the
hospital's patients. Ours holds one `pyproject.toml`; every party runs the packages it has installed itself.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w
from flwr.cli.build import build_fab_from_files

from server.operations.center import Center
from server.operations.superlink import start_run
from server.study.audit import note

if TYPE_CHECKING:
    from shared_models.study_settings import StudySettings

PUBLISHER = "breast-federation"
COMPONENTS = {"serverapp": "server.app:app", "clientapp": "client.app:app"}
LONGEST_APP_NAME = 32  # Flower's limit


def start_study(center: Center, config: StudySettings, **links: str | int) -> tuple[int, Path]:
    """Writes a study's bundle and starts a run of it.

    Args:
        center: Where.
        config: The study.
        links: Recorded of the run: which one it resumes.

    Returns:
        The run's number, and the bundle's folder.
    """
    folder = write_bundle(center, config)
    content = pack(folder)
    digest = hashlib.sha256(content).hexdigest()
    note(center.results, {"event": "start", "study": config.study, "bytes": len(content), "sha256": digest})
    run_id = start_run(center, content, digest)
    line = {"run-id": str(run_id), "study": config.study, "bundle": folder.name, "rounds": config.rounds, **links}
    with (center.directory / "runs.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    return run_id, folder


def write_bundle(center: Center, config: StudySettings) -> Path:
    """Makes `bundles/<study>-<time>/` with a `pyproject.toml` and nothing else."""
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    folder = center.directory / "bundles" / f"{config.study}-{moment}"
    folder.mkdir(mode=0o700, parents=True)
    file = str(Path(config.initial_weights_file).resolve()) if config.initial_weights_file else ""
    settings = config.model_copy(update={"results_dir": str(center.results), "initial_weights_file": file})
    (folder / "pyproject.toml").write_text(tomli_w.dumps(_project(settings)), encoding="utf-8")
    return folder


def pack(folder: Path) -> bytes:
    """The bundle as it travels: the one file, whatever else may lie in its folder."""
    return build_fab_from_files({"pyproject.toml": folder / "pyproject.toml"})[0]


def recorded_runs(center: Center) -> dict[str, dict[str, Any]]:
    """What was asked of each run, by its number."""
    file = center.directory / "runs.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return {record["run-id"]: record for record in map(json.loads, lines)}


def _project(config: StudySettings) -> dict[str, Any]:
    return {
        "project": {
            "name": app_name(config.study),
            "version": version("breast-federation"),
            "description": f"Settings of the study {config.study}; the code is each party's own",
            "license": "Apache-2.0",
        },
        "tool": {"flwr": {"app": {"publisher": PUBLISHER, "components": COMPONENTS, "config": config.to_flat()}}},
    }


def app_name(study: str) -> str:
    """The study's name as Flower takes it for an app: a letter first, then letters, digits and `-`, 32 in all."""
    name = re.sub(r"[^A-Za-z0-9-]", "-", study)
    return (name if name[0].isalpha() else f"study-{name}")[:LONGEST_APP_NAME]
